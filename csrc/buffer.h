// Scratch memory of the kernels: aligned to a cache line, not initialised.
#pragma once

#include <cstdint>
#include <memory>
#include <new>
#include <vector>

namespace gradsplinter {

template <class T>
class Buffer {
 public:
  explicit Buffer(int64_t size)
      : data_(static_cast<T*>(::operator new(static_cast<size_t>(size) * sizeof(T), alignment))) {}
  T* get() const { return data_.get(); }
  T& operator[](int64_t i) const { return data_.get()[i]; }

 private:
  static constexpr std::align_val_t alignment{64};
  struct Free {
    void operator()(T* p) const { ::operator delete(p, alignment); }
  };
  std::unique_ptr<T, Free> data_;
};

// Memory of a vector: aligned to a cache line, its numbers not set to 0 when it grows.
template <class T>
struct UninitialisedAllocator : std::allocator<T> {
  template <class U>
  struct rebind {
    using other = UninitialisedAllocator<U>;
  };
  static constexpr std::align_val_t alignment{64};
  T* allocate(size_t n) { return static_cast<T*>(::operator new(n * sizeof(T), alignment)); }
  void deallocate(T* p, size_t) { ::operator delete(p, alignment); }
  template <class U>
  void construct(U* p) {
    ::new (static_cast<void*>(p)) U;
  }
  template <class U>
  void construct(U* p, const U& value) {
    ::new (static_cast<void*>(p)) U(value);
  }
};

// As Buffer, where the size is not known before: resize() leaves new numbers as they are.
template <class T>
using Growing = std::vector<T, UninitialisedAllocator<T>>;

inline int64_t round_up(int64_t value, int64_t to) { return (value + to - 1) / to * to; }

}  // namespace gradsplinter
