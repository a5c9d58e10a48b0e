#include "pool.h"

#include <immintrin.h>

#include <new>

namespace unmask {
namespace {

constexpr int kSpins = 20000;  // some 100 microseconds: stages of one forward pass follow each other faster than that

}  // namespace

Pool::Pool(int threads) {
    others_.reserve(threads > 1 ? threads - 1 : 0);
    try {
        for (int thread = 1; thread < threads; ++thread) others_.emplace_back([this, thread] { serve(thread); });
    } catch (...) {
        // the system gives no more of them; those that are there take all the work
    }
    threads_ = 1 + int(others_.size());
}

Pool::~Pool() {
    {
        std::lock_guard<std::mutex> lock(mutex_);
        stop_ = true;
    }
    wake_.notify_all();
    for (auto& other : others_) other.join();
}

void Pool::run(int count, Work work, void* what) {
    if (threads_ == 1 || count == 1) {
        for (int item = 0; item < count; ++item) work(what, item, 0);
        return;
    }
    constexpr int most = kMask / 2;  // of one round; a late thread may count a little further than the last item
    for (int start = 0; start < count; start += most) {
        struct Shifted {
            Work work;
            void* what;
            int start;
        } shifted{work, what, start};
        const int size = count - start < most ? count - start : most;
        work_ = [](void* it, int item, int thread) {
            auto* self = static_cast<Shifted*>(it);
            self->work(self->what, self->start + item, thread);
        };
        what_ = &shifted;
        left_.store(size);
        const uint64_t round = (ticket_.load() >> (2 * kBits)) + 1;
        ticket_.store(round << (2 * kBits) | uint64_t(size) << kBits);
        if (sleepers_.load() > 0) {
            std::lock_guard<std::mutex> lock(mutex_);
            wake_.notify_all();
        }
        take(0);
        for (int spins = 0; left_.load(std::memory_order_acquire) > 0; ++spins) {
            if (spins < kSpins)
                _mm_pause();
            else
                std::this_thread::yield();
        }
        if (failed_.exchange(false)) throw std::bad_alloc();
    }
}

void Pool::take(int thread) {
    for (;;) {
        uint64_t seen = ticket_.load(std::memory_order_acquire);
        if ((seen & kMask) >= ((seen >> kBits) & kMask)) return;
        seen = ticket_.fetch_add(1, std::memory_order_acq_rel);
        const auto item = seen & kMask;
        if (item >= ((seen >> kBits) & kMask)) return;
        try {
            work_(what_, int(item), thread);  // not replaced before this item is done
        } catch (...) {
            failed_ = true;
        }
        left_.fetch_sub(1, std::memory_order_release);
    }
}

void Pool::serve(int thread) {
    for (;;) {
        for (int spins = 0; spins < kSpins; ++spins) {
            const uint64_t seen = ticket_.load(std::memory_order_acquire);
            if ((seen & kMask) < ((seen >> kBits) & kMask)) {
                take(thread);
                spins = 0;
            }
            if (stop_.load(std::memory_order_relaxed)) return;
            _mm_pause();
        }
        std::unique_lock<std::mutex> lock(mutex_);
        sleepers_.fetch_add(1);
        wake_.wait(lock, [this] {
            const uint64_t seen = ticket_.load();
            return stop_.load() || (seen & kMask) < ((seen >> kBits) & kMask);
        });
        sleepers_.fetch_sub(1);
        if (stop_.load()) return;
    }
}

}  // namespace unmask
