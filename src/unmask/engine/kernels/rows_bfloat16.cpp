#include "rows.h"
#include "vec.h"

namespace unmask {
namespace {

inline __mmask16 bits(Lanes lanes) { return lanes; }
inline __mmask16 bits(All) { return 0xFFFF; }

}  // namespace

void float_to_bfloat16(const float* in, long size, uint16_t* out) {
    vectors(size, [&](long at, auto lanes) {
        const __m256bh x = _mm512_cvtneps_pbh(load(in + at, lanes));
        _mm256_mask_storeu_epi16(out + at, bits(lanes), (__m256i)x);
    });
}

void pair_to_bfloat16(const float* first, const float* second, long size, uint16_t* out) {
    vectors(size, [&](long at, auto lanes) {
        const __m256i low = (__m256i)_mm512_cvtneps_pbh(load(first + at, lanes));
        const __m256i high = (__m256i)_mm512_cvtneps_pbh(load(second + at, lanes));
        const __m512i both = _mm512_slli_epi32(_mm512_cvtepu16_epi32(high), 16);
        _mm512_mask_storeu_epi32(out + 2 * at, bits(lanes), _mm512_or_si512(both, _mm512_cvtepu16_epi32(low)));
    });
}

}  // namespace unmask
