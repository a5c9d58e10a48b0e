// The same instruction in the encoding of AVX-512, so that these tiles can be tried where there is no AVX-VNNI.
#define int8_tile int8_evex_tile
#include "tiles_int8.cpp"
