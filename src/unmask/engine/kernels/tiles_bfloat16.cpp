#include "vec.h"

namespace {

using Sums = unmask::Register;
inline Sums step(Sums sums, unmask::Words left, unmask::Words right) {
    return _mm512_dpbf16_ps(sums, (__m512bh)left, (__m512bh)right);
}

}  // namespace

#include "tiles_inc.h"

unmask::Tile unmask::bfloat16_tile(int rows, int vectors) { return kTiles[rows - 1][vectors - 1]; }
