// Threads that take numbered items of work as they come free, so that a core busy elsewhere costs only its own share.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

namespace unmask {

class Pool {
  public:
    using Work = void (*)(void* what, int item, int thread);

    explicit Pool(int threads);
    ~Pool();
    Pool(const Pool&) = delete;
    Pool& operator=(const Pool&) = delete;

    // Calls work(what, item, thread) for each item of 0 .. count - 1, on this thread too, and waits for the last one.
    // Throws std::bad_alloc behind it if one has thrown: work throws nothing else.
    void run(int count, Work work, void* what);

    template <typename Call>
    void each(int count, Call&& call) {
        using Body = std::remove_reference_t<Call>;
        run(count, [](void* what, int item, int thread) { (*static_cast<Body*>(what))(item, thread); }, &call);
    }

    int threads() const { return threads_; }

  private:
    void take(int thread);
    void serve(int thread);

    // One word says it all: round (24 bits), number of items (20), next item (20). Whoever adds 1 owns the item it saw.
    static constexpr int kBits = 20;
    static constexpr uint64_t kMask = (1u << kBits) - 1;

    int threads_ = 1;
    std::atomic<uint64_t> ticket_{0};
    std::atomic<int> left_{0};
    std::atomic<int> sleepers_{0};
    std::atomic<bool> stop_{false};
    std::atomic<bool> failed_{false};
    Work work_ = nullptr;
    void* what_ = nullptr;
    std::mutex mutex_;
    std::condition_variable wake_;
    std::vector<std::thread> others_;
};

}  // namespace unmask
