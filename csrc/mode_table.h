// The table of modes that Python fills piece by piece, on the CPU.
#pragma once

#include <algorithm>
#include <cstdint>

#include "row_table.h"
#include "scalar.h"
#include "tensor.h"

namespace gradsplinter {

// The modes of the examples seen so far. A call is all or nothing: what fails fails before the
// first row is in, and Python cannot be interrupted within it.
class ModeTable {
 public:
  explicit ModeTable(int64_t words) : words_(words), table_(words) {}

  int64_t size() const { return table_.size(); }
  int64_t examples() const { return examples_; }
  int64_t undercount() const { return undercount_; }

  // Adds the modes of `examples` more: signatures [n, words], with how many examples each has [n],
  // of which `undercount` may be missing, and the first of them [n], counted from the table's
  // latest -> ids [n].
  void insert(const Tensor& signatures, const Tensor& counts, const Tensor& first, int64_t examples,
              int64_t undercount, const Tensor& ids) {
    const int64_t n = signatures.size(0);
    table_.reserve(n);
    const auto* rows = signatures.data<const uint64_t>();
    constexpr int64_t batch = 32;  // whose slots come from memory together
    uint64_t hash[batch];
    for (int64_t begin = 0; begin < n; begin += batch) {
      const int64_t size = std::min(batch, n - begin);
      for (int64_t i = 0; i < size; ++i) {
        hash[i] = hash_row(rows + (begin + i) * words_, words_);
        table_.prefetch(hash[i]);
      }
      for (int64_t i = 0; i < size; ++i) {
        const int64_t at = begin + i;
        ids.data<int64_t>()[at] =
            table_.insert(rows + at * words_, hash[i], counts.data<int64_t>()[at],
                          examples_ + first.data<int64_t>()[at]);
      }
    }
    examples_ += examples;
    undercount_ += undercount;
  }

  // How many of the different signatures [n, words] are not in the table.
  int64_t missing(const Tensor& signatures) const {
    const auto* row = signatures.data<const uint64_t>();
    int64_t missing = 0;
    for (int64_t i = 0; i < signatures.size(0); ++i, row += words_) {
      missing += table_.find(row, hash_row(row, words_)) < 0;
    }
    return missing;
  }

  // Copies of the signatures [size, words], the counts [size] and the first examples [size].
  void copy(const Tensor& signatures, const Tensor& counts, const Tensor& first) const {
    std::copy_n(table_.row(0), size() * words_, signatures.data<uint64_t>());
    for (int64_t id = 0; id < size(); ++id) {
      counts.data<int64_t>()[id] = table_.count(id);
      first.data<int64_t>()[id] = table_.first(id);
    }
  }

 private:
  int64_t words_;
  int64_t examples_ = 0;
  int64_t undercount_ = 0;
  RowTable<> table_;
};

}  // namespace gradsplinter
