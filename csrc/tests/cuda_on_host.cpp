#include "tests/cuda_on_host.h"

#include <ucontext.h>

#include <algorithm>
#include <deque>
#include <memory>
#include <stdexcept>
#include <unordered_map>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

#pragma GCC diagnostic ignored "-Wclobbered"  // a context is entered once

namespace gradsplinter::cuda::host {
namespace {

constexpr int warp_size = 32;
constexpr size_t stack_size = size_t{128} << 10;
constexpr int64_t resident = 3;  // blocks that run side by side

enum class State { ready, at_block_barrier, at_warp_barrier, done };

struct Copy {
  void* to;
  const void* from;
  size_t bytes;
};

struct Fiber {
  ucontext_t context{};
  size_t index = 0;
  unsigned char* stack = nullptr;
  State state = State::ready;
  Place at{};
  uint64_t value = 0;
  uint64_t warp_values[warp_size] = {};
  int64_t block_sum = 0;
  std::deque<std::vector<Copy>> batches{1};  // of copies ahead; the last one has not ended
  void* fake_stack = nullptr;                // AddressSanitizer's
};

// Stacks are used again and again: to make them takes longer than most threads run.
unsigned char* stack_of(size_t fiber) {
  static std::vector<std::unique_ptr<unsigned char[]>> stacks;
  while (stacks.size() <= fiber) stacks.emplace_back(new unsigned char[stack_size]);
  return stacks[fiber].get();
}

// All threads of the resident blocks, on one thread of the host.
class Scheduler {
 public:
  Scheduler(int64_t blocks, int threads, size_t shared, const std::function<void()>& thread)
      : blocks_(blocks), threads_(threads), shared_(shared), thread_(thread) {
    if (threads % warp_size != 0 || threads > 1024) throw std::logic_error("threads in a block");
  }

  static Scheduler* current;
  Fiber* running = nullptr;

  void run() {
    for (int64_t first = 0; first < blocks_; first += resident) {
      run_blocks(first, std::min(resident, blocks_ - first));
    }
  }

  void yield() {
    Fiber* const fiber = running;
    switch_to(&fiber->context, &main_, &fiber->fake_stack, main_stack_, main_size_);
  }
  // A cache keeps what it was given until it happens to forget it.
  uint64_t through_cache(const void* at, uint64_t value) {
    auto& cache = caches_[running->index / static_cast<size_t>(threads_)];
    uint64_t& kept = cache.try_emplace(at, value).first->second;
    if (random() % 4 == 0) kept = value;
    return kept;
  }
  uint64_t random() {  // xorshift64
    seed_ ^= seed_ << 13;
    seed_ ^= seed_ >> 7;
    return seed_ ^= seed_ << 17;
  }

 private:
  void run_blocks(int64_t first, int64_t count) {
    fibers_.clear();
    memory_.clear();
    caches_.assign(static_cast<size_t>(count), {});
    for (int64_t block = 0; block < count; ++block) {
      memory_.emplace_back(shared_, 0xA5);
      unsigned char* const begin = memory_.back().data();
      for (int t = 0; t < threads_; ++t) {
        auto fiber = std::make_unique<Fiber>();
        fiber->at = {{static_cast<unsigned>(t)},
                     {static_cast<unsigned>(first + block)},
                     {static_cast<unsigned>(blocks_)},
                     begin};
        fiber->index = fibers_.size();
        fiber->stack = stack_of(fiber->index);
        getcontext(&fiber->context);
        fiber->context.uc_stack.ss_sp = fiber->stack;
        fiber->context.uc_stack.ss_size = stack_size;
        fiber->context.uc_link = nullptr;
        makecontext(&fiber->context, enter, 0);
        fibers_.push_back(std::move(fiber));
      }
    }
    ready_.clear();
    for (const auto& fiber : fibers_) ready_.push_back(fiber.get());
    at_warp_barrier_.assign(fibers_.size() / warp_size + 1, 0);
    at_block_barrier_.assign(static_cast<size_t>(count), 0);
    size_t done = 0;
    while (!ready_.empty()) {
      Fiber* const fiber = pick();
      running = fiber;
      switch_to(&main_, &fiber->context, &main_fake_stack_, fiber->stack, stack_size);
      running = nullptr;
      if (error_) std::rethrow_exception(error_);
      const size_t index = fiber->index;
      if (fiber->state == State::ready) ready_.push_back(fiber);
      if (fiber->state == State::done) ++done;
      if (fiber->state == State::at_warp_barrier) {
        arrive(at_warp_barrier_[index / warp_size], index / warp_size * warp_size, warp_size);
      }
      if (fiber->state == State::at_block_barrier) {
        const auto block = static_cast<size_t>(threads_);
        arrive(at_block_barrier_[index / block], index / block * block, block);
      }
    }
    if (done < fibers_.size()) throw std::logic_error("a barrier that not all threads reach");
  }

  // Any one, or as often the one that became ready last: so a warp can run far ahead of others.
  Fiber* pick() {
    if (random() % 2 == 0) std::swap(ready_[random() % ready_.size()], ready_.back());
    Fiber* const fiber = ready_.back();
    ready_.pop_back();
    return fiber;
  }

  // One more fiber of a warp or a block is at its barrier; all of them may pass when they are
  // there.
  void arrive(size_t& count, size_t first, size_t size) {
    if (++count < size) return;
    count = 0;
    uint64_t sum = 0;
    for (size_t i = first; i < first + size; ++i) sum += fibers_[i]->value;
    for (size_t i = first; i < first + size; ++i) {
      Fiber& fiber = *fibers_[i];
      if (fiber.state == State::at_warp_barrier) {
        for (size_t lane = 0; lane < warp_size; ++lane) {
          fiber.warp_values[lane] = fibers_[first + lane]->value;
        }
      }
      fiber.block_sum = static_cast<int64_t>(sum);
      fiber.state = State::ready;
      ready_.push_back(&fiber);
    }
    for (size_t i = size; i > 1; --i) {  // in any order
      std::swap(ready_[ready_.size() - i], ready_[ready_.size() - 1 - random() % i]);
    }
  }

  static void enter() {
    Scheduler& self = *current;
    self.arrived(nullptr);
    try {
      self.thread_();
    } catch (...) {
      self.error_ = std::current_exception();
    }
    self.running->state = State::done;
    self.switch_to(&self.running->context, &self.main_, nullptr, self.main_stack_, self.main_size_);
  }

  void switch_to(ucontext_t* from, ucontext_t* to, [[maybe_unused]] void** keep,
                 [[maybe_unused]] const void* stack, [[maybe_unused]] size_t size) {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(keep, stack, size);
#endif
    swapcontext(from, to);
    arrived(keep != nullptr ? *keep : nullptr);
  }
  void arrived([[maybe_unused]] void* fake_stack) {
#if defined(__SANITIZE_ADDRESS__)
    const void* stack = nullptr;
    size_t size = 0;
    __sanitizer_finish_switch_fiber(fake_stack, &stack, &size);
    if (running != nullptr && main_stack_ == nullptr) main_stack_ = stack, main_size_ = size;
#endif
  }

  int64_t blocks_;
  int threads_;
  size_t shared_;
  const std::function<void()>& thread_;
  std::vector<std::vector<unsigned char>> memory_;                 // shared by a block's threads
  std::vector<std::unordered_map<const void*, uint64_t>> caches_;  // of the blocks
  std::vector<std::unique_ptr<Fiber>> fibers_;
  std::vector<Fiber*> ready_;
  std::vector<size_t> at_warp_barrier_, at_block_barrier_;  // how many of each
  ucontext_t main_{};
  void* main_fake_stack_ = nullptr;
  const void* main_stack_ = nullptr;
  size_t main_size_ = 0;
  std::exception_ptr error_;
  uint64_t seed_ = 0x9E3779B97F4A7C15u;
};

Scheduler* Scheduler::current = nullptr;

void wait(State state) {
  Scheduler::current->running->state = state;
  Scheduler::current->yield();
}

}  // namespace

const Place& place() { return Scheduler::current->running->at; }

void sync_block() { wait(State::at_block_barrier); }

int64_t sum_block(int64_t value) {
  Scheduler::current->running->value = static_cast<uint64_t>(value);
  wait(State::at_block_barrier);
  return Scheduler::current->running->block_sum;
}

const uint64_t* exchange(uint64_t value) {
  Scheduler::current->running->value = value;
  wait(State::at_warp_barrier);
  return Scheduler::current->running->warp_values;
}

void maybe_switch() {
  if (Scheduler::current->random() % 4 == 0) Scheduler::current->yield();
}

uint64_t through_cache(const void* at, uint64_t value) {
  return Scheduler::current->through_cache(at, value);
}

void copy_ahead(void* to, const void* from, size_t bytes) {
  Scheduler::current->running->batches.back().push_back({to, from, bytes});
}

void end_batch() { Scheduler::current->running->batches.emplace_back(); }

void wait_for_batches(size_t but) {
  auto& batches = Scheduler::current->running->batches;
  for (; batches.size() > but + 1; batches.pop_front()) {
    for (const Copy& copy : batches.front()) std::memcpy(copy.to, copy.from, copy.bytes);
  }
}

void run(int64_t blocks, int threads, size_t shared, const std::function<void()>& thread) {
  Scheduler scheduler(blocks, threads, shared, thread);
  Scheduler::current = &scheduler;
  scheduler.run();
}

}  // namespace gradsplinter::cuda::host
