// AVX2 has no bfloat16, and compiled.py offers none with it: nothing here is called.
#include "rows.h"

namespace unmask {

Tile bfloat16_tile(int, int) { return nullptr; }
void float_to_bfloat16(const float*, long, uint16_t*) {}
void pair_to_bfloat16(const float*, const float*, long, uint16_t*) {}

}  // namespace unmask
