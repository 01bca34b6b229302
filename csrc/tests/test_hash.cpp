// Known answers of wyhash final version 4.3 with seed 0, from its authors' implementation.
#include "scalar.h"
#include "testing.h"

namespace gradsplinter {
namespace {

struct KnownAnswer {
  int64_t words;
  uint64_t hash;
};

// Of the words i * 0x9E3779B97F4A7C15 + 1, as little-endian bytes.
constexpr KnownAnswer known_answers[] = {
    {0, 0x93228A4DE0EEC5A2u},   {1, 0x32AE2B35890811D6u},  {2, 0xEC57FC6D76AE3F38u},
    {3, 0xBEC534F86C1A932Bu},   {4, 0x235333AFAB192919u},  {5, 0x47B3D439B70F1500u},
    {6, 0xF314F477D94DF026u},   {7, 0x20ED0CF71A94B5D8u},  {8, 0x8DE6725C52DF8D6Du},
    {9, 0xB9D6536D0B79BFC9u},   {12, 0x0EB1B62C8D5C3499u}, {13, 0x0F5299DCC57936C9u},
    {16, 0xFEBB5CF4DAC90A64u},  {17, 0x1043141C5DF3BE61u}, {33, 0xCDE556BDA62EBA87u},
    {392, 0x0DA2AB93E9BBC8F1u},
};

Input<uint64_t> words_of_known_answers(int64_t n) {
  Input<uint64_t> words(n);
  for (int64_t i = 0; i < n; ++i) words[i] = static_cast<uint64_t>(i) * 0x9E3779B97F4A7C15u + 1;
  return words;
}

TEST_CASE("hash: known answers") {
  for (const KnownAnswer& known : known_answers) {
    CAPTURE(known.words);
    const Input<uint64_t> words = words_of_known_answers(known.words);
    CHECK(hash_row(words.data(), known.words) == known.hash);
  }
}

TEST_CASE("hash: rows of a matrix, on any number of threads") {
  for (const KnownAnswer& known : known_answers) {
    const Input<uint64_t> row = words_of_known_answers(known.words);
    for (const int64_t n : {0, 1, 4095, 4096, 4097, 10000}) {
      // Every row differs in its last word, but for the last one: the known answer.
      Input<uint64_t> rows(n * known.words);
      std::vector<uint64_t> want;
      for (int64_t i = 0; i < n; ++i) {
        uint64_t* to = rows.data() + i * known.words;
        for (int64_t j = 0; j < known.words; ++j) to[j] = row[j];
        if (known.words > 0) to[known.words - 1] += static_cast<uint64_t>(n - 1 - i);
        want.push_back(hash_row(to, known.words));
      }
      if (n > 0) CHECK(want.back() == known.hash);
      for (const int threads : {1, 2, 3}) {
        CAPTURE(known.words);
        CAPTURE(n);
        CAPTURE(threads);
        Output<uint64_t> hashes(n);
        hash_rows(rows.data(), n, known.words, hashes.data(), {threads});
        hashes.check(want.data());
      }
    }
  }
}

TEST_CASE("hash: every word and every bit of it counts") {
  for (const KnownAnswer& known : known_answers) {
    Input<uint64_t> words = words_of_known_answers(known.words);
    for (int64_t bit = 0; bit < 64 * known.words; ++bit) {
      words[bit / 64] ^= uint64_t{1} << (bit % 64);
      CHECK(hash_row(words.data(), known.words) != known.hash);
      words[bit / 64] ^= uint64_t{1} << (bit % 64);
    }
  }
}

TEST_CASE("canonical bits: zeros are one number, all others keep their bits") {
  CHECK(canonical_bits(-0.0f) == canonical_bits(0.0f));
  CHECK(canonical_bits(-0.0) == canonical_bits(0.0));
  CHECK(canonical_bits(0.0f) == 0u);
  CHECK(canonical_bits(0.0) == 0u);
  CHECK(canonical_bits(1.0f) == 0x3F800000u);
  CHECK(canonical_bits(-1.0f) == 0xBF800000u);
  CHECK(canonical_bits(1.0) == 0x3FF0000000000000u);
  CHECK(canonical_bits(-std::numeric_limits<float>::denorm_min()) == 0x80000001u);
  CHECK(canonical_bits(-std::numeric_limits<double>::denorm_min()) == 0x8000000000000001u);
}

TEST_CASE("words: 64 units each") {
  CHECK(words_of(0) == 0);
  CHECK(words_of(1) == 1);
  CHECK(words_of(64) == 1);
  CHECK(words_of(65) == 2);
  CHECK(words_of(128) == 2);
  CHECK(words_of(129) == 3);
}

}  // namespace
}  // namespace gradsplinter
