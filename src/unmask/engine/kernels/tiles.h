// Small matrix products: up to 6 rows times up to 64 columns, all sums in registers.
//
// Right-hand sides are packed in panels of 64 columns; along the depth, as many neighbours as one instruction
// multiplies stand side by side: 1 float, 2 bfloat16, 4 int8. So each step of the depth is 64 columns of 4 bytes,
// whatever the format, and a left-hand row is read 4 bytes a step. With AVX-512 a tile takes all 64 columns at once,
// so they stand together; with AVX2 it goes down the depth with 16 of them, which have all their steps together.
#pragma once

#include <cstdint>

namespace unmask {

enum Format : int { kFloat = 0, kBFloat16 = 1, kInt8 = 2 };

constexpr int kRows = 6;
constexpr int kColumns = 64;
constexpr int kLanes = 16;

// Elements of the depth in one step of 4 bytes.
constexpr int per_step(Format format) { return format == kFloat ? 1 : format == kBFloat16 ? 2 : 4; }

// In a panel of `steps` steps: bytes from one step to the next, from one vector of 16 columns to the next, and to one
// column of one step.
#ifdef UNMASK_AVX512
constexpr int kStepBytes = 256;
constexpr long vectors_apart(int) { return 64; }
#else
constexpr int kStepBytes = 64;
constexpr long vectors_apart(int steps) { return 64L * steps; }
#endif
constexpr long place_in_panel(int steps, int step, int column) {
    return column / kLanes * vectors_apart(steps) + long(step) * kStepBytes + column % kLanes * 4;
}

// Adds `steps` steps of a panel that has `whole` of them to sums (float or int32), or starts these at 0.
// Strides are bytes a row: of left, and of sums.
using Tile = void (*)(const char* left, long left_stride, const char* right, int whole, int steps, bool go_on,
                      char* sums, long sums_stride);

// The product for 1 to 6 rows and 1 to 4 vectors of 16 columns.
Tile float_tile(int rows, int vectors);
Tile bfloat16_tile(int rows, int vectors);
Tile int8_tile(int rows, int vectors);  // left is unsigned, right is signed

// 256 bits of int8 have two encodings: AVX-VNNI's, in int8_tile, and AVX-512's.
Tile int8_evex_tile(int rows, int vectors);
bool has_avx_vnni();

inline Tile tile_of(Format format, int rows, int vectors) {
    if (format == kFloat) return float_tile(rows, vectors);
    if (format == kBFloat16) return bfloat16_tile(rows, vectors);
#ifndef UNMASK_AVX512
    if (!has_avx_vnni()) return int8_evex_tile(rows, vectors);
#endif
    return int8_tile(rows, vectors);
}

}  // namespace unmask
