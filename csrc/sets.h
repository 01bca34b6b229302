// Disjoint sets that threads join at once, without locks.
#pragma once

#include <atomic>
#include <cstdint>
#include <utility>

namespace gradsplinter {

// A forest over the rows, which threads share: the root of a set is its smallest row.
class Sets {
 public:
  explicit Sets(int64_t* parents) : parents_(parents) {}

  int64_t root(int64_t i) const {
    for (;;) {
      const int64_t parent = at(i).load(std::memory_order_relaxed);
      if (parent == i) return i;
      const int64_t above = at(parent).load(std::memory_order_relaxed);
      at(i).store(above, std::memory_order_relaxed);  // the path gets shorter
      i = above;
    }
  }

  void join(int64_t i, int64_t j) const {
    for (;;) {
      i = root(i);
      j = root(j);
      if (i == j) return;
      if (i < j) std::swap(i, j);
      int64_t expected = i;  // still a root?
      if (at(i).compare_exchange_strong(expected, j, std::memory_order_relaxed)) return;
    }
  }

 private:
  std::atomic_ref<int64_t> at(int64_t i) const { return std::atomic_ref<int64_t>(parents_[i]); }
  int64_t* parents_;
};

}  // namespace gradsplinter
