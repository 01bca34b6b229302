// Rows as the kernels of deduplication see them: as words, whatever their entries are.
#pragma once

#include <type_traits>

#include "cuda/device.h"
#include "scalar.h"

namespace gradsplinter::cuda {
namespace {

// A row of floats as words of canonical bits; the upper half of the last word may be empty.
template <class T>
struct FloatRow {
  const T* entries;
  int64_t width;
  __device__ uint64_t operator[](int64_t k) const {
    if constexpr (sizeof(T) == 8) {
      return canonical_bits(entries[k]);
    } else {
      const uint64_t low = canonical_bits(entries[2 * k]);
      const uint64_t high = 2 * k + 1 < width ? canonical_bits(entries[2 * k + 1]) : 0;
      return low | high << 32;
    }
  }
};

template <class Entry>
struct Rows {
  static constexpr bool floats = std::is_floating_point_v<Entry>;
  static constexpr auto per_word = static_cast<int64_t>(sizeof(uint64_t) / sizeof(Entry));
  using Row = std::conditional_t<floats, FloatRow<Entry>, const Entry*>;
  static constexpr bool in_registers = false;
  const Entry* data;
  int64_t width, words;
  uint64_t hash_mask;

  Rows(const Entry* data, int64_t width, uint64_t hash_mask)
      : data(data), width(width), words(divide_up(width, per_word)), hash_mask(hash_mask) {}

  __device__ Row operator[](int64_t i) const {
    if constexpr (floats) {
      return {data + i * width, width};
    } else {
      return data + i * width;
    }
  }
  __device__ uint64_t hash(const Row& row) const { return hash_row(row, words) & hash_mask; }
  __device__ bool equal(const Row& row, int64_t i) const {
    const auto other = (*this)[i];
    for (int64_t k = 0; k < words; ++k) {
      if (row[k] != other[k]) return false;
    }
    return true;
  }
  __device__ bool has_nan(int64_t i) const {
    if constexpr (floats) {
      for (int64_t j = 0; j < width; ++j) {
        if (is_nan(canonical_bits(data[i * width + j]))) return true;
      }
    }
    return false;
  }
};

// One or two words, in registers: loaded at once, so they have to be aligned.
template <int size>
struct alignas(8 * size) ShortRow {
  static constexpr int count = size;
  uint64_t words[size];
};

template <int count>
struct ShortRows {
  using Row = ShortRow<count>;
  static constexpr bool in_registers = true;
  const Row* data;
  uint64_t hash_mask;

  __device__ Row operator[](int64_t i) const { return data[i]; }
  __device__ uint64_t hash(const Row& row) const { return hash_row(row.words, count) & hash_mask; }
  __device__ bool equal(const Row& row, int64_t i) const {
    const Row other = data[i];
    bool equal = true;
    for (int k = 0; k < count; ++k) equal = equal && row.words[k] == other.words[k];
    return equal;
  }
  __device__ bool has_nan(int64_t) const { return false; }
};

// Calls call(rows) with rows of the type that suits them.
template <class Entry, class Call>
void with_rows(const Entry* rows, int64_t width, uint64_t hash_mask, const Call& call) {
  if constexpr (std::is_same_v<Entry, uint64_t>) {
    const auto short_rows = [&](auto row) {
      using Row = decltype(row);
      call(ShortRows<Row::count>{reinterpret_cast<const Row*>(rows), hash_mask});
    };
    if (width == 1) return short_rows(ShortRow<1>{});
    if (width == 2 && aligned(rows)) return short_rows(ShortRow<2>{});
  }
  call(Rows<Entry>(rows, width, hash_mask));
}

}  // namespace
}  // namespace gradsplinter::cuda
