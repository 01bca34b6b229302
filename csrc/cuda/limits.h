// What a launch may ask for, and a table may hold.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

#include "probe.h"

namespace gradsplinter::cuda {

// Bytes of shared memory of a block: those of compute capability 8.0. Later ones may have fewer
// (12.0) or more.
constexpr size_t most_block_bytes = 163 * 1024;

inline void check_launch(int64_t blocks, int threads, size_t shared) {
  if (blocks < 1 || blocks > INT32_MAX || threads < 1 || threads > 1024 ||
      shared > most_block_bytes) {
    throw std::length_error("a launch of " + std::to_string(blocks) + " blocks of " +
                            std::to_string(threads) + " threads with " + std::to_string(shared) +
                            " bytes each");
  }
}

// Tables number rows in 32 bits. `what` begins the message: "rows must be".
inline void check_rows(int64_t n, const char* what) {
  if (n > most_shared_rows) {
    throw std::length_error(std::string(what) + " at most " + std::to_string(most_shared_rows) +
                            " (2^32 - 2) on a GPU, got " + std::to_string(n));
  }
}

}  // namespace gradsplinter::cuda
