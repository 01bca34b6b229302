// A set of rows of 64-bit words, numbered in order of insertion: open addressing with linear
// probing over 8-byte slots (half a hash as tag, id + 1). A slot whose tag fits is compared word by
// word with the stored row, so a collision costs time and never correctness.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <vector>

#include "huge_pages.h"

namespace gradsplinter {

// Of `fixed` words, or of any number where that is 0. For a few words a loop in place is faster
// than a call of memcmp.
template <int64_t fixed>
bool equal_words(const uint64_t* a, const uint64_t* b, int64_t words) {
  if (fixed == 0 && words > 8) {
    return std::memcmp(a, b, static_cast<size_t>(words) * sizeof(uint64_t)) == 0;
  }
  uint64_t different = 0;
  for (int64_t i = 0; i < (fixed > 0 ? fixed : words); ++i) different |= a[i] ^ b[i];
  return different == 0;
}

// `fixed` words in a row, or any number where it is 0: rows are short, and loops of a known length
// are unrolled.
template <int64_t fixed = 0>
class RowTable {
 public:
  explicit RowTable(int64_t words) : words_(words), slots_(1024, 0) {}

  int64_t size() const { return static_cast<int64_t>(hashes_.size()); }
  const uint64_t* row(int64_t id) const { return rows_.data() + id * words(); }
  uint64_t hash(int64_t id) const { return hashes_[static_cast<size_t>(id)]; }
  int64_t count(int64_t id) const { return counts_[static_cast<size_t>(id)]; }
  int64_t first(int64_t id) const { return first_[static_cast<size_t>(id)]; }

  // Room for `more` rows, so that inserting them cannot fail half-way.
  void reserve(int64_t more) {
    const size_t rows = hashes_.size() + static_cast<size_t>(more);
    if (rows >= size_t{1} << 32) throw std::length_error("more than 2^32 - 1 unique rows");
    size_t room = hashes_.capacity();
    if (rows > room) {
      room = std::max(rows, 2 * room);
      rows_ = with_room(rows_, room * static_cast<size_t>(words()));
      counts_ = with_room(counts_, room);
      first_ = with_room(first_, room);
      hashes_ = with_room(hashes_, room);
    }
    size_t slots = slots_.size();
    while (crowded(rows, slots)) slots *= 2;
    if (slots > slots_.size()) rehash(slots);
  }

  void prefetch(uint64_t hash) const { __builtin_prefetch(&slots_[hash & mask()]); }
  void prefetch_row(uint64_t) const {}

  // Adds `count` occurrences of a row, the first of them at index `first` -> its id.
  int64_t insert(const uint64_t* row, uint64_t hash, int64_t count, int64_t first) {
    const uint64_t at = slot_of(row, hash);
    if (slots_[at] == 0) return append(at, hash & tag_mask, row, hash, count, first);
    const int64_t id = id_at(at);
    counts_[static_cast<size_t>(id)] += count;
    return id;
  }

  // The id of a row, or -1.
  int64_t find(const uint64_t* row, uint64_t hash) const { return id_at(slot_of(row, hash)); }

 private:
  static constexpr uint64_t tag_mask = 0xFFFFFFFF00000000u;

  // A slot that is taken by another row costs a branch that is not foreseen: as long as the slots
  // stay in a core's own cache, most of them are empty.
  static bool crowded(size_t rows, size_t slots) {
    return rows * (slots <= size_t{1} << 17 ? 8 : 2) > slots;
  }

  int64_t words() const { return fixed > 0 ? fixed : words_; }
  uint64_t mask() const { return slots_.size() - 1; }

  // The slot that holds a row, or the empty one where it belongs.
  uint64_t slot_of(const uint64_t* row, uint64_t hash) const {
    const uint64_t tag = hash & tag_mask;
    for (uint64_t at = hash & mask();; at = (at + 1) & mask()) {
      const uint64_t slot = slots_[at];
      if (slot == 0 ||
          ((slot & tag_mask) == tag && equal_words<fixed>(this->row(id_at(at)), row, words_)))
        return at;
    }
  }

  int64_t id_at(uint64_t at) const { return static_cast<int64_t>(slots_[at] & ~tag_mask) - 1; }

  int64_t append(uint64_t at, uint64_t tag, const uint64_t* row, uint64_t hash, int64_t count,
                 int64_t first) {
    const int64_t id = size();
    if (id + 1 >= int64_t{1} << 32) throw std::length_error("more than 2^32 - 1 unique rows");
    rows_.insert(rows_.end(), row, row + words());
    hashes_.push_back(hash);
    counts_.push_back(count);
    first_.push_back(first);
    slots_[at] = tag | static_cast<uint64_t>(id + 1);
    if (crowded(hashes_.size(), slots_.size())) rehash(4 * slots_.size());
    return id;
  }

  // The same values, in memory that has room for more.
  template <class T>
  static std::vector<T> with_room(const std::vector<T>& values, size_t room) {
    std::vector<T> larger;
    larger.reserve(room);
    prefer_huge_pages(larger.data(), static_cast<int64_t>(room));
    larger.insert(larger.end(), values.begin(), values.end());
    return larger;
  }

  void rehash(size_t slots) {
    constexpr size_t ahead = 16;
    slots_ = with_room<uint64_t>({}, slots);
    slots_.resize(slots);
    for (size_t id = 0; id < hashes_.size(); ++id) {
      if (id + ahead < hashes_.size()) prefetch(hashes_[id + ahead]);
      uint64_t at = hashes_[id] & mask();
      while (slots_[at] != 0) at = (at + 1) & mask();
      slots_[at] = (hashes_[id] & tag_mask) | (id + 1);
    }
  }

  int64_t words_;
  std::vector<uint64_t> slots_;
  std::vector<uint64_t> rows_;
  std::vector<uint64_t> hashes_;
  std::vector<int64_t> counts_;
  std::vector<int64_t> first_;
};

}  // namespace gradsplinter
