// Compiled without any instruction set of its own: it decides whether the others may be called.
#pragma GCC visibility push(default)
extern "C" {

// Instruction sets of this processor: 1 AVX-512 (F, BW, DQ, VL), 2 its VNNI, 4 its BF16.
int unmask_isa() {
    __builtin_cpu_init();
    const bool base = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    if (!base) return 0;
    return 1 + 2 * bool(__builtin_cpu_supports("avx512vnni")) + 4 * bool(__builtin_cpu_supports("avx512bf16"));
}

// What this library was compiled from.
const char* unmask_source() { return UNMASK_SOURCE; }

}  // extern "C"
#pragma GCC visibility pop
