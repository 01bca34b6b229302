// The test program, and the tests of what all operations share: the choice of an instruction set,
// and blocks of work over threads.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <atomic>
#include <cfenv>
#include <chrono>
#include <cmath>
#include <stdexcept>
#include <string>
#include <thread>

#include "buffer.h"
#include "testing.h"

namespace gradsplinter {
namespace {

TEST_CASE("dispatch: portable is always there, after the faster ones") {
  const std::vector<const char*> sets = instruction_sets();
  REQUIRE(!sets.empty());
  CHECK(std::string(sets.back()) == "portable");
#if defined(__aarch64__)
  CHECK(std::string(sets.front()) == "neon");
#endif
}

TEST_CASE("dispatch: the kernels are those that were asked for") {
  on_every_instruction_set([] {
    for (const char* name : instruction_sets()) {
      use(name);
      CHECK(std::string(kernels().name) == name);
    }
  });
}

TEST_CASE("dispatch: an instruction set that the CPU lacks is refused, and nothing changes") {
  std::string names;
  for (const char* name : instruction_sets())
    names += (names.empty() ? "" : ", ") + std::string(name);
  const std::string before = kernels().name;
  for (const char* name : {"sse9", "", "AVX2", "portable "}) {
    const std::string text =
        "the instruction set must be one that this CPU can run (" + names + "), got '" + name + "'";
    CHECK_THROWS_WITH_AS(use(name), text.c_str(), std::invalid_argument);
    CHECK(kernels().name == before);
  }
}

TEST_CASE("dispatch: sets differ in their lanes, and their tiles are whole bytes of a word") {
  on_every_instruction_set([] {
    const Kernels& k = kernels();
    CHECK((k.f32.lanes == 2 * k.f64.lanes || k.f32.lanes == 1));
    for (const int64_t tile : {k.f32.tile, k.f64.tile}) {
      CHECK(64 % tile == 0);
      CHECK(tile % 8 == 0);
    }
    CHECK(k.f32.tile % k.f32.lanes == 0);
    CHECK(k.f64.tile % k.f64.lanes == 0);
  });
}

TEST_CASE("parallel: every block once, on a thread that has scratch memory") {
  for (const int threads : {0, 1, 2, 3, 7}) {
    for (const int64_t blocks : {0, 1, 2, 3, 100}) {
      CAPTURE(threads);
      CAPTURE(blocks);
      const Run run{threads};
      std::vector<std::atomic<int>> done(static_cast<size_t>(blocks));
      std::atomic<bool> in_range{true};
      parallel_blocks(blocks, run, [&](int64_t block, int thread) {
        ++done[static_cast<size_t>(block)];
        if (thread < 0 || thread >= threads_for(blocks, run)) in_range = false;
      });
      for (const std::atomic<int>& times : done) CHECK(times == 1);
      CHECK(in_range);
    }
  }
}

TEST_CASE("parallel: an interrupt stops the work between blocks") {
  static const std::thread::id caller = std::this_thread::get_id();
  static std::atomic<bool> asked_by_another{false};
  for (const int threads : {1, 2}) {
    CAPTURE(threads);
    const Run run{threads, [] {
                    if (std::this_thread::get_id() != caller) asked_by_another = true;
                    return true;
                  }};
    std::atomic<int> done{0};
    const auto work = [&](int64_t, int) {
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
      ++done;
    };
    CHECK_THROWS_AS(parallel_blocks(100000, run, work), Interrupted);
    CHECK(done > 0);
    CHECK(done < 100000);
  }
  CHECK(!asked_by_another);
}

TEST_CASE("parallel: a block may ask within itself") {
  for (const int threads : {1, 2}) {
    CAPTURE(threads);
    const Run run{threads, [] { return true; }};
    std::atomic<int> asked{0};
    const auto work = [&](int64_t, int, const Stopping& stopping) {
      while (!stopping()) {
        ++asked;
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      }
    };
    CHECK_THROWS_AS(parallel_blocks(threads, run, work), Interrupted);
    CHECK(asked > 0);
  }
}

TEST_CASE("parallel: an error in a block is thrown, and stops the others") {
  for (const int threads : {1, 2, 3}) {
    CAPTURE(threads);
    std::atomic<int> done{0};
    const auto work = [&](int64_t block, int) {
      if (block == 7) throw std::bad_alloc();
      std::this_thread::sleep_for(std::chrono::microseconds(10));
      ++done;
    };
    CHECK_THROWS_AS(parallel_blocks(100000, Run{threads}, work), std::bad_alloc);
    CHECK(done >= 7);
    CHECK(done < 100000);
  }
}

TEST_CASE("parallel: work goes on where nothing interrupts") {
  const Run run{2, [] { return false; }};
  std::atomic<int> done{0};
  parallel_blocks(60, run, [&](int64_t, int) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));  // longer than a Watch waits to ask
    ++done;
  });
  CHECK(done == 60);
}

// Flushing of subnormal numbers to zero in this thread, as torch.set_flush_denormal turns it on.
void flush_subnormals(bool on) {
#if defined(__x86_64__)
  constexpr unsigned int bits = 0x8040;  // FTZ and DAZ
  _mm_setcsr(on ? _mm_getcsr() | bits : _mm_getcsr() & ~bits);
#elif defined(__aarch64__)
  const uint64_t control = on ? uint64_t{1} << 24 : 0;  // FZ
  asm volatile("msr fpcr, %0" ::"r"(control));
#else
  static_cast<void>(on);
#endif
}

TEST_CASE_TEMPLATE("float mode: the caller's does not change results, and is kept", T, float,
                   double) {
  // A subnormal weight turns the unit on; a third is rounded, up if the mode were obeyed.
  const T tiny = std::numeric_limits<T>::denorm_min(), third = T(1) / 3;
  // The smallest gradient whose square is not zero in float64.
  const T small = std::ldexp(T(1), sizeof(T) == 4 ? -149 : -537);
  const T one = 1, zero = 0, directions[2] = {third, 1};
  const std::vector<Layer<T>> forward = {{&tiny, &zero, 1, 1}, {&third, &third, 1, 1}};
  const T column[2] = {third, tiny};
  const std::vector<Layer<T>> backward = {{column, nullptr, 1, 2}},
                              deep = {{&third, nullptr, 1, 1}, {column, nullptr, 1, 2}};
  const uint64_t on = 1;
  struct Results {
    Output<uint64_t> bits{1};
    Output<T> values{8};
  };
  const auto compute = [&](Results& r) {
    T* to = r.values.data();
    signatures(forward, {1}, &one, 1, r.bits.data(), to, {1});
    jacobian(backward, true, nullptr, 1, directions, 1, to + 1, {1});
    jacobian(deep, true, &on, 1, directions, 1, to + 2, {1});
    cross(directions, 1, 2, 1, false, to + 3, {1});
    cross(&small, 1, 1, 1, true, to + 7, {1});
  };
  on_every_instruction_set([&] {
    Results expected;
    compute(expected);
    CHECK(*expected.bits.data() == 1);
    CHECK(expected.values.data()[7] == 1);
    Results rounded, flushed;
    REQUIRE(std::fesetround(FE_UPWARD) == 0);
    compute(rounded);
    const int mode_after = std::fegetround();
    std::fesetround(FE_TONEAREST);
    flush_subnormals(true);
    compute(flushed);
    volatile T half = std::numeric_limits<T>::min();
    half = half / 2;
    const bool still_flushing = half == 0;
    flush_subnormals(false);
    CHECK(mode_after == FE_UPWARD);
#if defined(__x86_64__) || defined(__aarch64__)
    CHECK(still_flushing);
#endif
    for (Results* other : {&rounded, &flushed}) {
      other->bits.check(expected.bits.data());
      other->values.check(expected.values.data());
    }
  });
}

TEST_CASE("buffer: aligned to a cache line, also when empty") {
  for (const int64_t size : {0, 1, 3, 1000}) {
    const Buffer<float> buffer(size);
    CHECK(reinterpret_cast<uintptr_t>(buffer.get()) % 64 == 0);
  }
  CHECK(round_up(0, 8) == 0);
  CHECK(round_up(1, 8) == 8);
  CHECK(round_up(8, 8) == 8);
  CHECK(round_up(9, 8) == 16);
}

}  // namespace
}  // namespace gradsplinter
