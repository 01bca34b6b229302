// A device for the CUDA operations that are run on the host.
#pragma once

#include <cstring>

#include "cuda/cuda_ops.h"
#include "testing.h"

namespace gradsplinter {

// Every piece ends where its allocation does, for AddressSanitizer, and begins poisoned.
class TestMemory : public cuda::Memory {
 public:
  std::shared_ptr<void> own(int64_t bytes) override {
    const auto size = static_cast<size_t>(bytes);
    std::shared_ptr<unsigned char[]> piece(new unsigned char[size]);
    std::memset(piece.get(), 0xA5, size);
    return {piece, piece.get()};
  }
};

inline int waits = 0;  // for the GPU

struct TestDevice {
  TestMemory memory;
  cuda::Device device{0, nullptr, memory, [](const auto& until) {
                        ++waits;
                        until();
                      }};
};

}  // namespace gradsplinter
