#include <immintrin.h>

namespace {

using Sums = __m512;
inline Sums zero() { return _mm512_setzero_ps(); }
inline Sums load(const char* from) { return _mm512_loadu_ps(from); }
inline void store(char* to, Sums sums) { _mm512_storeu_ps(to, sums); }
inline Sums step(Sums sums, __m512i left, __m512i right) {
    return _mm512_dpbf16_ps(sums, (__m512bh)left, (__m512bh)right);
}

}  // namespace

#include "tiles_inc.h"

unmask::Tile unmask::bfloat16_tile(int rows, int vectors) { return kTiles[rows - 1][vectors - 1]; }
