// Sixteen floats in two registers of AVX2; see floats_avx512.h.
#pragma once

#include <immintrin.h>

namespace unmask {
// Each file has its own copies: one compiled for more instructions must not lend them to the others.
namespace {

// What the tiles work with: one register.
using Register = __m256;
using Words = __m256i;

inline Words words(const char* from) { return _mm256_loadu_si256(reinterpret_cast<const Words*>(from)); }
inline Words everywhere(int word) { return _mm256_set1_epi32(word); }
inline void keep(char* to, Words x) { _mm256_storeu_si256(reinterpret_cast<Words*>(to), x); }
inline void keep(char* to, Register x) { _mm256_storeu_ps(reinterpret_cast<float*>(to), x); }
inline Register fma(Register x, Register y, Register z) { return _mm256_fmadd_ps(x, y, z); }

// Columns of 128 steps later into L2: a sixth more speed where weights come from memory.
inline void fetch_ahead(const char* columns) { _mm_prefetch(columns + 128 * 64, _MM_HINT_T1); }

// Of `vectors` side by side, how many a tile of so many rows takes at once: 16 registers hold 12 sums.
constexpr int abreast(int rows, int vectors) { return rows == 1 ? vectors : rows == 2 && vectors % 2 == 0 ? 2 : 1; }

struct Floats {
    Register low, high;
};

inline Floats operator+(Floats x, Floats y) { return {x.low + y.low, x.high + y.high}; }
inline Floats operator-(Floats x, Floats y) { return {x.low - y.low, x.high - y.high}; }
inline Floats operator*(Floats x, Floats y) { return {x.low * y.low, x.high * y.high}; }
inline Floats operator/(Floats x, Floats y) { return {x.low / y.low, x.high / y.high}; }

// Which of them count: all bits set.
struct Lanes {
    Words low, high;
};

inline Lanes first(long count) {
    const Words last = everywhere(int(count));
    return {_mm256_cmpgt_epi32(last, _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)),
            _mm256_cmpgt_epi32(last, _mm256_setr_epi32(8, 9, 10, 11, 12, 13, 14, 15))};
}
inline Lanes above(Floats x, Floats y) {
    return {(Words)_mm256_cmp_ps(x.low, y.low, _CMP_GT_OQ), (Words)_mm256_cmp_ps(x.high, y.high, _CMP_GT_OQ)};
}
inline Floats choose(Lanes lanes, Floats x, Floats otherwise) {
    return {_mm256_blendv_ps(otherwise.low, x.low, (Register)lanes.low),
            _mm256_blendv_ps(otherwise.high, x.high, (Register)lanes.high)};
}

inline Floats all(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
inline Floats load(const float* from) { return {_mm256_loadu_ps(from), _mm256_loadu_ps(from + 8)}; }
inline Floats load(const float* from, Lanes lanes) {
    return {_mm256_maskload_ps(from, lanes.low), _mm256_maskload_ps(from + 8, lanes.high)};
}
inline void store(float* to, Floats x) {
    _mm256_storeu_ps(to, x.low);
    _mm256_storeu_ps(to + 8, x.high);
}
inline void store(float* to, Floats x, Lanes lanes) {
    _mm256_maskstore_ps(to, lanes.low, x.low);
    _mm256_maskstore_ps(to + 8, lanes.high, x.high);
}

inline Floats max(Floats x, Floats y) { return {_mm256_max_ps(x.low, y.low), _mm256_max_ps(x.high, y.high)}; }
inline Floats abs(Floats x) {
    const Register sign = _mm256_set1_ps(-0.0f);
    return {_mm256_andnot_ps(sign, x.low), _mm256_andnot_ps(sign, x.high)};
}
inline Floats fma(Floats x, Floats y, Floats z) { return {fma(x.low, y.low, z.low), fma(x.high, y.high, z.high)}; }
inline Floats round(Floats x) {
    constexpr int mode = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
    return {_mm256_round_ps(x.low, mode), _mm256_round_ps(x.high, mode)};
}

// x * 2**power, power whole, by the bits of the exponent; 0 where it would be denormal.
inline Register scale(Register x, Register power) {
    const Register y = (Register)_mm256_add_epi32((Words)x, _mm256_slli_epi32(_mm256_cvtps_epi32(power), 23));
    return _mm256_and_ps(y, _mm256_cmp_ps(power, _mm256_set1_ps(-126.0f), _CMP_GT_OQ));
}
inline Floats scale(Floats x, Floats power) { return {scale(x.low, power.low), scale(x.high, power.high)}; }

// The order of AVX-512's reductions: halves, then halves of these, and so on.
inline float sum_of(Floats x) {
    const Register eight = x.high + x.low;
    const __m128 four = _mm256_extractf128_ps(eight, 1) + _mm256_castps256_ps128(eight);
    const __m128 two = four + _mm_movehl_ps(four, four);
    return two[0] + two[1];
}
inline float max_of(Floats x) {
    const Register eight = _mm256_max_ps(x.high, x.low);
    const __m128 four = _mm_max_ps(_mm256_extractf128_ps(eight, 1), _mm256_castps256_ps128(eight));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return two[0] > two[1] ? two[0] : two[1];
}

// 1 / x; the estimate of 12 bits is another one on each maker's processors.
inline Floats reciprocal(Floats x) { return all(1.0f) / x; }

// x - times * y of whole numbers.
inline Register difference(Words x, int times, Words y) {
    return _mm256_cvtepi32_ps(_mm256_sub_epi32(x, _mm256_mullo_epi32(everywhere(times), y)));
}
inline Floats difference(const int* x, int times, const int* y) {
    const auto part = [](const int* from) { return words(reinterpret_cast<const char*>(from)); };
    return {difference(part(x), times, part(y)), difference(part(x + 8), times, part(y + 8))};
}
inline Floats difference(const int* x, int times, const int* y, Lanes lanes) {
    return {difference(_mm256_maskload_epi32(x, lanes.low), times, _mm256_maskload_epi32(y, lanes.low)),
            difference(_mm256_maskload_epi32(x + 8, lanes.high), times, _mm256_maskload_epi32(y + 8, lanes.high))};
}

// x rounded to whole numbers, plus `offset`, as bytes.
inline void store_bytes(char* to, Floats x, int offset) {
    const auto part = [offset](Register y) {
        return _mm256_and_si256(_mm256_add_epi32(_mm256_cvtps_epi32(y), everywhere(offset)), everywhere(0xFF));
    };
    // packing works within halves of a register, so the quarters come out as 0, 2, 1, 3
    const Words pairs = _mm256_permute4x64_epi64(_mm256_packus_epi32(part(x.low), part(x.high)), 0xD8);
    const __m128i packed = _mm_packus_epi16(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256(pairs, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), packed);
}
inline void store_bytes(char* to, Floats x, int offset, Lanes lanes) {
    char packed[16];
    store_bytes(packed, x, offset);
    const int bits = _mm256_movemask_ps((Register)lanes.low) | _mm256_movemask_ps((Register)lanes.high) << 8;
    for (int i = 0; i < 16; ++i)
        if (bits >> i & 1) to[i] = packed[i];
}

// 8 x 8 words, rows to columns.
inline void transpose_quarter(const int* in, long in_stride, int* out, long out_stride) {
    Words a[8], b[8];
    for (int i = 0; i < 8; ++i) a[i] = words(reinterpret_cast<const char*>(in + i * in_stride));
    for (int i = 0; i < 8; i += 2) {
        b[i] = _mm256_unpacklo_epi32(a[i], a[i + 1]);
        b[i + 1] = _mm256_unpackhi_epi32(a[i], a[i + 1]);
    }
    for (int i = 0; i < 8; i += 4)
        for (int j = 0; j < 2; ++j) {
            a[i + 2 * j] = _mm256_unpacklo_epi64(b[i + j], b[i + j + 2]);
            a[i + 2 * j + 1] = _mm256_unpackhi_epi64(b[i + j], b[i + j + 2]);
        }
    for (int i = 0; i < 4; ++i) {
        keep(reinterpret_cast<char*>(out + i * out_stride), _mm256_permute2x128_si256(a[i], a[i + 4], 0x20));
        keep(reinterpret_cast<char*>(out + (i + 4) * out_stride), _mm256_permute2x128_si256(a[i], a[i + 4], 0x31));
    }
}

// 16 x 16 words, rows to columns; rows of `in_stride` and `out_stride` words.
inline void transpose(const int* in, long in_stride, int* out, long out_stride) {
    for (int i = 0; i < 16; i += 8)
        for (int j = 0; j < 16; j += 8)
            transpose_quarter(in + i * in_stride + j, in_stride, out + j * out_stride + i, out_stride);
}

}  // namespace
}  // namespace unmask
