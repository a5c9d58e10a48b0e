#include "vec.h"

namespace {

using Sums = unmask::Register;
inline Sums step(Sums sums, unmask::Words left, unmask::Words right) {
    return unmask::fma((Sums)left, (Sums)right, sums);
}

}  // namespace

#include "tiles_inc.h"

unmask::Tile unmask::float_tile(int rows, int vectors) { return kTiles[rows - 1][vectors - 1]; }
