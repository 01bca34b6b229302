// The instruction sets that were compiled in, and the choice among those that this CPU can run.
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>

#include "ops.h"

namespace gradsplinter {

#if defined(__x86_64__)
namespace avx512 {
extern const Kernels table;
}
namespace avx2 {
extern const Kernels table;
}
#elif defined(__aarch64__)
namespace neon {
extern const Kernels table;
}
#endif
namespace portable {
extern const Kernels table;
}

namespace {

std::vector<const Kernels*> runnable() {
  std::vector<const Kernels*> sets;
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl")) {
    sets.push_back(&avx512::table);
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
      __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") &&
      __builtin_cpu_supports("lzcnt")) {
    sets.push_back(&avx2::table);
  }
#elif defined(__aarch64__)
  sets.push_back(&neon::table);
#endif
  sets.push_back(&portable::table);
  return sets;
}

const Kernels* find(const char* name) {
  std::string names;
  for (const Kernels* set : runnable()) {
    if (std::strcmp(set->name, name) == 0) return set;
    names += names.empty() ? set->name : std::string(", ") + set->name;
  }
  throw std::invalid_argument("the instruction set must be one that this CPU can run (" + names +
                              "), got '" + name + "'");
}

std::atomic<const Kernels*> chosen{nullptr};

}  // namespace

const Kernels& kernels() {
  const Kernels* set = chosen;
  if (set == nullptr) {
    const char* name = std::getenv("GRADSPLINTER_CPU");
    chosen = set = name != nullptr && *name != '\0' ? find(name) : runnable().front();
  }
  return *set;
}

std::vector<const char*> instruction_sets() {
  std::vector<const char*> names;
  for (const Kernels* set : runnable()) names.push_back(set->name);
  return names;
}

void use(const char* name) { chosen = find(name); }

}  // namespace gradsplinter
