// What a launch may ask for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

namespace gradsplinter::cuda {

// Of compute capability 8.0, which later ones have at least.
inline void check_launch(int64_t blocks, int threads, size_t shared) {
  if (blocks < 1 || blocks > INT32_MAX || threads < 1 || threads > 1024 || shared > 163 * 1024) {
    throw std::length_error("a launch of " + std::to_string(blocks) + " blocks of " +
                            std::to_string(threads) + " threads with " + std::to_string(shared) +
                            " bytes each");
  }
}

}  // namespace gradsplinter::cuda
