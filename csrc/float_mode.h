// IEEE arithmetic while a kernel runs: round to nearest, subnormal numbers kept. A caller may have
// turned on flushing to zero (torch.set_flush_denormal), per thread, which would change bits.
#pragma once

#include <cstdint>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace gradsplinter {

class IeeeMode {
 public:
  IeeeMode() : before_(get()) { set(kDefault); }
  ~IeeeMode() { set(before_); }
  IeeeMode(const IeeeMode&) = delete;
  IeeeMode& operator=(const IeeeMode&) = delete;

 private:
#if defined(__x86_64__)
  using Control = unsigned int;
  static constexpr Control kDefault = 0x1F80;  // MXCSR: all exceptions masked
  static Control get() { return _mm_getcsr(); }
  static void set(Control control) { _mm_setcsr(control); }
#elif defined(__aarch64__)
  using Control = uint64_t;
  static constexpr Control kDefault = 0;  // FPCR
  static Control get() {
    Control control;
    asm volatile("mrs %0, fpcr" : "=r"(control));
    return control;
  }
  static void set(Control control) { asm volatile("msr fpcr, %0" ::"r"(control)); }
#else
  using Control = int;
  static constexpr Control kDefault = 0;
  static Control get() { return 0; }
  static void set(Control) {}
#endif
  const Control before_;
};

}  // namespace gradsplinter
