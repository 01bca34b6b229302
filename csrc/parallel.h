// Work in independent blocks over OpenMP threads, stopped between blocks when the caller is
// interrupted. Results never depend on which thread takes which block.
#pragma once

#include <omp.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <exception>
#include <type_traits>

#include "float_mode.h"

namespace gradsplinter {

// How a call may run: on how many threads, and what tells that it shall stop (Ctrl-C). Only the
// calling thread asks.
struct Run {
  int threads = 1;
  bool (*interrupted)() = nullptr;
};

struct Interrupted {};

// Asks at most every 50 ms, since asking takes Python's lock.
class Watch {
 public:
  explicit Watch(const Run& run) : run_(run) {}
  bool interrupted() {
    if (run_.interrupted == nullptr) return false;
    const auto now = std::chrono::steady_clock::now();
    if (now - last_ < std::chrono::milliseconds(50)) return false;
    last_ = now;
    return run_.interrupted();
  }

 private:
  const Run& run_;
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

// Whether work shall stop, because the caller was interrupted or another thread has failed.
class Stopping {
 public:
  Stopping(std::atomic<bool>& stop, Watch* watch) : stop_(stop), watch_(watch) {}
  bool operator()() const {
    if (watch_ != nullptr && watch_->interrupted()) stop_ = true;
    return stop_.load(std::memory_order_relaxed);
  }

 private:
  std::atomic<bool>& stop_;
  Watch* watch_;  // of the calling thread only
};

inline int threads_for(int64_t blocks, const Run& run) {
  const int64_t most = blocks < run.threads ? blocks : run.threads;
  return most < 1 ? 1 : static_cast<int>(most);
}

// work(block, thread) for every block in [0, blocks), or work(block, thread, stopping), which may
// return early; thread is in [0, threads_for(blocks, run)). The first error is thrown at the end.
template <class Work>
void parallel_blocks(int64_t blocks, const Run& run, const Work& work) {
  // Blocks are handed out in runs: a block may take less than a microsecond, and cores that write
  // into neighbouring blocks share cache lines.
  const int threads = threads_for(blocks, run);
  const int64_t most = blocks / (threads * int64_t{32});
  const int64_t length = most < 1 ? 1 : most > 16 ? 16 : most;
  alignas(64) std::atomic<int64_t> next{0};
  alignas(64) std::atomic<bool> stop{false};
  std::atomic_flag failed;
  std::exception_ptr error;  // of the first to fail
  const auto loop = [&] {
    const IeeeMode mode;
    const int thread = threads == 1 ? 0 : omp_get_thread_num();  // 0 is the calling thread
    Watch watch(run);
    const Stopping stopping(stop, thread == 0 ? &watch : nullptr);
    try {
      for (int64_t begin; !stopping() && (begin = next.fetch_add(length)) < blocks;) {
        const int64_t end = begin + length < blocks ? begin + length : blocks;
        for (int64_t block = begin; block < end && (block == begin || !stopping()); ++block) {
          if constexpr (std::is_invocable_v<const Work&, int64_t, int, const Stopping&>) {
            work(block, thread, stopping);
          } else {
            work(block, thread);
          }
        }
      }
    } catch (...) {
      if (!failed.test_and_set()) error = std::current_exception();
      stop = true;
    }
  };
  if (threads == 1) {
    loop();
  } else {
#pragma omp parallel num_threads(threads)
    loop();
  }
  if (error) std::rethrow_exception(error);
  if (stop) throw Interrupted{};
}

}  // namespace gradsplinter
