#include <immintrin.h>

namespace {

using Sums = __m512;
inline Sums zero() { return _mm512_setzero_ps(); }
inline Sums load(const char* from) { return _mm512_loadu_ps(from); }
inline void store(char* to, Sums sums) { _mm512_storeu_ps(to, sums); }
inline Sums step(Sums sums, __m512i left, __m512i right) {
    return _mm512_fmadd_ps(_mm512_castsi512_ps(left), _mm512_castsi512_ps(right), sums);
}

}  // namespace

#include "tiles_inc.h"

unmask::Tile unmask::float_tile(int rows, int vectors) { return kTiles[rows - 1][vectors - 1]; }
