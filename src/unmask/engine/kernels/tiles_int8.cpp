#include <immintrin.h>

namespace {

using Sums = __m512i;
inline Sums zero() { return _mm512_setzero_si512(); }
inline Sums load(const char* from) { return _mm512_loadu_si512(from); }
inline void store(char* to, Sums sums) { _mm512_storeu_si512(to, sums); }
inline Sums step(Sums sums, __m512i left, __m512i right) {
    return _mm512_dpbusd_epi32(sums, left, right);
}

}  // namespace

#include "tiles_inc.h"

unmask::Tile unmask::int8_tile(int rows, int vectors) { return kTiles[rows - 1][vectors - 1]; }
