#include "vec.h"

namespace {

using Sums = unmask::Words;
inline Sums step(Sums sums, Sums left, Sums right) {
#ifdef UNMASK_AVX512
    return _mm512_dpbusd_epi32(sums, left, right);
#else
    return _mm256_dpbusd_epi32(sums, left, right);  // encoded as the flags of this file say
#endif
}

}  // namespace

#include "tiles_inc.h"

unmask::Tile unmask::int8_tile(int rows, int vectors) { return kTiles[rows - 1][vectors - 1]; }
