// The modes of the examples seen so far, on a GPU: what ModeTable of module.cpp is on the CPU, with
// the same ids. All calls are for the device of the first one, on any of its streams: a call on
// another stream than the one before waits for the device and moves the table's memory there. One
// call at a time: whoever waits lets go of Python's lock meanwhile.
#pragma once

#include <cstdint>
#include <memory>

#include "cuda/cuda_ops.h"

namespace gradsplinter::cuda {

class ModeTable {
 public:
  // hash_bits < 64 keeps only so many bits of the hash, to force collisions in tests.
  explicit ModeTable(int64_t words, int hash_bits = 64);

  int64_t size() const { return size_; }
  int64_t examples() const { return examples_; }
  int64_t undercount() const { return undercount_; }

  // Adds the modes of `examples` more: different signatures [n, words], with how many examples each
  // has [n], of which `undercount` may be missing, and the first of them [n], counted from the
  // table's latest -> ids [n]. Waits for the stream, to know how many modes are new.
  void insert(const uint64_t* signatures, const int64_t* counts, const int64_t* first, int64_t n,
              int64_t examples, int64_t undercount, int64_t* ids, const Device& device);

  // How many of the different signatures [n, words] are not in the table. Waits for the stream.
  int64_t missing(const uint64_t* signatures, int64_t n, const Device& device);

  // Copies of the signatures [size, words], the counts [size] and the first examples [size].
  void copy_to(uint64_t* signatures, int64_t* counts, int64_t* first, const Device& device);

 private:
  void move_to_stream(const Device& device);
  void reserve(int64_t rows, const Device& device);

  int64_t words_;
  uint64_t hash_mask_;
  int64_t size_ = 0, room_ = 0;
  int64_t examples_ = 0, undercount_ = 0;
  uint64_t slot_count_ = 0;
  void* stream_ = nullptr;  // of the latest call, to which the memory belongs
  std::shared_ptr<void> slots_, rows_, counts_, first_;
};

}  // namespace gradsplinter::cuda
