// The operations on memory of a GPU: as in ops.h, bit for bit, on the caller's stream.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "ops.h"

namespace gradsplinter::cuda {

// Memory on the device.
class Memory {
 public:
  virtual ~Memory() = default;
  virtual std::shared_ptr<void> own(int64_t bytes) = 0;
  // Freed with this object, when the operation's work is queued: work that is queued later on the
  // same stream may use it again.
  void* get(int64_t bytes) {
    pieces_.push_back(own(bytes));
    return pieces_.back().get();
  }
  template <class T>
  T* array(int64_t size) {
    return static_cast<T*>(get(size * static_cast<int64_t>(sizeof(T))));
  }

  // What is taken while it lives is freed at its end: for work that goes piece by piece.
  class Piecewise {
   public:
    explicit Piecewise(Memory& memory) : memory_(memory), before_(memory.pieces_.size()) {}
    ~Piecewise() { memory_.pieces_.resize(before_); }
    Piecewise(const Piecewise&) = delete;
    Piecewise& operator=(const Piecewise&) = delete;

   private:
    Memory& memory_;
    const size_t before_;
  };

 private:
  std::vector<std::shared_ptr<void>> pieces_;
};

// It has to be the current one: only torch knows how to make another one current again without
// giving that one a context.
struct Device {
  int index;
  void* stream;
  Memory& memory;
  // Calls a function that waits for the GPU. Whoever holds a lock lets go of it meanwhile.
  void (*wait)(const std::function<void()>& until) = [](const auto& until) { until(); };
};

int current_device();
// For this module's own runtime, which may not see what torch's was told.
void make_current(int device);

// Why no device can run these kernels, and why the current one cannot; empty if it can.
std::string why_not_driver();
std::string why_not_device();

void hash_rows(const uint64_t* rows, int64_t n, int64_t words, uint64_t* hashes,
               const Device& device);

// For measurements: `signatures` takes the way of wide networks for small ones too.
extern bool only_wide;

template <class T>
void signatures(const std::vector<Layer<T>>& layers, const std::vector<int64_t>& sites, const T* x,
                int64_t n, uint64_t* signature, T* y, const Device& device);

// Bools [n, width], one a byte -> words [n, words_of(width)]. A byte that is not 0 counts as 1.
void pack_bits(const uint8_t* bools, int64_t n, int64_t width, uint64_t* words,
               const Device& device);

// Where the unique rows' first occurrences and counts go, once it is known how many there are.
struct Unique {
  int64_t* first;
  int64_t* counts;
};

// Slots of the table at first: 32 MiB, meant to stay in the second cache.
constexpr uint64_t first_slots = uint64_t{1} << 22;

// ids [n] -> how many; it waits for the stream to know that, and asks `make` for memory. At most
// most_shared_rows rows. The table begins with so many `slots`, or fewer where n needs no more.
template <class Entry>
int64_t unique_rows(const Entry* rows, int64_t n, int64_t width, int hash_bits, uint64_t slots,
                    int64_t* ids, const std::function<Unique(int64_t)>& make, const Device& device);

template <class T>
void jacobian(const std::vector<Layer<T>>& layers, bool output, const uint64_t* patterns,
              int64_t modes, const T* directions, int64_t count, T* out, const Device& device);

template <class T>
void cross(const T* jacobian, int64_t modes, int64_t directions, int64_t width, bool normalize,
           T* out, const Device& device);

template <class T>
void gram(const std::vector<Layer<T>>& layers, bool output, const uint64_t* patterns, int64_t modes,
          const T* directions, int64_t count, bool normalize, T* out, const Device& device);

}  // namespace gradsplinter::cuda
