// Compiled without any instruction set of its own: it decides whether the others may be called.
#include <cpuid.h>

#include "tiles.h"

bool unmask::has_avx_vnni() {
    static const bool found = [] {
        unsigned a, b, c, d;
        return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1);
    }();
    return found;
}

#pragma GCC visibility push(default)
extern "C" {

// What this library can do on this processor: 0 nothing, 1 float32, 2 int8 too, 4 bfloat16 too.
int unmask_isa() {
    __builtin_cpu_init();
    const bool has_512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    const bool has_512_vnni = has_512 && __builtin_cpu_supports("avx512vnni");
#ifdef UNMASK_AVX512
    if (!has_512) return 0;
    return 1 + 2 * has_512_vnni + 4 * bool(__builtin_cpu_supports("avx512bf16"));
#else
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return 0;
    return 1 + 2 * (has_512_vnni || unmask::has_avx_vnni());
#endif
}

// What this library was compiled from.
const char* unmask_source() { return UNMASK_SOURCE; }

}  // extern "C"
#pragma GCC visibility pop
