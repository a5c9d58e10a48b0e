// What Python calls: plain C, so that one file serves every version of Python and torch. All return 0, or an error.
#include <cstring>
#include <exception>
#include <memory>
#include <mutex>

#include "encoder.h"

namespace {

struct Engine {
    unmask::Encoder encoder;
    unmask::Room room;
    std::unique_ptr<unmask::Pool> pool;
    std::mutex one_at_a_time;
};

void set(unmask::Norm& norm, const float* weight, const float* bias, int size) {
    std::memcpy(norm.weight.as<float>(size), weight, sizeof(float) * size);
    std::memcpy(norm.bias.as<float>(size), bias, sizeof(float) * size);
}

template <typename Call>
int guarded(Call&& call) {
    try {
        call();
        return 0;
    } catch (const std::bad_alloc&) {
        return 1;
    } catch (const std::exception&) {
        return 2;
    }
}

}  // namespace

#pragma GCC visibility push(default)
extern "C" {

int unmask_create(int layers, int hidden, int heads, int wide, float eps, int attention, int threads, void** made) {
    return guarded([&] {
        auto engine = std::make_unique<Engine>();
        engine->encoder = {hidden, heads, wide, eps, unmask::Format(attention), {}, nullptr, nullptr, nullptr, {}};
        engine->encoder.layers.resize(layers);
        engine->pool = std::make_unique<unmask::Pool>(threads);
        *made = engine.release();
    });
}

void unmask_free(void* engine) { delete static_cast<Engine*>(engine); }

// product: 0 query, key and value; 1 attention's output; 2 up; 3 down. weight is (outputs, inputs).
int unmask_set_product(void* engine, int layer, int product, int format, const float* weight, const float* bias,
                       int outputs, int inputs) {
    return guarded([&] {
        auto& own = static_cast<Engine*>(engine)->encoder.layers[layer].products[product];
        own.pack(unmask::Format(format), weight, bias, outputs, inputs);
    });
}

// norm: 0 behind attention, 1 behind the feed-forward; layer -1: behind the embeddings.
int unmask_set_norm(void* engine, int layer, int norm, const float* weight, const float* bias) {
    return guarded([&] {
        auto& encoder = static_cast<Engine*>(engine)->encoder;
        set(layer < 0 ? encoder.norm : encoder.layers[layer].norms[norm], weight, bias, encoder.hidden);
    });
}

// The tables stay the caller's and must live as long as the engine.
void unmask_set_tables(void* engine, const float* word, const float* position, const float* type) {
    auto& encoder = static_cast<Engine*>(engine)->encoder;
    encoder.word = word, encoder.position = position, encoder.type = type;
}

int unmask_encode(void* engine, const int64_t* ids, const int64_t* positions, const int64_t* types,
                  const int64_t* starts, int texts, const int64_t* needed, int num_needed, float* out, float* states) {
    return guarded([&] {
        auto* self = static_cast<Engine*>(engine);
        std::lock_guard<std::mutex> lock(self->one_at_a_time);
        const unmask::Batch batch{ids, positions, types, starts, texts, needed, num_needed, out, states};
        unmask::encode(self->encoder, batch, *self->pool, self->room);
    });
}

}  // extern "C"
#pragma GCC visibility pop
