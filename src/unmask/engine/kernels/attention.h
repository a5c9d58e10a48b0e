// One head of one text: softmax(Q K' / sqrt(size)) V (Vaswani et al. 2017, equation 1).
#pragma once

#include "product.h"
#include "tiles.h"

namespace unmask {

// Room for one head of one text; one for each thread.
struct AttentionRoom {
    Buffer keys, values, left, scores;
};

// Queries, keys and values of one head: the first row of each in floats, `stride` floats a row.
struct Head {
    const float *query, *key, *value;
    long stride;
    int length, size;
};

// Writes the context of each token, `stride` floats a row. Products are float or bfloat16, the softmax is float.
void attend(Format format, const Head& head, float* context, long stride, AttentionRoom& room);

}  // namespace unmask
