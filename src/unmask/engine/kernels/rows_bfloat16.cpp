#include "rows.h"
#include "vec.h"

namespace unmask {

void float_to_bfloat16(const float* in, long size, uint16_t* out) {
    vectors(size, [&](long at, __mmask16 mask) {
        const __m256bh x = _mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(mask, in + at));
        _mm256_mask_storeu_epi16(out + at, mask, (__m256i)x);
    });
}

void pair_to_bfloat16(const float* first, const float* second, long size, uint16_t* out) {
    vectors(size, [&](long at, __mmask16 mask) {
        const __m256i low = (__m256i)_mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(mask, first + at));
        const __m256i high = (__m256i)_mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(mask, second + at));
        const __m512i both = _mm512_slli_epi32(_mm512_cvtepu16_epi32(high), 16);
        _mm512_mask_storeu_epi32(out + 2 * at, mask, _mm512_or_si512(both, _mm512_cvtepu16_epi32(low)));
    });
}

}  // namespace unmask
