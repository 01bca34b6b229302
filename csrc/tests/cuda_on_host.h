// CUDA kernels as C++ on the host, for tests: every thread of a block is a fiber, and the fibers of
// a few blocks take turns in a random order, at barriers, warp functions and atomics. What the real
// thing leaves undefined is an error here: a barrier that a thread of the block never reaches, a
// warp function without all of the warp. Shared memory is poisoned before a block starts.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>

#include "cuda/cuda_ops.h"
#include "cuda/limits.h"

#define __global__
#define __device__
#define __host__
#define __launch_bounds__(...)

namespace gradsplinter::cuda {

namespace host {

struct Index {
  unsigned x;
};
struct Place {
  Index thread, block, blocks;
  unsigned char* shared;
};
const Place& place();

void sync_block();
int64_t sum_block(int64_t value);  // of all threads, with a barrier
// The values of the 32 lanes of the warp, valid until the next call.
const uint64_t* exchange(uint64_t value);
void maybe_switch();  // to another thread
// What the block's first cache shows where memory holds `value`: that, or what it held before.
uint64_t through_cache(const void* at, uint64_t value);

// Copies of this thread that are done no sooner than they are waited for.
void copy_ahead(void* to, const void* from, size_t bytes);
void end_batch();
void wait_for_batches(size_t but);

void run(int64_t blocks, int threads, size_t shared, const std::function<void()>& thread);

template <class T>
uint64_t bits_of(T value) {
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  return bits;
}
template <class T>
T value_of(uint64_t bits) {
  T value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

}  // namespace host

#define threadIdx (::gradsplinter::cuda::host::place().thread)
#define blockIdx (::gradsplinter::cuda::host::place().block)
#define gridDim (::gradsplinter::cuda::host::place().blocks)

inline int multiprocessors(int) { return 3; }
inline int most_shared(int) { return 96 * 1024; }

inline void clear(void* memory, size_t bytes, void*) { std::memset(memory, 0, bytes); }
inline void copy(void* to, const void* from, size_t bytes, void*) {
  if (bytes > 0) std::memcpy(to, from, bytes);
}
template <class T>
void read(T* to, const T* from, size_t count, const Device& device) {
  device.wait([&] { std::memcpy(to, from, count * sizeof(T)); });
}

inline void wait_for_device(const Device& device) {
  device.wait([] {});
}

inline int get_device() { return 0; }
inline void set_device(int) {}
inline std::string wrong_driver() { return ""; }
template <class... Parameters>
std::string cannot_run(void (*)(Parameters...)) {
  return "";
}

template <class... Parameters>
int resident_blocks(void (*)(Parameters...), int, size_t) {
  return 2;
}
template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), int64_t blocks, int threads, size_t shared, void*,
            Arguments... arguments) {
  check_launch(blocks, threads, shared);
  host::run(blocks, threads, shared, [&] { kernel(arguments...); });
}

template <class T>
T* shared_memory() {
  return reinterpret_cast<T*>(host::place().shared);
}

using std::fabs;
using std::max;
using std::min;
using std::sqrt;
inline float fused(float a, float b, float c) { return std::fma(a, b, c); }
inline double fused(double a, double b, double c) { return std::fma(a, b, c); }

template <class T>
T relu(T value) {
  return value > T(0) ? value : T(0);
}

template <class T>
T fresh(const T* at) {
  const T value = *at;
  host::maybe_switch();  // and so what is done with the value may come too late
  return value;
}

template <class T>
T cached(const T* at) {
  host::maybe_switch();
  return host::value_of<T>(host::through_cache(at, host::bits_of(*at)));
}

template <int bytes>
void copy_ahead(void* shared, const void* from) {
  static_assert(bytes == 4 || bytes == 8 || bytes == 16);
  host::copy_ahead(shared, from, bytes);
}
inline void end_batch() { host::end_batch(); }
template <int but>
void wait_for_batches() {
  host::wait_for_batches(but);
}

inline void __syncthreads() { host::sync_block(); }
inline void __syncwarp() { host::exchange(0); }
inline int __syncthreads_count(bool value) { return static_cast<int>(host::sum_block(value)); }
inline unsigned __ballot_sync(unsigned, bool value) {
  const uint64_t* values = host::exchange(value);
  unsigned bits = 0;
  for (unsigned lane = 0; lane < 32; ++lane) bits |= static_cast<unsigned>(values[lane]) << lane;
  return bits;
}
template <class T>
T __shfl_xor_sync(unsigned, T value, int mask) {
  const int lane = static_cast<int>(threadIdx.x % 32) ^ mask;
  return host::value_of<T>(host::exchange(host::bits_of(value))[lane]);
}

template <class T>
T __shfl_sync(unsigned, T value, int lane) {
  return host::value_of<T>(host::exchange(host::bits_of(value))[lane]);
}
template <class T>
T __shfl_up_sync(unsigned, T value, int distance) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  const uint64_t* const values = host::exchange(host::bits_of(value));
  return host::value_of<T>(values[lane < distance ? lane : lane - distance]);
}

inline int __ffs(unsigned bits) { return __builtin_ffs(static_cast<int>(bits)); }
inline int __ffsll(uint64_t bits) { return __builtin_ffsll(static_cast<long long>(bits)); }
inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int __popcll(uint64_t bits) { return __builtin_popcountll(bits); }

template <class T>
T atomicAdd(T* at, T value) {
  host::maybe_switch();
  const T before = *at;
  *at = before + value;
  return before;
}
template <class T>
T atomicSub(T* at, T value) {
  return atomicAdd(at, T(0) - value);
}
template <class T>
T atomicMin(T* at, T value) {
  host::maybe_switch();
  const T before = *at;
  if (value < before) *at = value;
  return before;
}
template <class T>
T atomicMax(T* at, T value) {
  host::maybe_switch();
  const T before = *at;
  if (before < value) *at = value;
  return before;
}
template <class T>
T atomicOr(T* at, T value) {
  host::maybe_switch();
  const T before = *at;
  *at = before | value;
  return before;
}
template <class T>
T atomicCAS(T* at, T expected, T desired) {
  host::maybe_switch();
  const T before = *at;
  if (before == expected) *at = desired;
  return before;
}

}  // namespace gradsplinter::cuda
