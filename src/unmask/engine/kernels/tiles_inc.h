// The tile itself, made for one format by the file that includes it: Sums, zero, load, store and step are defined there.
#include <immintrin.h>

#include "tiles.h"

namespace unmask {
namespace {

template <int R, int V>
void tile(const char* left, long left_stride, const char* right, int steps, bool go_on, char* to, long stride) {
    Sums sums[R][V];
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) sums[r][v] = go_on ? load(to + r * stride + v * 64) : zero();
    for (int s = 0; s < steps; ++s) {
        __m512i columns[V];
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) columns[v] = _mm512_loadu_si512(right + v * 64);
#pragma GCC unroll 6
        for (int r = 0; r < R; ++r) {
            const __m512i value = _mm512_set1_epi32(*reinterpret_cast<const int*>(left + r * left_stride));
#pragma GCC unroll 4
            for (int v = 0; v < V; ++v) sums[r][v] = step(sums[r][v], value, columns[v]);
        }
        left += 4;
        right += 256;
    }
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) store(to + r * stride + v * 64, sums[r][v]);
}

template <int R>
constexpr Tile kOfRows[4] = {tile<R, 1>, tile<R, 2>, tile<R, 3>, tile<R, 4>};
constexpr const Tile* kTiles[kRows] = {kOfRows<1>, kOfRows<2>, kOfRows<3>, kOfRows<4>, kOfRows<5>, kOfRows<6>};

}  // namespace
}  // namespace unmask
