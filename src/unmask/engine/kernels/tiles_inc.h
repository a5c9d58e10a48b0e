// The tile itself, made for one format by the file that includes it: Sums (a register) and step are defined there.
#include "tiles.h"
#include "vec.h"

namespace unmask {
namespace {

// R rows times V vectors of columns, in N registers a row.
template <int R, int V>
void strip(const char* left, long left_stride, const char* right, long apart, int steps, bool go_on, char* to,
           long stride) {
    constexpr int size = sizeof(Words), parts = 64 / size, N = V * parts;
    Sums sums[R][N];
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
        for (int n = 0; n < N; ++n) sums[r][n] = go_on ? (Sums)words(to + r * stride + n * size) : Sums{};
    for (int s = 0; s < steps; ++s) {
        Words columns[N];
#pragma GCC unroll 8
        for (int n = 0; n < N; ++n) columns[n] = words(right + n / parts * apart + n % parts * size);
#pragma GCC unroll 6
        for (int r = 0; r < R; ++r) {
            const Words value = everywhere(*reinterpret_cast<const int*>(left + r * left_stride));
#pragma GCC unroll 8
            for (int n = 0; n < N; ++n) sums[r][n] = step(sums[r][n], value, columns[n]);
        }
        fetch_ahead(right);
        left += 4;
        right += kStepBytes;
    }
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
        for (int n = 0; n < N; ++n) keep(to + r * stride + n * size, sums[r][n]);
}

template <int R, int V>
void tile(const char* left, long left_stride, const char* right, int whole, int steps, bool go_on, char* to,
          long stride) {
    const long apart = vectors_apart(whole);
    for (int v = 0; v < V; v += abreast(R, V))
        strip<R, abreast(R, V)>(left, left_stride, right + v * apart, apart, steps, go_on, to + v * 64, stride);
}

template <int R>
constexpr Tile kOfRows[4] = {tile<R, 1>, tile<R, 2>, tile<R, 3>, tile<R, 4>};
constexpr const Tile* kTiles[kRows] = {kOfRows<1>, kOfRows<2>, kOfRows<3>, kOfRows<4>, kOfRows<5>, kOfRows<6>};

}  // namespace
}  // namespace unmask
