// A linear layer: weights packed once, then rows times weights, with what follows applied while the sums are in cache.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "rows.h"
#include "tiles.h"

namespace unmask {

// Memory at a multiple of 64 bytes that only grows.
class Buffer {
  public:
    char* need(size_t bytes);
    template <typename T>
    T* as(size_t count) {
        return reinterpret_cast<T*>(need(count * sizeof(T)));
    }
    char* data() const { return data_.get(); }

  private:
    struct Free {
        void operator()(char* data) const;
    };
    std::unique_ptr<char[], Free> data_;
    size_t size_ = 0;
};

inline int round_up(int value, int multiple) { return (value + multiple - 1) / multiple * multiple; }

struct Linear {
    Format format = kFloat;
    int inputs = 0, outputs = 0;
    Buffer weight;           // panels of 64 outputs: steps x 64 x 4 bytes
    Buffer scale, totals;    // int8: scale of each output; the sum of its weights
    Buffer bias;

    // weight (outputs, inputs) and bias (outputs) in float.
    void pack(Format kind, const float* weight, const float* bias, int outputs, int inputs);
    int steps() const { return (inputs + per_step(format) - 1) / per_step(format); }
    long left_stride() const { return long(round_up(steps() * 4, 64)); }
    int panels() const { return (outputs + kColumns - 1) / kColumns; }
};

enum class Then : int { kNothing, kGelu, kAdd };

// Where a product goes, plus `add` (of the same stride) where asked.
struct Target {
    Then then;
    float* out;
    long stride;  // floats a row
    const float* add = nullptr;
};

// Panels first .. last - 1 of left (rows) times the layer.
void multiply(const Linear& layer, const char* left, const RowScale* left_scale, int rows, int first, int last,
              const Target& target);

}  // namespace unmask
