// Sixteen floats at a time: the functions that the network needs between its products.
#pragma once

#include <immintrin.h>

namespace unmask {

// Calls body(start, mask) for each 16 of `size` places; the mask leaves out what is behind the end.
template <typename Body>
inline void vectors(long size, Body&& body) {
    long at = 0;
    for (; at + 16 <= size; at += 16) body(at, __mmask16(0xFFFF));
    if (at < size) body(at, __mmask16((1u << (size - at)) - 1));
}

// 2**x for x <= 126; relative error 2e-7 (minimax polynomial of degree 6 on [-1/2, 1/2]).
inline __m512 exp2(__m512 x) {
    x = _mm512_max_ps(x, _mm512_set1_ps(-150.0f));
    const __m512 whole = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __m512 part = _mm512_sub_ps(x, whole);
    __m512 y = _mm512_set1_ps(1.5403530e-4f);
    y = _mm512_fmadd_ps(y, part, _mm512_set1_ps(1.3333558e-3f));
    y = _mm512_fmadd_ps(y, part, _mm512_set1_ps(9.6181291e-3f));
    y = _mm512_fmadd_ps(y, part, _mm512_set1_ps(5.5504109e-2f));
    y = _mm512_fmadd_ps(y, part, _mm512_set1_ps(2.4022651e-1f));
    y = _mm512_fmadd_ps(y, part, _mm512_set1_ps(6.9314718e-1f));
    y = _mm512_fmadd_ps(y, part, _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(y, whole);
}

// 1 / x, one Newton step behind the estimate of 14 bits.
inline __m512 reciprocal(__m512 x) {
    const __m512 y = _mm512_rcp14_ps(x);
    return _mm512_mul_ps(y, _mm512_fnmadd_ps(x, y, _mm512_set1_ps(2.0f)));
}

// x * Phi(x) with erfc after Abramowitz and Stegun 1964, 7.1.26: absolute error of erfc 1.5e-7.
inline __m512 gelu(__m512 x) {
    const __m512 size = _mm512_mul_ps(_mm512_abs_ps(x), _mm512_set1_ps(0.70710678f));
    const __m512 t = reciprocal(_mm512_fmadd_ps(size, _mm512_set1_ps(0.3275911f), _mm512_set1_ps(1.0f)));
    __m512 y = _mm512_set1_ps(1.061405429f);
    y = _mm512_fmadd_ps(y, t, _mm512_set1_ps(-1.453152027f));
    y = _mm512_fmadd_ps(y, t, _mm512_set1_ps(1.421413741f));
    y = _mm512_fmadd_ps(y, t, _mm512_set1_ps(-0.284496736f));
    y = _mm512_fmadd_ps(y, t, _mm512_set1_ps(0.254829592f));
    const __m512 power = exp2(_mm512_mul_ps(_mm512_mul_ps(size, size), _mm512_set1_ps(-1.44269504f)));
    const __m512 half_erfc = _mm512_mul_ps(_mm512_mul_ps(_mm512_mul_ps(y, t), power), _mm512_set1_ps(0.5f));
    const __m512 tail = _mm512_mul_ps(x, half_erfc);
    return _mm512_mask_sub_ps(tail, _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_GT_OQ), x, tail);
}

}  // namespace unmask
