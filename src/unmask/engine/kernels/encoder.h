// The network between token ids and hidden states, post-LN, over packed texts.
#pragma once

#include <cstdint>
#include <vector>

#include "attention.h"
#include "pool.h"
#include "product.h"

namespace unmask {

struct Norm {
    Buffer weight, bias;
};

struct Layer {
    Linear products[4];  // query, key and value in one; attention's output; up; down
    Norm norms[2];       // behind attention; behind the feed-forward
};

struct Encoder {
    int hidden, heads, wide;
    float eps;
    Format attention;
    std::vector<Layer> layers;
    // Owned by the caller: (rows, hidden) floats each.
    const float *word = nullptr, *position = nullptr, *type = nullptr;
    Norm norm;
};

// One packed batch. Ids have been checked by the caller.
struct Batch {
    const int64_t *ids, *positions, *types;  // (tokens); types may be null
    const int64_t* starts;                   // (texts + 1)
    int texts;
    const int64_t* needed;  // places whose last hidden states are wanted; null: all
    int num_needed;
    float* out;     // (num_needed or tokens, hidden)
    float* states;  // (layers + 1, tokens, hidden), or null
};

// All memory that a pass needs; it grows to the largest batch seen.
struct Room {
    struct Block {
        Buffer left, scales, sums, residual, wide;
    };
    Buffer hidden, qkv, context;
    std::vector<Block> blocks;
    std::vector<AttentionRoom> heads;
};

void encode(const Encoder& encoder, const Batch& batch, Pool& pool, Room& room);

}  // namespace unmask
