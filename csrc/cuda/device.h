// What the CUDA sources stand on: the runtime with its errors checked, launches, shared memory, the
// few functions that only a GPU has. Compiled by a C++ compiler instead (csrc/tests/cuda_on_host.h)
// the same kernels run on the CPU, thread by thread, for tests where there is no GPU.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cuda/cuda_ops.h"
#include "cuda/limits.h"

#ifdef __CUDACC__

#include <cuda_pipeline.h>
#include <cuda_runtime.h>

namespace gradsplinter::cuda {

inline void check(cudaError_t status, const char* what) {
  if (status != cudaSuccess) {
    throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(status));
  }
}

inline int attribute(cudaDeviceAttr name, int device) {
  int value = 0;
  check(cudaDeviceGetAttribute(&value, name, device), "cudaDeviceGetAttribute");
  return value;
}
inline int multiprocessors(int device) { return attribute(cudaDevAttrMultiProcessorCount, device); }
// Bytes of shared memory that a block can ask for.
inline int most_shared(int device) {
  return attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
}

inline void clear(void* memory, size_t bytes, void* stream) {
  check(cudaMemsetAsync(memory, 0, bytes, static_cast<cudaStream_t>(stream)), "cudaMemsetAsync");
}

// From device memory to device memory.
inline void copy(void* to, const void* from, size_t bytes, void* stream) {
  if (bytes == 0) return;
  check(
      cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, static_cast<cudaStream_t>(stream)),
      "cudaMemcpyAsync");
}

// Waits for the stream. The copy waits too: it goes to memory that is not pinned.
template <class T>
void read(T* to, const T* from, size_t count, const Device& device) {
  const auto on = static_cast<cudaStream_t>(device.stream);
  device.wait([&] {
    check(cudaMemcpyAsync(to, from, count * sizeof(T), cudaMemcpyDeviceToHost, on), "cudaMemcpy");
    check(cudaStreamSynchronize(on), "cudaStreamSynchronize");
  });
}

// For the work on all of a device's streams.
inline void wait_for_device(const Device& device) {
  device.wait([] { check(cudaDeviceSynchronize(), "cudaDeviceSynchronize"); });
}

// Lets blocks of a kernel ask for so many bytes.
template <class... Parameters>
void allow_shared(void (*kernel)(Parameters...), size_t bytes) {
  if (bytes <= 48 * 1024) return;
  check(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                             cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)),
        "cudaFuncSetAttribute");
}

// Blocks of a kernel that a multiprocessor runs at a time.
template <class... Parameters>
int resident_blocks(void (*kernel)(Parameters...), int threads, size_t shared) {
  allow_shared(kernel, shared);
  int blocks = 0;
  check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel, threads, shared),
        "cudaOccupancyMaxActiveBlocksPerMultiprocessor");
  return blocks;
}

inline int get_device() {
  int device = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  return device;
}

inline void set_device(int device) { check(cudaSetDevice(device), "cudaSetDevice"); }

// Why the driver will not do; empty if it will.
inline std::string wrong_driver() {
  const auto version = [](int number) {
    return std::to_string(number / 1000) + "." + std::to_string(number % 1000 / 10);
  };
  int driver = 0, runtime = 0;
  check(cudaDriverGetVersion(&driver), "cudaDriverGetVersion");
  check(cudaRuntimeGetVersion(&runtime), "cudaRuntimeGetVersion");
  if (driver == 0) return "there is no driver";
  if (driver / 1000 < runtime / 1000) {  // an older one of the same major version will do
    return "its driver is for CUDA " + version(driver) + ", the kernels were built with " +
           version(runtime) + " (update the driver, or build with an older CUDA)";
  }
  return "";
}

// Why the current device cannot run a kernel; empty if it can.
template <class... Parameters>
std::string cannot_run(void (*kernel)(Parameters...)) {
  cudaFuncAttributes attributes;
  const cudaError_t status = cudaFuncGetAttributes(&attributes, kernel);
  if (status == cudaSuccess) return "";
  cudaGetLastError();  // or the next launch would report it
  return cudaGetErrorString(status);
}

// kernel(arguments...) by `blocks` blocks of `threads` threads with `shared` bytes each.
template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), int64_t blocks, int threads, size_t shared, void* stream,
            Arguments... arguments) {
  check_launch(blocks, threads, shared);
  allow_shared(kernel, shared);
  kernel<<<static_cast<unsigned>(blocks), static_cast<unsigned>(threads), shared,
           static_cast<cudaStream_t>(stream)>>>(arguments...);
  check(cudaGetLastError(), "launch");
}

// Shared memory of the block, `shared` bytes of which were asked for at the launch.
template <class T>
__device__ T* shared_memory() {
  extern __shared__ __align__(16) unsigned char memory[];
  return reinterpret_cast<T*>(memory);
}

__device__ inline float fused(float a, float b, float c) { return __fmaf_rn(a, b, c); }
__device__ inline double fused(double a, double b, double c) { return __fma_rn(a, b, c); }

// Of NaN and of -0: 0.
__device__ inline float relu(float value) { return fmaxf(value, 0.0f); }
__device__ inline double relu(double value) { return value > 0 ? value : 0; }

// A load that sees what other threads have written meanwhile.
template <class T>
__device__ T fresh(const T* at) {
  return *static_cast<const volatile T*>(at);
}

// A load that may see what the first cache still has: any value since the kernel began.
template <class T>
__device__ T cached(const T* at) {
  return __ldca(at);
}

// Copies 4, 8 or 16 bytes to shared memory while the thread goes on. The second cache fetches the
// 128 bytes around them.
template <int bytes>
__device__ void copy_ahead(void* shared, const void* from) {
  const auto to = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  if constexpr (bytes == 16) {
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16;" ::"r"(to), "l"(from)
                 : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global.L2::128B [%0], [%1], %2;" ::"r"(to), "l"(from),
                 "n"(bytes)
                 : "memory");
  }
}
// Ends a batch of such copies.
__device__ inline void end_batch() { __pipeline_commit(); }
// Waits for all of this thread's batches but the last so many.
template <int but>
__device__ void wait_for_batches() {
  __pipeline_wait_prior(but);
}

}  // namespace gradsplinter::cuda

#else
#include "tests/cuda_on_host.h"
#endif

namespace gradsplinter::cuda {

constexpr int warp = 32;
constexpr unsigned all_lanes = 0xFFFFFFFFu;

// 16 bytes that are loaded and stored at once.
template <class T>
struct alignas(16) Vector {
  static constexpr int lanes = 16 / sizeof(T);
  T at[lanes];
};

template <class T>
bool aligned(const T* pointer) {
  return reinterpret_cast<uintptr_t>(pointer) % 16 == 0;
}

// Whether a number of at least 0 is more: by the sign of its negative, in a register that the next
// shift takes it from.
__device__ inline uint32_t is_positive(float value) {
  const float negative = 0.0f - value;
  uint32_t bits;
  __builtin_memcpy(&bits, &negative, sizeof bits);
  return bits >> 31;
}
__device__ inline uint32_t is_positive(double value) { return value > 0; }

inline int64_t divide_up(int64_t value, int64_t by) { return (value + by - 1) / by; }

}  // namespace gradsplinter::cuda
