// Large outputs are fresh memory: with pages of 4 KiB, touching them first can cost as much as the
// arithmetic. This asks the kernel for pages of 2 MiB where it has them to give.
#pragma once

#include <cstdint>

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

}  // namespace gradsplinter
