#include "product.h"

#include <cstdlib>
#include <cstring>
#include <new>
#include <vector>

#include "rows.h"
#include "vec.h"

namespace unmask {
namespace {

constexpr int kMaxRows = 96;            // whose sums for one panel are kept while the depth goes on
constexpr int kPanelBytes = 256 << 10;  // of one panel that is read again for each few rows, well within L2

void finish(const Linear& layer, const char* sums, const RowScale* left_scale, int rows, int column, int row,
            const Target& target) {
    const int width = layer.outputs - column < kColumns ? layer.outputs - column : kColumns;
    const float* bias = reinterpret_cast<const float*>(layer.bias.data()) + column;
    const float* scale = reinterpret_cast<const float*>(layer.scale.data()) + column;
    const int* total = reinterpret_cast<const int*>(layer.totals.data()) + column;
    for (int r = 0; r < rows; ++r) {
        const long place = (row + r) * target.stride + column;
        vectors(width, [&](long at, auto lanes) {
            const char* from = sums + r * 256 + at * 4;
            const Floats offset = load(bias + at, lanes);
            Floats x;
            if (layer.format == kInt8) {
                const RowScale& left = left_scale[row + r];
                const Floats whole = difference(reinterpret_cast<const int*>(from), left.zero, total + at, lanes);
                x = fma(whole, load(scale + at, lanes) * all(left.unit), offset);
            } else {
                x = load(reinterpret_cast<const float*>(from)) + offset;
            }
            if (target.then == Then::kGelu) x = gelu(x);
            if (target.then == Then::kAdd) x = x + load(target.add + place + at, lanes);
            store(target.out + place + at, x, lanes);
        });
    }
}

// A row of weights in the layer's format, four bytes a step, as the tiles read it.
void narrow(const Linear& layer, const float* row, float scale, char* line) {
    if (layer.format == kFloat) std::memcpy(line, row, sizeof(float) * layer.inputs);
    if (layer.format == kBFloat16) float_to_bfloat16(row, layer.inputs, reinterpret_cast<uint16_t*>(line));
    if (layer.format != kInt8) return;
    const Floats unit = all(scale);
    vectors(layer.inputs, [&](long at, auto lanes) { store_bytes(line + at, load(row + at, lanes) / unit, 0, lanes); });
}

}  // namespace

void Buffer::Free::operator()(char* data) const { std::free(data); }

char* Buffer::need(size_t bytes) {
    if (bytes > size_) {
        const size_t size = (bytes + 4095) / 4096 * 4096;
        data_.reset();
        data_.reset(static_cast<char*>(std::aligned_alloc(64, size)));
        if (!data_) throw std::bad_alloc();
        size_ = size;
    }
    return data_.get();
}

void Linear::pack(Format kind, const float* from, const float* offsets, int rows, int columns) {
    format = kind, inputs = columns, outputs = rows;
    const size_t bytes = size_t(panels()) * steps() * 256;
    std::memset(weight.need(bytes), 0, bytes);
    std::memcpy(bias.as<float>(rows), offsets, sizeof(float) * rows);
    float* scales = scale.as<float>(rows);
    int* sums = totals.as<int>(rows);
    std::vector<char> line(steps() * 4L);  // behind its inputs it stays 0
    for (int n = 0; n < rows; ++n) {
        const float* row = from + size_t(n) * columns;
        const float largest = greatest(row, columns);
        scales[n] = largest > 0 ? largest / 127.0f : 1.0f;
        narrow(*this, row, scales[n], line.data());
        char* to = weight.data() + size_t(n / kColumns) * steps() * 256 + place_in_panel(steps(), 0, n % kColumns);
        for (int step = 0; step < steps(); ++step) std::memcpy(to + long(step) * kStepBytes, line.data() + step * 4, 4);
        sums[n] = 0;
        if (kind == kInt8)
            for (int k = 0; k < columns; ++k) sums[n] += int8_t(line[k]);
    }
}

void multiply(const Linear& layer, const char* left, const RowScale* left_scale, int rows, int first, int last,
              const Target& target) {
    alignas(64) char sums[kMaxRows * 256];
    const int steps = layer.steps(), most = kPanelBytes / 256;
    const int block = (steps + (steps + most - 1) / most - 1) / ((steps + most - 1) / most);
    for (int start = 0; start < rows; start += kMaxRows) {
        const int stop = rows < start + kMaxRows ? rows : start + kMaxRows;
        for (int panel = first; panel < last; ++panel) {
            const int width = layer.outputs - panel * kColumns;
            const int count = width < kColumns ? (width + kLanes - 1) / kLanes : kColumns / kLanes;
            for (int step = 0; step < steps; step += block) {
                const int size = steps - step < block ? steps - step : block;
                const char* whole = layer.weight.data() + size_t(panel) * steps * 256;
                const char* right = whole + place_in_panel(steps, step, 0);
                for (int row = start; row < stop; row += kRows) {
                    const int some = stop - row < kRows ? stop - row : kRows;
                    char* to = sums + (row - start) * 256;
                    const char* from = left + row * layer.left_stride() + step * 4L;
                    const Tile tile = tile_of(layer.format, some, count);
                    tile(from, layer.left_stride(), right, steps, size, step > 0, to, 256);
                    if (step + size == steps)
                        finish(layer, to, left_scale, some, panel * kColumns, row, target);
                }
            }
        }
    }
}

}  // namespace unmask
