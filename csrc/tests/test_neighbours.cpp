// Rows joined by angle, against all pairs; and the sets that threads share (`make tsan`).
#include <algorithm>
#include <cmath>
#include <numeric>
#include <thread>

#include "sets.h"
#include "testing.h"

namespace gradsplinter {
namespace {

// Entry k in partial sum k mod 16, and the sums by halves.
template <class T>
double plain_dot(const T* a, const T* b, int64_t width) {
  double sums[16] = {};
  for (int64_t k = 0; k < width; ++k) {
    sums[k % 16] = std::fma(static_cast<double>(a[k]), static_cast<double>(b[k]), sums[k % 16]);
  }
  for (int step = 8; step > 0; step /= 2) {
    for (int i = 0; i < step; ++i) sums[i] += sums[i + step];
  }
  return sums[0];
}

TEST_CASE_TEMPLATE("neighbours: dot products of every width and count", T, float, double) {
  on_every_instruction_set([] {
    Random random(1);
    for (const int64_t width : {0, 1, 2, 7, 8, 15, 16, 17, 31, 32, 33, 47, 100}) {
      CAPTURE(width);
      constexpr int64_t n = 12;
      const Input<T> rows(n * width, [&] { return random.uniform<T>(); });
      for (int64_t count = 0; count < 7; ++count) {
        Input<int64_t> at(count, [&] { return random.below(n); });
        std::vector<double> want;
        for (int64_t i = 0; i < count; ++i) {
          want.push_back(plain_dot(rows.data(), rows.data() + at[i] * width, width));
        }
        Output<double> found(count);
        kernels_of<T>(kernels()).dots(
            {rows.data(), rows.data(), width, at.data(), count, found.data()});
        found.check(want.data());
      }
    }
  });
}

template <class T>
void check_joined(int64_t n, int64_t width, double spread, double angle, int64_t buckets) {
  CAPTURE(n);
  CAPTURE(angle);
  Random random(static_cast<uint64_t>(n));
  int64_t k = 0;
  const Input<T> rows(n * width, [&] {
    const T middle = k++ % width == 0 ? T(1) : T(0.1);
    return middle + static_cast<T>(spread) * random.uniform<T>();
  });
  const Input<int64_t> bucket_of(n, [&] { return random.below(buckets); });
  std::vector<double> sizes(static_cast<size_t>(n));
  lengths(rows.data(), n, width, sizes.data(), Run{2});
  std::vector<int64_t> want(static_cast<size_t>(n));
  std::iota(want.begin(), want.end(), 0);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < i; ++j) {
      const int64_t low = std::min(want[i], want[j]), high = std::max(want[i], want[j]);
      if (low == high || bucket_of[i] != bucket_of[j]) continue;
      const double dot = plain_dot(rows.data() + i * width, rows.data() + j * width, width);
      if (dot / (sizes[i] * sizes[j]) < std::cos(angle)) continue;
      std::replace(want.begin(), want.end(), high, low);
    }
  }
  for (const int threads : {1, 2, 3}) {
    std::vector<int64_t> found(static_cast<size_t>(n));
    std::iota(found.begin(), found.end(), 0);
    join_neighbours(NeighbourRows<T>{rows.data(), sizes.data(), n, width, angle, std::cos(angle)},
                    bucket_of.data(), buckets, found.data(), Run{threads});
    const Sets sets(found.data());
    for (int64_t i = 0; i < n; ++i) found[i] = sets.root(i);
    CHECK(found == want);
  }
}

TEST_CASE_TEMPLATE("neighbours: what hangs together in a bucket", T, float, double) {
  on_every_instruction_set([] {
    for (const int64_t buckets : {1, 3, 40}) {
      check_joined<T>(0, 3, 0.5, 0.1, buckets);
      check_joined<T>(1, 3, 0.5, 0.1, buckets);
      for (const double angle : {0.01, 0.05, 0.2, 1.0}) {
        check_joined<T>(90, 3, 0.5, angle, buckets);
        check_joined<T>(120, 20, 0.3, angle, buckets);
      }
    }
  });
}

template <class T>
void check_leaders(int64_t n, int64_t width, double spread, double angle, int64_t clusters) {
  CAPTURE(n);
  CAPTURE(angle);
  Random random(static_cast<uint64_t>(n));
  int64_t k = 0;
  const Input<T> rows(n * width, [&] {
    const T middle = k++ % width == 0 ? T(1) : T(0.1);
    return middle + static_cast<T>(spread) * random.uniform<T>();
  });
  const Input<int64_t> cluster_of(n, [&] { return random.below(clusters + 1) - 1; });
  std::vector<double> sizes(static_cast<size_t>(n));
  lengths(rows.data(), n, width, sizes.data(), Run{2});
  std::vector<int64_t> want, leading;
  for (int64_t i = 0; i < n; ++i) {
    const auto follows = [&](int64_t j) {
      const double dot = plain_dot(rows.data() + i * width, rows.data() + j * width, width);
      return cluster_of[i] == cluster_of[j] && std::acos(dot / (sizes[i] * sizes[j])) <= angle;
    };
    const auto found = std::find_if(leading.begin(), leading.end(), follows);
    if (cluster_of[i] < 0) {
      want.push_back(-1);
    } else if (found != leading.end()) {
      want.push_back(*found);
    } else {
      want.push_back(i);
      leading.push_back(i);
    }
  }
  for (const int threads : {1, 2, 3}) {
    Output<int64_t> found(n);
    leaders(NeighbourRows<T>{rows.data(), sizes.data(), n, width, angle, std::cos(angle)},
            cluster_of.data(), clusters, found.data(), Run{threads});
    found.check(want.data());
  }
}

TEST_CASE_TEMPLATE("neighbours: leaders of small and of large clusters", T, float, double) {
  on_every_instruction_set([] {
    for (const int64_t clusters : {1, 3, 40}) {
      check_leaders<T>(0, 3, 0.5, 0.1, clusters);
      check_leaders<T>(1, 3, 0.5, 0.1, clusters);
      for (const double angle : {0.01, 0.05, 0.2, 1.0}) {
        check_leaders<T>(90, 3, 0.5, angle, clusters);
        check_leaders<T>(700, 20, 0.3, angle, clusters);
      }
    }
    check_leaders<T>(9000, 5, 0.5, 0.1, 1);
  });
}

TEST_CASE("shared sets: joined by threads at once") {
  constexpr int64_t n = 3000;
  for (const int64_t step : {1, 7, 1000}) {
    std::vector<int64_t> parents(n);
    std::iota(parents.begin(), parents.end(), 0);
    const Sets sets(parents.data());
    std::vector<std::thread> pool;
    for (int t = 0; t < 3; ++t) {
      pool.emplace_back([&, t] {
        for (int64_t k = 0; k + step < n; ++k) {
          const int64_t i = t % 2 == 0 ? k : n - 1 - step - k;
          sets.join(i, i + step);
        }
      });
    }
    for (std::thread& thread : pool) thread.join();
    int64_t wrong = 0;
    for (int64_t i = 0; i < n; ++i) wrong += sets.root(i) != i % step;
    CHECK(wrong == 0);
  }
}

}  // namespace
}  // namespace gradsplinter
