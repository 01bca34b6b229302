// The hash of every row, one thread a row, by the same scalar function as on the CPU.
#include <stdexcept>
#include <string>

#include "ops.h"
#include "scalar.h"

namespace gradsplinter::cuda {
namespace {

constexpr int threads_per_block = 256;

__global__ void hash_rows_kernel(const uint64_t* rows, int64_t n, int64_t words, uint64_t* hashes) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * threads_per_block + threadIdx.x;
  if (i < n) hashes[i] = hash_row(rows + i * words, words);
}

void check(cudaError_t status, const char* what) {
  if (status != cudaSuccess) {
    throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(status));
  }
}

// Makes a device current, and the caller's device current again at the end.
class OnDevice {
 public:
  explicit OnDevice(int device) {
    check(cudaGetDevice(&before_), "cudaGetDevice");
    check(cudaSetDevice(device), "cudaSetDevice");
  }
  ~OnDevice() { cudaSetDevice(before_); }
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;

 private:
  int before_ = 0;
};

}  // namespace

void hash_rows(const uint64_t* rows, int64_t n, int64_t words, uint64_t* hashes, int device,
               void* stream) {
  if (n == 0) return;
  const OnDevice on(device);
  const int64_t blocks = (n + threads_per_block - 1) / threads_per_block;
  hash_rows_kernel<<<static_cast<unsigned>(blocks), threads_per_block, 0,
                     static_cast<cudaStream_t>(stream)>>>(rows, n, words, hashes);
  check(cudaGetLastError(), "hash_rows");
}

}  // namespace gradsplinter::cuda
