#include "attention.h"

#include <cmath>
#include <cstring>

#include "rows.h"
#include "vec.h"

namespace unmask {
namespace {

// Keys as the columns of a right-hand side: panels of 64 keys, their size the depth.
const char* pack_keys(Format format, const Head& head, int steps, AttentionRoom& room) {
    const int wide = round_up(steps, kLanes);
    char* keys = room.keys.need(size_t(round_up(head.length, kColumns)) * wide * 4);
    int* rows = room.left.as<int>(size_t(kLanes) * wide);
    RowScale unused;
    for (int start = 0; start < head.length; start += kLanes) {
        for (int i = 0; i < kLanes; ++i) {
            int* row = rows + i * wide;
            std::memset(row + steps, 0, sizeof(int) * (wide - steps));
            if (start + i < head.length)
                to_left(format, head.key + (start + i) * head.stride, head.size, reinterpret_cast<char*>(row), 0, &unused);
            else
                std::memset(row, 0, sizeof(int) * steps);
        }
        char* panel = keys + size_t(start / kColumns) * wide * 256;
        for (int step = 0; step < wide; step += kLanes) {
            char* to = panel + place_in_panel(wide, step, start % kColumns);
            transpose(rows + step, wide, reinterpret_cast<int*>(to), kStepBytes / 4);
        }
    }
    return keys;
}

// Values as the rows of a right-hand side: panels of 64 of their numbers, the keys the depth.
const char* pack_values(Format format, const Head& head, int steps, AttentionRoom& room) {
    const int panels = (head.size + kColumns - 1) / kColumns;
    char* values = room.values.need(size_t(panels) * steps * 256);
    for (int panel = 0; panel < panels; ++panel) {
        const float* from = head.value + panel * kColumns;
        const int width = head.size - panel * kColumns < kColumns ? head.size - panel * kColumns : kColumns;
        for (int step = 0; step < steps; ++step) {
            char* to = values + size_t(panel) * steps * 256;
            if (format == kFloat) {
                vectors(width, [&](long at, auto lanes) {
                    float* place = reinterpret_cast<float*>(to + place_in_panel(steps, step, int(at)));
                    store(place, load(from + step * head.stride + at, lanes));
                });
                continue;
            }
            static const float nothing[kColumns] = {};
            const float* second = 2 * step + 1 < head.length ? from + (2 * step + 1) * head.stride : nothing;
            to += place_in_panel(steps, step, 0);
            pair_to_bfloat16(from + 2 * step * head.stride, second, width, reinterpret_cast<uint16_t*>(to));
        }
    }
    return values;
}

// 2**((x - max) * factor) in place; returns the sum.
float exponentials(float* scores, int size, float factor) {
    Floats most = all(-INFINITY);
    vectors(size, [&](long at, auto lanes) { most = choose(lanes, max(most, load(scores + at, lanes)), most); });
    const Floats top = all(max_of(most)), scale = all(factor);
    Floats sum = all(0.0f);
    vectors(size, [&](long at, auto lanes) {
        const Floats y = exp2((load(scores + at, lanes) - top) * scale);
        store(scores + at, y, lanes);
        sum = choose(lanes, sum + y, sum);
    });
    return sum_of(sum);
}

}  // namespace

void attend(Format format, const Head& head, float* context, long stride, AttentionRoom& room) {
    const int per = per_step(format);
    const int depth = (head.size + per - 1) / per, key_steps = (head.length + per - 1) / per;
    const long wide = round_up(head.length, kColumns), left_stride = 4L * round_up(depth > key_steps ? depth : key_steps, 16);
    const long panel_bytes = 256L * round_up(depth, kLanes);
    const char* keys = pack_keys(format, head, depth, room);
    const char* values = pack_values(format, head, key_steps, room);
    float* scores = room.scores.as<float>(kRows * wide);
    char* left = room.left.need(kRows * left_stride);
    const float factor = 1.44269504f / std::sqrt(float(head.size));
    alignas(64) float sums[kRows * kColumns];
    RowScale unused;
    float totals[kRows];
    for (int row = 0; row < head.length; row += kRows) {
        const int some = head.length - row < kRows ? head.length - row : kRows;
        for (int r = 0; r < some; ++r)
            to_left(format, head.query + (row + r) * head.stride, head.size, left + r * left_stride, 0, &unused);
        for (int at = 0; at < head.length; at += kColumns) {
            const int rest = head.length - at < kColumns ? head.length - at : kColumns;
            const Tile tile = tile_of(format, some, (rest + kLanes - 1) / kLanes);
            tile(left, left_stride, keys + at / kColumns * panel_bytes, round_up(depth, kLanes), depth, false,
                 reinterpret_cast<char*>(scores + at), wide * 4);
        }
        for (int r = 0; r < some; ++r) {
            totals[r] = exponentials(scores + r * wide, head.length, factor);
            to_left(format, scores + r * wide, head.length, left + r * left_stride, 0, &unused);
        }
        for (int at = 0; at < head.size; at += kColumns) {
            const int width = head.size - at < kColumns ? head.size - at : kColumns;
            const Tile tile = tile_of(format, some, (width + kLanes - 1) / kLanes);
            tile(left, left_stride, values + at / kColumns * key_steps * 256L, key_steps, key_steps, false,
                 reinterpret_cast<char*>(sums), 256);
            for (int r = 0; r < some; ++r)
                vectors(width, [&](long i, auto lanes) {
                    const Floats x = load(sums + r * kColumns + i) * all(1.0f / totals[r]);
                    store(context + (row + r) * stride + at + i, x, lanes);
                });
        }
    }
}

}  // namespace unmask
