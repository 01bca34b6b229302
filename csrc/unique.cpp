#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>
#include <type_traits>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include "buffer.h"
#include "deduplicate.h"
#include "huge_pages.h"
#include "ops.h"
#include "probe.h"
#include "scalar.h"

namespace gradsplinter {
namespace {

// Bools as bytes [n, width] -> words [n, words_of(width)], and whether all bytes are 0 or 1.
bool pack_bools(const uint8_t* bools, int64_t n, int64_t width, uint64_t* words) {
  uint8_t all = 0;
  for (int64_t i = 0; i < n * width; ++i) all |= bools[i];
  for (int64_t i = 0; i < n; ++i, bools += width) {
    int64_t unit = 0;
#if defined(__SSE2__)
    for (; unit + 64 <= width; unit += 64) {
      uint64_t word = 0;
      for (int part = 0; part < 4; ++part) {
        const auto* from = reinterpret_cast<const __m128i*>(bools + unit + 16 * part);
        const __m128i top = _mm_slli_epi16(_mm_loadu_si128(from), 7);  // bit 7 of each byte
        word |= static_cast<uint64_t>(_mm_movemask_epi8(top)) << (16 * part);
      }
      *words++ = word;
    }
#endif
    for (; unit < width; unit += 64) {
      *words++ = pack_word(bools + unit, std::min(width - unit, int64_t{64}));
    }
  }
  return all <= 1;
}

[[noreturn]] void throw_not_bools() {
  throw std::invalid_argument("bools must be bytes of 0 or 1, got others");
}

// Rows in memory: words that are taken where they lie, floats that are written to scratch as
// canonical bits, or bools (as bytes) that are packed there.
template <class Entry, int64_t fixed_words>
struct Rows {
  const Entry* data;
  int64_t width;
  static constexpr int64_t fixed = fixed_words;
  static constexpr int64_t batches_between_checks = 64;
  static constexpr bool bools = std::is_same_v<Entry, uint8_t>;
  static constexpr bool floats = std::is_floating_point_v<Entry>;
  // The bits of an entry, written into words of scratch: a type that may alias.
  using Bits [[gnu::may_alias]] = std::conditional_t<sizeof(Entry) == 4, uint32_t, uint64_t>;
  static constexpr int64_t per_word = bools ? 64 : sizeof(uint64_t) / sizeof(Entry);

  int64_t words() const { return fixed > 0 ? fixed : (width + per_word - 1) / per_word; }
  // A few KiB, so that they stay in the first cache.
  int64_t batch() const {
    return std::clamp(int64_t{512} / std::max(words(), int64_t{1}), int64_t{4}, int64_t{32});
  }

  class Reader {
   public:
    explicit Reader(const Rows& rows)
        : rows_(rows), scratch_(floats || bools ? rows.batch() * rows.words() : 0) {}

    const uint64_t* read(int64_t begin, int64_t n) {
      const int64_t width = rows_.width;
      const Entry* from = rows_.data + begin * width;
      if constexpr (floats) {
        auto* to = reinterpret_cast<Bits*>(scratch_.get());
        bool nan = false;
        if (width % per_word == 0) {
          nan = copy(from, n * width, to);
        } else {  // the upper half of a row's last word is 0
          const int64_t padded = width + 1;
          for (int64_t i = 0; i < n; ++i) {
            nan |= copy(from + i * width, width, to + i * padded);
            to[i * padded + width] = 0;
          }
        }
        if (nan) throw_nan(begin);
        return scratch_.get();
      } else if constexpr (bools) {
        if (!pack_bools(from, n, width, scratch_.get())) throw_not_bools();
        return scratch_.get();
      } else {
        return from;
      }
    }

    void prefetch(int64_t i) const { rows_.prefetch(i); }

   private:
    // Canonical bits -> whether one is a NaN.
    static bool copy(const Entry* from, int64_t n, Bits* to) {
      Bits nan = 0;  // as wide as an entry, so that the loop is vectorised
      for (int64_t j = 0; j < n; ++j) {
        const Bits bits = canonical_bits(from[j]);
        nan |= is_nan(bits) ? ~Bits{0} : Bits{0};
        to[j] = bits;
      }
      return nan != 0;
    }

    // The first NaN from row `begin` on.
    [[noreturn]] void throw_nan(int64_t begin) const {
      int64_t at = begin * rows_.width;
      while (!is_nan(canonical_bits(rows_.data[at]))) ++at;
      throw std::invalid_argument("rows must not hold NaN, which equals nothing; got one at [" +
                                  std::to_string(at / rows_.width) + ", " +
                                  std::to_string(at % rows_.width) + "]");
    }

    const Rows& rows_;
    Buffer<uint64_t> scratch_;
  };

  void prefetch(int64_t i) const {
    constexpr int64_t line = 64 / sizeof(Entry);
    const Entry* row = data + i * width;
    for (int64_t j = 0; j < width; j += line) __builtin_prefetch(row + j);
  }

  bool equal(int64_t i, int64_t j) const {
    const Entry* a = data + i * width;
    const Entry* b = data + j * width;
    if constexpr (floats) {
      Bits different = 0;
      for (int64_t k = 0; k < width; ++k) different |= canonical_bits(a[k]) ^ canonical_bits(b[k]);
      return different == 0;
    } else if constexpr (bools) {
      return std::equal(a, a + width, b);
    } else {
      return equal_words<fixed>(a, b, width);
    }
  }
};

// Whether a sample of the rows is mostly unique. A NaN is left to the pass over all
// rows, which says where the first one is.
template <class Rows>
bool rows_mostly_unique(const Rows& rows, int64_t n) {
  const int64_t sample = sample_size(n), words = rows.words();
  if (sample == 0) return false;
  const Buffer<uint64_t> some(sample * words);
  typename Rows::Reader reader(rows);
  try {
    for (int64_t i = 0; i < sample; ++i) {
      std::copy_n(reader.read(n / sample * i, 1), words, some.get() + i * words);
    }
  } catch (const std::invalid_argument&) {
    return false;
  }
  return mostly_unique(some.get(), sample, words);
}

}  // namespace

template <class Entry>
int64_t unique_rows(const Entry* data, int64_t n, int64_t width, int hash_bits, int64_t* first,
                    int64_t* counts, int64_t* ids, const Run& run) {
  const uint64_t hash_mask = hash_mask_of(hash_bits);
  prefer_huge_pages(ids, n);
  const auto solve = [&]<int64_t fixed>(std::integral_constant<int64_t, fixed>) {
    using Source = Rows<Entry, fixed>;
    const Source rows{data, width};
    const Deduplication<Source> job{rows, n, hash_mask, first, counts, ids, nullptr, run};
    return rows_mostly_unique(rows, n) ? with_shared_table(job) : with_table_per_thread(job);
  };
  if constexpr (std::is_same_v<Entry, uint64_t>) {
    return with_fixed(width, solve);
  } else if constexpr (std::is_same_v<Entry, uint8_t>) {
    return with_fixed(words_of(width), solve);
  } else {
    return solve(std::integral_constant<int64_t, 0>{});
  }
}

void pack_bits(const uint8_t* bools, int64_t n, int64_t width, uint64_t* words, const Run& run) {
  constexpr int64_t rows_per_block = 1024;
  prefer_huge_pages(words, n * words_of(width));
  std::atomic<bool> good{true};
  parallel_blocks((n + rows_per_block - 1) / rows_per_block, run, [&](int64_t block, int) {
    const int64_t begin = block * rows_per_block;
    if (!pack_bools(bools + begin * width, std::min(rows_per_block, n - begin), width,
                    words + begin * words_of(width))) {
      good = false;
    }
  });
  if (!good) throw_not_bools();
}

void hash_rows(const uint64_t* rows, int64_t n, int64_t words, uint64_t* hashes, const Run& run) {
  constexpr int64_t rows_per_block = 4096;
  parallel_blocks((n + rows_per_block - 1) / rows_per_block, run, [&](int64_t block, int) {
    const int64_t end = std::min(n, (block + 1) * rows_per_block);
    for (int64_t i = block * rows_per_block; i < end; ++i) {
      hashes[i] = hash_row(rows + i * words, words);
    }
  });
}

template int64_t unique_rows(const uint64_t*, int64_t, int64_t, int, int64_t*, int64_t*, int64_t*,
                             const Run&);
template int64_t unique_rows(const uint8_t*, int64_t, int64_t, int, int64_t*, int64_t*, int64_t*,
                             const Run&);
template int64_t unique_rows(const float*, int64_t, int64_t, int, int64_t*, int64_t*, int64_t*,
                             const Run&);
template int64_t unique_rows(const double*, int64_t, int64_t, int, int64_t*, int64_t*, int64_t*,
                             const Run&);

}  // namespace gradsplinter
