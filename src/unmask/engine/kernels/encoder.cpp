#include "encoder.h"

#include <algorithm>
#include <cstring>

#include "rows.h"
#include "vec.h"

namespace unmask {
namespace {

constexpr int kBlockRows = 48;  // tokens that go through a whole layer together, all their numbers in L2

constexpr int kFewRows = 24;    // a thread with fewer would read all weights for too little work
constexpr double kLittle = 4e6;  // products a layer that one thread has done before others have got their numbers
constexpr int kEnough = 8;      // blocks a thread, so that the last one to end is not waited for long

// How the parts of a block are done: by this thread, one after the other ...
struct Alone {
    template <typename Call>
    void columns(int count, Call&& call) const {
        for (int i = 0; i < count; ++i) call(i);
    }
    template <typename Call>
    void rows(int count, Call&& call) const {
        columns(count, call);
    }
};

// ... or by all of them; rows, of which there is little to do, in handfuls.
struct Together {
    Pool& pool;

    template <typename Call>
    void columns(int count, Call&& call) const {
        pool.each(count, [&](int item, int) { call(item); });
    }
    template <typename Call>
    void rows(int count, Call&& call) const {
        constexpr int some = 16;
        pool.each((count + some - 1) / some, [&](int item, int) {
            for (int i = item * some; i < std::min(count, (item + 1) * some); ++i) call(i);
        });
    }
};

const float* floats(const Buffer& buffer) { return reinterpret_cast<const float*>(buffer.data()); }

class Pass {
  public:
    Pass(const Encoder& encoder, const Batch& batch, Pool& pool, Room& room)
        : encoder_(encoder), batch_(batch), pool_(pool), room_(room), size_(encoder.hidden), tokens_(int(batch.starts[batch.texts])) {
        is_little_ = double(tokens_) * size_ * (4.0 * size_ + 2.0 * encoder.wide) < kLittle;
        hidden_ = room.hidden.as<float>(size_t(tokens_) * size_);
        context_ = room.context.as<float>(size_t(tokens_) * size_);
        qkv_ = room.qkv.as<float>(size_t(tokens_) * 3 * size_);
        room.blocks.resize(std::max<size_t>(room.blocks.size(), pool.threads()));
        room.heads.resize(std::max<size_t>(room.heads.size(), pool.threads()));
    }

    void run() {
        const int depth = int(encoder_.layers.size());
        in_blocks(tokens_, [&](Block& block, int first, int rows, auto each) {
            each.rows(rows, [&](int r) { embed(first + r); });
            queries(block, 0, first, rows, each);
        });
        keep(0, tokens_);
        for (int layer = 0; layer < depth; ++layer) {
            attention();
            const bool is_last = layer + 1 == depth;
            const int64_t* places = is_last ? batch_.needed : nullptr;
            in_blocks(places ? batch_.num_needed : tokens_, [&](Block& block, int first, int rows, auto each) {
                feed(block, layer, first, rows, places, is_last ? batch_.out : hidden_, each);
                if (!is_last) queries(block, layer + 1, first, rows, each);
            });
            if (!is_last) keep(layer + 1, tokens_);
        }
        if (batch_.states) std::memcpy(batch_.states + size_t(depth) * tokens_ * size_, batch_.out, sizeof(float) * size_t(tokens_) * size_);
    }

  private:
    using Block = Room::Block;

    // Many tokens: each block of them is one thread's work. Few: one block, whose columns are shared out.
    template <typename Body>
    void in_blocks(int rows, Body&& body) {
        const int threads = pool_.threads();
        if (is_little_) {
            body(room_.blocks[0], 0, rows, Alone{});
            return;
        }
        if (threads > 1 && rows < threads * kFewRows) {
            body(room_.blocks[0], 0, rows, Together{pool_});
            return;
        }
        const int tiles = (rows + kRows - 1) / kRows;
        int blocks = (rows + kBlockRows - 1) / kBlockRows;
        if (blocks < kEnough * threads) blocks = std::min(tiles, round_up(blocks, threads));
        pool_.each(blocks, [&](int item, int thread) {
            const int first = int(int64_t(tiles) * item / blocks) * kRows;
            const int last = std::min(rows, int(int64_t(tiles) * (item + 1) / blocks) * kRows);
            body(room_.blocks[thread], first, last - first, Alone{});
        });
    }

    template <typename Each>
    void product(const Linear& layer, Block& block, int rows, const Target& target, Each each) {
        const char* left = block.left.data();
        const auto* scales = reinterpret_cast<const RowScale*>(block.scales.data());
        each.columns(layer.panels(), [&](int panel) { multiply(layer, left, scales, rows, panel, panel + 1, target); });
    }

    // Rows that `row(r)` points to become the left-hand side of `layer`.
    template <typename Each, typename Row>
    void prepare(const Linear& layer, Block& block, int rows, Each each, Row row) {
        char* left = block.left.need(size_t(rows) * layer.left_stride());
        auto* scales = block.scales.as<RowScale>(rows);
        each.rows(rows, [&, left, scales](int r) {
            to_left(layer.format, row(r), layer.inputs, left + r * layer.left_stride(), layer.left_stride(), scales + r);
        });
    }

    void embed(int token) {
        float* to = hidden_ + size_t(token) * size_;
        const float* word = encoder_.word + batch_.ids[token] * size_;
        const float* position = encoder_.position + batch_.positions[token] * size_;
        const float* type = encoder_.type + (batch_.types ? batch_.types[token] * size_ : 0);
        vectors(size_, [&](long at, auto lanes) {
            store(to + at, load(word + at, lanes) + load(position + at, lanes) + load(type + at, lanes), lanes);
        });
        layer_norm(to, floats(encoder_.norm.weight), floats(encoder_.norm.bias), encoder_.eps, size_, to);
    }

    template <typename Each>
    void queries(Block& block, int layer, int first, int rows, Each each) {
        const Linear& product_ = encoder_.layers[layer].products[0];
        const float* from = hidden_ + size_t(first) * size_;
        prepare(product_, block, rows, each, [&](int r) { return from + size_t(r) * size_; });
        product(product_, block, rows, {Then::kNothing, qkv_ + size_t(first) * 3 * size_, 3L * size_}, each);
    }

    void attention() {
        const int size = size_ / encoder_.heads;
        auto head = [&](int item, int thread) {
            const int text = item / encoder_.heads, place = item % encoder_.heads * size;
            const int64_t start = batch_.starts[text];
            const float* query = qkv_ + start * 3 * size_ + place;
            const Head own{query, query + size_, query + 2 * size_, 3L * size_, int(batch_.starts[text + 1] - start), size};
            attend(encoder_.attention, own, context_ + start * size_ + place, size_, room_.heads[thread]);
        };
        const int count = batch_.texts * encoder_.heads;
        if (!is_little_) return pool_.each(count, head);
        for (int item = 0; item < count; ++item) head(item, 0);
    }

    // From the context to the layer's output, in rows first .. of `places` (or of all tokens).
    template <typename Each>
    void feed(Block& block, int layer, int first, int rows, const int64_t* places, float* to, Each each) {
        const Layer& own = encoder_.layers[layer];
        const Linear &joined = own.products[1], &up = own.products[2], &down = own.products[3];
        float* residual = block.residual.as<float>(size_t(rows) * size_);
        float* sums = block.sums.as<float>(size_t(rows) * size_);
        float* wide = block.wide.as<float>(size_t(rows) * encoder_.wide);
        const auto place = [&](int r) { return size_t(places ? places[first + r] : first + r) * size_; };
        each.rows(rows, [&](int r) { std::memcpy(residual + size_t(r) * size_, hidden_ + place(r), sizeof(float) * size_); });
        prepare(joined, block, rows, each, [&](int r) { return context_ + place(r); });
        product(joined, block, rows, {Then::kAdd, sums, size_, residual}, each);
        each.rows(rows, [&](int r) { normalise(own.norms[0], sums + size_t(r) * size_, residual + size_t(r) * size_); });
        prepare(up, block, rows, each, [&](int r) { return residual + size_t(r) * size_; });
        product(up, block, rows, {Then::kGelu, wide, encoder_.wide}, each);
        prepare(down, block, rows, each, [&](int r) { return wide + size_t(r) * encoder_.wide; });
        product(down, block, rows, {Then::kAdd, sums, size_, residual}, each);
        each.rows(rows, [&](int r) { normalise(own.norms[1], sums + size_t(r) * size_, to + size_t(first + r) * size_); });
    }

    void normalise(const Norm& norm, const float* from, float* to) const {
        layer_norm(from, floats(norm.weight), floats(norm.bias), encoder_.eps, size_, to);
    }

    void keep(int index, int rows) {
        if (batch_.states) std::memcpy(batch_.states + size_t(index) * rows * size_, hidden_, sizeof(float) * size_t(rows) * size_);
    }

    const Encoder& encoder_;
    const Batch& batch_;
    Pool& pool_;
    Room& room_;
    int size_, tokens_;
    bool is_little_;
    float *hidden_, *context_, *qkv_;
};

}  // namespace

void encode(const Encoder& encoder, const Batch& batch, Pool& pool, Room& room) { Pass(encoder, batch, pool, room).run(); }

}  // namespace unmask
