// Sixteen floats in one register of AVX-512. floats_avx2.h has the same names in two registers, and gives the same bits
// but in `reciprocal` and where `scale` is denormal.
#pragma once

#include <immintrin.h>

namespace unmask {
// Each file has its own copies: one compiled for more instructions must not lend them to the others.
namespace {

using Floats = __m512;
using Lanes = __mmask16;  // which of them count

inline Lanes first(long count) { return Lanes((1u << count) - 1); }
inline Lanes above(Floats x, Floats y) { return _mm512_cmp_ps_mask(x, y, _CMP_GT_OQ); }
inline Floats choose(Lanes lanes, Floats x, Floats otherwise) { return _mm512_mask_mov_ps(otherwise, lanes, x); }

inline Floats all(float x) { return _mm512_set1_ps(x); }
inline Floats load(const float* from) { return _mm512_loadu_ps(from); }
inline Floats load(const float* from, Lanes lanes) { return _mm512_maskz_loadu_ps(lanes, from); }  // 0 elsewhere
inline void store(float* to, Floats x) { _mm512_storeu_ps(to, x); }
inline void store(float* to, Floats x, Lanes lanes) { _mm512_mask_storeu_ps(to, lanes, x); }

inline Floats max(Floats x, Floats y) { return _mm512_max_ps(x, y); }
inline Floats abs(Floats x) { return _mm512_abs_ps(x); }
inline Floats fma(Floats x, Floats y, Floats z) { return _mm512_fmadd_ps(x, y, z); }
inline Floats round(Floats x) { return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
inline Floats scale(Floats x, Floats power) { return _mm512_scalef_ps(x, power); }  // x * 2**power, power whole
inline float sum_of(Floats x) { return _mm512_reduce_add_ps(x); }
inline float max_of(Floats x) { return _mm512_reduce_max_ps(x); }

// 1 / x, one Newton step behind the estimate of 14 bits.
inline Floats reciprocal(Floats x) {
    const Floats y = _mm512_rcp14_ps(x);
    return y * _mm512_fnmadd_ps(x, y, all(2.0f));
}

// x - times * y of whole numbers.
inline Floats difference(__m512i x, int times, __m512i y) {
    return _mm512_cvtepi32_ps(_mm512_sub_epi32(x, _mm512_mullo_epi32(_mm512_set1_epi32(times), y)));
}
inline Floats difference(const int* x, int times, const int* y) {
    return difference(_mm512_loadu_si512(x), times, _mm512_loadu_si512(y));
}
inline Floats difference(const int* x, int times, const int* y, Lanes lanes) {
    return difference(_mm512_maskz_loadu_epi32(lanes, x), times, _mm512_maskz_loadu_epi32(lanes, y));
}

// x rounded to whole numbers, plus `offset`, as bytes.
inline __m128i bytes(Floats x, int offset) {
    return _mm512_cvtepi32_epi8(_mm512_add_epi32(_mm512_cvtps_epi32(x), _mm512_set1_epi32(offset)));
}
inline void store_bytes(char* to, Floats x, int offset) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), bytes(x, offset));
}
inline void store_bytes(char* to, Floats x, int offset, Lanes lanes) {
    _mm_mask_storeu_epi8(to, lanes, bytes(x, offset));
}

// 16 x 16 words, rows to columns; rows of `in_stride` and `out_stride` words.
inline void transpose(const int* in, long in_stride, int* out, long out_stride) {
    __m512i a[16], b[16];
    for (int i = 0; i < 16; ++i) a[i] = _mm512_loadu_si512(in + i * in_stride);
    for (int i = 0; i < 16; i += 2) {
        b[i] = _mm512_unpacklo_epi32(a[i], a[i + 1]);
        b[i + 1] = _mm512_unpackhi_epi32(a[i], a[i + 1]);
    }
    for (int i = 0; i < 16; i += 4)
        for (int j = 0; j < 2; ++j) {
            a[i + 2 * j] = _mm512_unpacklo_epi64(b[i + j], b[i + j + 2]);
            a[i + 2 * j + 1] = _mm512_unpackhi_epi64(b[i + j], b[i + j + 2]);
        }
    for (int i = 0; i < 4; ++i) {
        b[i] = _mm512_shuffle_i32x4(a[i], a[i + 4], 0x88);
        b[i + 4] = _mm512_shuffle_i32x4(a[i], a[i + 4], 0xdd);
        b[i + 8] = _mm512_shuffle_i32x4(a[i + 8], a[i + 12], 0x88);
        b[i + 12] = _mm512_shuffle_i32x4(a[i + 8], a[i + 12], 0xdd);
    }
    for (int i = 0; i < 8; ++i) {
        _mm512_storeu_si512(out + i * out_stride, _mm512_shuffle_i32x4(b[i], b[i + 8], 0x88));
        _mm512_storeu_si512(out + (i + 8) * out_stride, _mm512_shuffle_i32x4(b[i], b[i + 8], 0xdd));
    }
}

// What the tiles work with: one register.
using Register = __m512;
using Words = __m512i;

inline Words words(const char* from) { return _mm512_loadu_si512(from); }
inline Words everywhere(int word) { return _mm512_set1_epi32(word); }
inline void keep(char* to, Words x) { _mm512_storeu_si512(to, x); }
inline void keep(char* to, Register x) { _mm512_storeu_ps(to, x); }

// The processor's own look ahead is enough.
inline void fetch_ahead(const char*) {}

// Of `vectors` side by side, how many a tile of so many rows takes at once: 32 registers hold 24 sums.
constexpr int abreast(int, int vectors) { return vectors; }

}  // namespace
}  // namespace unmask
