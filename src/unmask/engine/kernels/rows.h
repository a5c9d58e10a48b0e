// What happens to whole rows of floats: normalisation, and the change into the format of the next product.
#pragma once

#include <cstdint>

#include "tiles.h"

namespace unmask {

// out = norm(in) * weight + bias, with the biased variance (Ba et al. 2016, equation 3); in and out may be the same.
void layer_norm(const float* in, const float* weight, const float* bias, float eps, int size, float* out);

// What the bytes of a row stand for: unit * (byte - zero).
struct RowScale {
    float unit;
    int zero;
};

// Left-hand rows of a product. int8: from the least number of the row to the greatest, and 0, in 254 steps; what GELU
// gives is hardly ever negative, and a scale that were the same for both signs would leave half of the bytes unused.
// `stride` bytes a row; what is behind `size` is filled so that it multiplies zeros only.
void to_left(Format format, const float* in, int size, char* out, long stride, RowScale* scale);

// The largest |x|.
float greatest(const float* row, int size);

void float_to_bfloat16(const float* in, long size, uint16_t* out);

// Two rows, element by element side by side.
void pair_to_bfloat16(const float* first, const float* second, long size, uint16_t* out);

}  // namespace unmask
