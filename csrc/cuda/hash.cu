// The hash of every row, one thread a row, by the same scalar function as on the CPU.
#include "cuda/cuda_ops.h"
#include "cuda/device.h"
#include "scalar.h"

namespace gradsplinter::cuda {
namespace {

constexpr int threads = 256;

__global__ void hash_every_row(const uint64_t* rows, int64_t n, int64_t words, uint64_t* hashes) {
  const int64_t i = int64_t{blockIdx.x} * threads + threadIdx.x;
  if (i < n) hashes[i] = hash_row(rows + i * words, words);
}

}  // namespace

int current_device() { return get_device(); }
void make_current(int device) { set_device(device); }
std::string why_not_driver() { return wrong_driver(); }
std::string why_not_device() { return cannot_run(hash_every_row); }

void hash_rows(const uint64_t* rows, int64_t n, int64_t words, uint64_t* hashes,
               const Device& device) {
  if (n == 0) return;
  launch(hash_every_row, divide_up(n, threads), threads, 0, device.stream, rows, n, words, hashes);
}

}  // namespace gradsplinter::cuda
