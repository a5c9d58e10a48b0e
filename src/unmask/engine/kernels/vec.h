// Sixteen floats at a time: the functions that the network needs between its products.
#pragma once

#ifdef UNMASK_AVX512
#include "floats_avx512.h"
#else
#include "floats_avx2.h"
#endif

namespace unmask {
namespace {

// Lanes that all count, so that nothing has to be masked.
struct All {};
inline Floats load(const float* from, All) { return load(from); }
inline void store(float* to, Floats x, All) { store(to, x); }
inline Floats choose(All, Floats x, Floats) { return x; }
inline Floats difference(const int* x, int times, const int* y, All) { return difference(x, times, y); }
inline void store_bytes(char* to, Floats x, int offset, All) { store_bytes(to, x, offset); }

// Calls body(start, lanes) for each 16 of `size` places; the lanes leave out what is behind the end.
template <typename Body>
inline void vectors(long size, Body&& body) {
    long at = 0;
    for (; at + 16 <= size; at += 16) body(at, All{});
    if (at < size) body(at, first(size - at));
}

// 2**x for x <= 126; relative error 2e-7 (minimax polynomial of degree 6 on [-1/2, 1/2]).
inline Floats exp2(Floats x) {
    x = max(x, all(-150.0f));
    const Floats whole = round(x), part = x - whole;
    Floats y = all(1.5403530e-4f);
    y = fma(y, part, all(1.3333558e-3f));
    y = fma(y, part, all(9.6181291e-3f));
    y = fma(y, part, all(5.5504109e-2f));
    y = fma(y, part, all(2.4022651e-1f));
    y = fma(y, part, all(6.9314718e-1f));
    y = fma(y, part, all(1.0f));
    return scale(y, whole);
}

// x * Phi(x) with erfc after Abramowitz and Stegun 1964, 7.1.26: absolute error of erfc 1.5e-7.
inline Floats gelu(Floats x) {
    const Floats size = abs(x) * all(0.70710678f);
    const Floats t = reciprocal(fma(size, all(0.3275911f), all(1.0f)));
    Floats y = all(1.061405429f);
    y = fma(y, t, all(-1.453152027f));
    y = fma(y, t, all(1.421413741f));
    y = fma(y, t, all(-0.284496736f));
    y = fma(y, t, all(0.254829592f));
    const Floats power = exp2(size * size * all(-1.44269504f));
    const Floats half_erfc = y * t * power * all(0.5f);
    const Floats tail = x * half_erfc;
    return choose(above(x, all(0.0f)), x - tail, tail);
}

}  // namespace
}  // namespace unmask
