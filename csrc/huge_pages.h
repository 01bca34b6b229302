// Large outputs are fresh memory: with pages of 4 KiB, touching them first can cost as much as the
// arithmetic. This asks the kernel for pages of 2 MiB where it has them to give.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <new>
#include <utility>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace gradsplinter {

template <class T>
void prefer_huge_pages([[maybe_unused]] T* data, [[maybe_unused]] int64_t size) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  constexpr uintptr_t page = uintptr_t{1} << 21;
  const auto begin = reinterpret_cast<uintptr_t>(data);
  const uintptr_t end = begin + static_cast<uintptr_t>(size) * sizeof(T);
  const uintptr_t first = (begin + page - 1) & ~(page - 1), last = end & ~(page - 1);
  // Only advice: where it is refused, nothing is lost.
  if (first < last) madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
#endif
}

// Zeros that are made where and when they are first touched, in memory that begins with a huge page
// and goes back to the system at once: what malloc keeps for later would have to be cleared.
class ZeroPages {
 public:
  explicit ZeroPages(uint64_t words) : bytes_(words * sizeof(uint64_t) + page) {
#if defined(__linux__)
    void* const mapped =
        mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    begin_ = mapped == MAP_FAILED ? nullptr : mapped;
#else
    begin_ = std::calloc(bytes_, 1);
#endif
    if (begin_ == nullptr) throw std::bad_alloc();
    const auto address = reinterpret_cast<uintptr_t>(begin_);
    words_ = reinterpret_cast<uint64_t*>((address + page - 1) & ~(page - 1));
    prefer_huge_pages(words_, static_cast<int64_t>(words));
  }
  ~ZeroPages() {
#if defined(__linux__)
    if (begin_ != nullptr) munmap(begin_, bytes_);
#else
    std::free(begin_);
#endif
  }
  ZeroPages(ZeroPages&& from) noexcept
      : bytes_(from.bytes_), begin_(std::exchange(from.begin_, nullptr)), words_(from.words_) {}
  ZeroPages& operator=(ZeroPages&&) = delete;

  uint64_t* get() const { return words_; }

 private:
  static constexpr uintptr_t page = uintptr_t{1} << 21;
  size_t bytes_;
  void* begin_;
  uint64_t* words_;
};

}  // namespace gradsplinter
