// The tile itself, made for one format by the file that includes it: Sums (a register) and step are defined there.
#include "tiles.h"
#include "vec.h"

namespace unmask {
namespace {

// R rows times N registers of columns, all sums in registers.
template <int R, int N>
void strip(const char* left, long left_stride, const char* right, int steps, bool go_on, char* to, long stride) {
    constexpr long size = sizeof(Words);
    Sums sums[R][N];
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
        for (int n = 0; n < N; ++n) sums[r][n] = go_on ? (Sums)words(to + r * stride + n * size) : Sums{};
    for (int s = 0; s < steps; ++s) {
        Words columns[N];
#pragma GCC unroll 8
        for (int n = 0; n < N; ++n) columns[n] = words(right + n * size);
#pragma GCC unroll 6
        for (int r = 0; r < R; ++r) {
            const Words value = everywhere(*reinterpret_cast<const int*>(left + r * left_stride));
#pragma GCC unroll 8
            for (int n = 0; n < N; ++n) sums[r][n] = step(sums[r][n], value, columns[n]);
        }
        left += 4;
        right += 256;
    }
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
        for (int n = 0; n < N; ++n) keep(to + r * stride + n * size, (Words)sums[r][n]);
}

template <int R, int V>
void tile(const char* left, long left_stride, const char* right, int steps, bool go_on, char* to, long stride) {
    constexpr int width = 64 * abreast(R, V);
    for (int at = 0; at < 64 * V; at += width)
        strip<R, width / sizeof(Words)>(left, left_stride, right + at, steps, go_on, to + at, stride);
}

template <int R>
constexpr Tile kOfRows[4] = {tile<R, 1>, tile<R, 2>, tile<R, 3>, tile<R, 4>};
constexpr const Tile* kTiles[kRows] = {kOfRows<1>, kOfRows<2>, kOfRows<3>, kOfRows<4>, kOfRows<5>, kOfRows<6>};

}  // namespace
}  // namespace unmask
