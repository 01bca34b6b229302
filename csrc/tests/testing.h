// What the tests share: reproducible values, memory that shows a read or a write out of bounds,
// equality by bits, and a loop over the instruction sets that this CPU can run.
#pragma once

#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "doctest/doctest.h"
#include "ops.h"
#include "scalar.h"

namespace gradsplinter {

// SplitMix64 (Steele, Lea, Flood 2014): the same values with every standard library.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t bits() {
    uint64_t z = state_ += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }
  int64_t below(int64_t n) { return static_cast<int64_t>(bits() % static_cast<uint64_t>(n)); }
  // Uniform on [-1, 1), with every bit of the fraction in play.
  template <class T>
  T uniform() {
    constexpr int digits = std::numeric_limits<T>::digits;
    const T scale = T(1) / static_cast<T>(uint64_t{1} << (digits - 1));
    return static_cast<T>(bits() >> (64 - digits)) * scale - 1;
  }
  // Zeros of both signs, denormals, the largest numbers, infinities and NaN among ordinary ones.
  template <class T>
  T awkward() {
    using Limits = std::numeric_limits<T>;
    const T values[] = {T(0), Limits::denorm_min(), Limits::min(), Limits::max(),
                        T(1), Limits::infinity()};
    const int64_t pick = below(10);
    if (pick == 9) return Limits::quiet_NaN();
    if (pick > 5) return uniform<T>();
    return below(2) == 0 ? values[pick] : -values[pick];
  }

 private:
  uint64_t state_;
};

// n values from one element after the start of an allocation, so that no vector in it is aligned,
// to its very end, where AddressSanitizer watches.
template <class T>
class Input {
 public:
  explicit Input(int64_t n) : values_(static_cast<size_t>(n) + 1) {}
  template <class Make>
  Input(int64_t n, const Make& make) : Input(n) {
    for (int64_t i = 0; i < n; ++i) (*this)[i] = make();
  }
  T* data() { return values_.data() + 1; }
  const T* data() const { return values_.data() + 1; }
  T& operator[](int64_t i) { return data()[i]; }
  const T& operator[](int64_t i) const { return data()[i]; }

 private:
  std::vector<T> values_;
};

// Position of the first of n values with other bits, or -1. A NaN equals any NaN: its sign and
// payload are outside the numeric contract.
template <class T>
int64_t first_difference(const T* got, const T* want, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const bool nan = got[i] != got[i] && want[i] != want[i];
    if (!nan && std::memcmp(got + i, want + i, sizeof(T)) != 0) return i;
  }
  return -1;
}

// An output: poisoned, so that an unwritten element differs from any expected one, and with guards
// on both sides. Not aligned either.
template <class T>
class Output {
 public:
  explicit Output(int64_t n) : n_(n), values_(static_cast<size_t>(n + 2 * guard)) {
    std::memset(values_.data(), poison, values_.size() * sizeof(T));
  }
  T* data() { return values_.data() + guard; }
  void check(const T* want) {
    CHECK(first_difference(data(), want, n_) == -1);
    CHECK(guards_untouched());
  }

 private:
  static constexpr int64_t guard = 33;
  static constexpr unsigned char poison = 0xA5;
  bool guards_untouched() const {
    const auto size = static_cast<int64_t>(values_.size());
    for (int64_t i = 0; i < size; i = i + 1 == guard ? guard + n_ : i + 1) {
      unsigned char bytes[sizeof(T)];
      std::memcpy(bytes, &values_[static_cast<size_t>(i)], sizeof bytes);
      for (const unsigned char byte : bytes) {
        if (byte != poison) return false;
      }
    }
    return true;
  }

  int64_t n_;
  std::vector<T> values_;
};

// A network with memory of its own.
template <class T>
struct Net {
  std::vector<int64_t> widths;  // h_0..h_L
  std::vector<Input<T>> weights;
  std::vector<Input<T>> biases;

  template <class Make>
  Net(std::vector<int64_t> h, const Make& make) : widths(std::move(h)) {
    for (size_t l = 1; l < widths.size(); ++l) {
      weights.emplace_back(widths[l] * widths[l - 1], make);
      biases.emplace_back(widths[l], make);
    }
  }
  Net(std::vector<int64_t> h, std::vector<std::vector<T>> w, std::vector<std::vector<T>> b)
      : widths(std::move(h)) {
    for (size_t l = 0; l < w.size(); ++l) {
      auto weight = w[l].begin(), bias = b[l].begin();
      weights.emplace_back(static_cast<int64_t>(w[l].size()), [&] { return *weight++; });
      biases.emplace_back(static_cast<int64_t>(b[l].size()), [&] { return *bias++; });
    }
  }
  int64_t depth() const { return static_cast<int64_t>(weights.size()); }
  std::vector<Layer<T>> layers() const {
    std::vector<Layer<T>> result;
    for (size_t l = 0; l < weights.size(); ++l) {
      result.push_back({weights[l].data(), biases[l].data(), widths[l], widths[l + 1]});
    }
    return result;
  }
};

inline std::vector<int64_t> all_sites(int64_t depth) {
  std::vector<int64_t> sites;
  for (int64_t site = 1; site < depth; ++site) sites.push_back(site);
  return sites;
}

// Layers source+1..target, of which the last may be the output.
template <class T>
struct Steps {
  std::vector<int64_t> widths;  // h_source..h_target
  bool output;
  std::vector<Input<T>> weights;

  template <class Make>
  Steps(std::vector<int64_t> h, bool is_output, const Make& make)
      : widths(std::move(h)), output(is_output) {
    for (size_t l = 1; l < widths.size(); ++l) {
      weights.emplace_back(widths[l] * widths[l - 1], make);
    }
  }
  std::vector<Layer<T>> layers() const {
    std::vector<Layer<T>> result;
    for (size_t l = 0; l < weights.size(); ++l) {
      result.push_back({weights[l].data(), nullptr, widths[l], widths[l + 1]});
    }
    return result;
  }
  bool rectified(size_t l) const { return !(output && l + 1 == weights.size()); }
  int64_t words() const {
    int64_t sum = 0;
    for (size_t l = 0; l < weights.size(); ++l) sum += rectified(l) ? words_of(widths[l + 1]) : 0;
    return sum;
  }
  // Patterns of `modes` modes: random ones, but all off in mode 0 and all on in mode 1.
  Input<uint64_t> patterns(Random& random, int64_t modes) const {
    Input<uint64_t> result(modes * words());
    int64_t at = 0;
    for (int64_t mode = 0; mode < modes; ++mode) {
      for (size_t l = 0; l < weights.size(); ++l) {
        if (!rectified(l)) continue;
        for (int64_t left = widths[l + 1]; left > 0; left -= 64) {
          const uint64_t bits = mode == 0 ? 0 : mode == 1 ? ~uint64_t{0} : random.bits();
          result[at++] = left >= 64 ? bits : bits & ((uint64_t{1} << left) - 1);
        }
      }
    }
    return result;
  }
};

template <class Work>
void on_every_instruction_set(const Work& work) {
  struct Restore {
    ~Restore() { use(instruction_sets().front()); }
  } restore;
  for (const std::string instruction_set : instruction_sets()) {
    CAPTURE(instruction_set);
    use(instruction_set.c_str());
    work();
  }
}

}  // namespace gradsplinter
