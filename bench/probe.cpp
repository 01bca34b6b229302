// What this machine can do at most, as JSON: fused multiply-adds on all threads, in GFLOP/s for
// float32 and float64, and copying, in GB/s of bytes read and written.
#include <omp.h>

#include <cstdio>
#include <cstring>
#include <vector>

template <class T>
double fma_rate() {
  constexpr int bytes = 64, chains = 14;
  typedef T Vec __attribute__((vector_size(bytes)));
  constexpr long steps = 4'000'000;
  double best = 0;
  for (int round = 0; round < 5; ++round) {
    int threads = 1;
    const double begin = omp_get_wtime();
#pragma omp parallel
    {
#pragma omp single
      threads = omp_get_num_threads();
      Vec acc[chains], factor = Vec{} + T(0.999), term = Vec{} + T(0.001);
      for (int c = 0; c < chains; ++c) acc[c] = Vec{} + static_cast<T>(c);
      for (long i = 0; i < steps; ++i) {
#pragma GCC unroll 14
        for (int c = 0; c < chains; ++c) acc[c] = acc[c] * factor + term;  // contracted to one fma
      }
      for (int c = 0; c < chains; ++c) asm volatile("" : : "m"(acc[c]));
    }
    const double flops = 2.0 * steps * chains * (bytes / sizeof(T)) * threads;
    const double rate = flops / (omp_get_wtime() - begin) / 1e9;
    best = rate > best ? rate : best;
  }
  return best;
}

double copy_rate() {
  constexpr long size = 256L << 20;
  std::vector<char> from(size, 1), to(size, 2);
  double best = 0;
  for (int round = 0; round < 5; ++round) {
    const double begin = omp_get_wtime();
#pragma omp parallel
    {
      const long threads = omp_get_num_threads(), t = omp_get_thread_num();
      const long first = size * t / threads, last = size * (t + 1) / threads;
      std::memcpy(to.data() + first, from.data() + first, static_cast<size_t>(last - first));
    }
    const double rate = 2.0 * size / (omp_get_wtime() - begin) / 1e9;
    best = rate > best ? rate : best;
  }
  return best;
}

int main() {
  std::printf("{\"float32\": %.1f, \"float64\": %.1f, \"copy\": %.1f}\n", fma_rate<float>(),
              fma_rate<double>(), copy_rate());
}
