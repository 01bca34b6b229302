// The hash of every row, one thread a row, by the same scalar function as on the CPU.
#include "cuda/cuda_ops.h"
#include "cuda/device.h"
#include "cuda/rows.h"

namespace gradsplinter::cuda {
namespace {

constexpr int threads = 256;

template <class Rows>
__global__ void hash_every_row(Rows rows, int64_t n, uint64_t* hashes) {
  const int64_t i = int64_t{blockIdx.x} * threads + threadIdx.x;
  if (i < n) hashes[i] = rows.hash(rows[i]);
}

}  // namespace

int current_device() { return get_device(); }
void make_current(int device) { set_device(device); }
std::string why_not_driver() { return wrong_driver(); }
std::string why_not_device() { return cannot_run(hash_every_row<Rows<uint64_t>>); }

void hash_rows(const uint64_t* rows, int64_t n, int64_t words, uint64_t* hashes,
               const Device& device) {
  if (n == 0) return;
  with_rows(rows, words, ~uint64_t{0}, [&](const auto& all) {
    launch(hash_every_row<std::decay_t<decltype(all)>>, divide_up(n, threads), threads, 0,
           device.stream, all, n, hashes);
  });
}

}  // namespace gradsplinter::cuda
