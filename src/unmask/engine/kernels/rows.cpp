#include "rows.h"

#include <cstring>

#include "vec.h"

namespace unmask {

void layer_norm(const float* in, const float* weight, const float* bias, float eps, int size, float* out) {
    Floats sum = all(0.0f);
    vectors(size, [&](long at, auto lanes) { sum = sum + load(in + at, lanes); });
    const Floats mean = all(sum_of(sum) / float(size));
    Floats squares = all(0.0f);
    vectors(size, [&](long at, auto lanes) {
        const Floats x = choose(lanes, load(in + at, lanes) - mean, all(0.0f));
        squares = fma(x, x, squares);
    });
    const float variance = sum_of(squares) / float(size);
    const Floats unit = all(1.0f / __builtin_sqrtf(variance + eps));
    vectors(size, [&](long at, auto lanes) {
        const Floats x = (load(in + at, lanes) - mean) * unit;
        store(out + at, fma(x, load(weight + at, lanes), load(bias + at, lanes)), lanes);
    });
}

void to_left(Format format, const float* in, int size, char* out, long stride, RowScale* scale) {
    if (format == kFloat) {
        std::memcpy(out, in, sizeof(float) * size_t(size));
        return;
    }
    if (format == kBFloat16) {
        float_to_bfloat16(in, size, reinterpret_cast<uint16_t*>(out));
        if (size & 1) reinterpret_cast<uint16_t*>(out)[size] = 0;
        return;
    }
    Floats above_0 = all(0.0f), below_0 = all(0.0f), zeros = all(0.0f);
    vectors(size, [&](long at, auto lanes) {
        const Floats x = load(in + at, lanes);
        above_0 = max(above_0, x), below_0 = max(below_0, all(0.0f) - x);
        zeros = fma(x, all(0.0f), zeros);
    });
    const float odd = sum_of(zeros);  // NaN where a number is not finite, which the answer must not hide
    const float depth = max_of(below_0), reach = max_of(above_0) + depth;
    const bool has_steps = odd == 0 && reach > 1e-30f;
    const float steps = has_steps ? 254.0f / reach : 0.0f;  // and not 255, for both ends may be rounded outwards
    *scale = {odd + reach / 254.0f, has_steps ? int(__builtin_rintf(depth * steps)) : 0};
    const Floats factor = all(steps);
    vectors(size, [&](long at, auto lanes) { store_bytes(out + at, load(in + at, lanes) * factor, scale->zero, lanes); });
    for (long at = size; at < stride && at < size + 4; ++at) out[at] = 0;
}

float greatest(const float* row, int size) {
    Floats most = all(0.0f);
    vectors(size, [&](long at, auto lanes) { most = max(most, abs(load(row + at, lanes))); });
    return max_of(most);
}

}  // namespace unmask
