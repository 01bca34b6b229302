// What a fuzz target checks; libFuzzer then keeps the input that failed.
#pragma once

#include <cstdio>
#include <cstdlib>

namespace gradsplinter {

inline void expect(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "not as in the model: %s\n", what);
  std::abort();
}

}  // namespace gradsplinter
