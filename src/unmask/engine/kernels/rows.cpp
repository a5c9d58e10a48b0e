#include "rows.h"

#include <cstring>

#include "vec.h"

namespace unmask {

void layer_norm(const float* in, const float* weight, const float* bias, float eps, int size, float* out) {
    __m512 sum = _mm512_setzero_ps();
    vectors(size, [&](long at, __mmask16 mask) { sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(mask, in + at)); });
    const __m512 mean = _mm512_set1_ps(_mm512_reduce_add_ps(sum) / float(size));
    __m512 squares = _mm512_setzero_ps();
    vectors(size, [&](long at, __mmask16 mask) {
        const __m512 x = _mm512_maskz_sub_ps(mask, _mm512_maskz_loadu_ps(mask, in + at), mean);
        squares = _mm512_fmadd_ps(x, x, squares);
    });
    const float variance = _mm512_reduce_add_ps(squares) / float(size);
    const __m512 scale = _mm512_set1_ps(1.0f / __builtin_sqrtf(variance + eps));
    vectors(size, [&](long at, __mmask16 mask) {
        const __m512 x = _mm512_mul_ps(_mm512_sub_ps(_mm512_maskz_loadu_ps(mask, in + at), mean), scale);
        const __m512 w = _mm512_maskz_loadu_ps(mask, weight + at);
        _mm512_mask_storeu_ps(out + at, mask, _mm512_fmadd_ps(x, w, _mm512_maskz_loadu_ps(mask, bias + at)));
    });
}

void to_left(Format format, const float* in, int size, char* out, long stride, float* scale) {
    if (format == kFloat) {
        std::memcpy(out, in, sizeof(float) * size_t(size));
        return;
    }
    if (format == kBFloat16) {
        float_to_bfloat16(in, size, reinterpret_cast<uint16_t*>(out));
        if (size & 1) reinterpret_cast<uint16_t*>(out)[size] = 0;
        return;
    }
    __m512 most = _mm512_setzero_ps();
    vectors(size, [&](long at, __mmask16 mask) {
        most = _mm512_max_ps(most, _mm512_abs_ps(_mm512_maskz_loadu_ps(mask, in + at)));
    });
    const float largest = _mm512_reduce_max_ps(most);
    *scale = largest / 127.0f;
    const __m512 factor = _mm512_set1_ps(largest > 0 ? 127.0f / largest : 0.0f);
    const __m512i middle = _mm512_set1_epi32(128);
    vectors(size, [&](long at, __mmask16 mask) {
        const __m512 x = _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, in + at), factor);
        const __m512i q = _mm512_add_epi32(_mm512_cvtps_epi32(x), middle);
        _mm_mask_storeu_epi8(out + at, mask, _mm512_cvtepi32_epi8(q));
    });
    for (long at = size; at < stride && at < size + 4; ++at) out[at] = 0;
}

}  // namespace unmask
