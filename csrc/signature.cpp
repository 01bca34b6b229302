#include <algorithm>

#include "buffer.h"
#include "deduplicate.h"
#include "forward_pass.h"
#include "huge_pages.h"
#include "ops.h"
#include "scalar.h"

namespace gradsplinter {
namespace {

// Layers made ready for the forward pass; those beyond the last site that is asked for are left
// out, unless the outputs are wanted.
template <class T>
class ForwardPass {
 public:
  ForwardPass(const std::vector<Layer<T>>& layers, const std::vector<int64_t>& sites, bool outputs)
      : depth_(outputs         ? static_cast<int64_t>(layers.size())
               : sites.empty() ? 0
                               : sites.back()),
        inputs_(layers[0].inputs),
        outputs_(layers.back().outputs),
        packed_(packed_size(layers)) {
    T* at = packed_.get();
    for (int64_t l = 0; l < depth_; ++l) {
      const Layer<T>& layer = layers[static_cast<size_t>(l)];
      const int64_t padded = round_up(layer.outputs, kernel_.tile);
      T* bias = at + padded * layer.inputs;
      pack_layer(layer, kernel_.tile, at, bias);
      forward_.push_back({at, bias, layer.inputs, layer.outputs, -1});
      stride_ = std::max(stride_, padded);
      at = bias + padded;
    }
    for (const int64_t site : sites) {
      forward_[static_cast<size_t>(site - 1)].word = words_;
      words_ += words_of(layers[static_cast<size_t>(site - 1)].outputs);
    }
  }

  bool empty() const { return depth_ == 0; }
  int64_t inputs() const { return inputs_; }
  int64_t words() const { return words_; }
  int64_t block_rows() const { return kernel_.block_rows; }

  // What one thread works in; apart from the next thread's by two cache lines.
  int64_t scratch() const { return round_up(2 * kernel_.block_rows * stride_, 64) + 128; }

  // Up to block_rows examples, from `row` on.
  void run(const T* x, int64_t row, int64_t rows, uint64_t* signature, T* y, T* scratch) const {
    kernel_.signature({forward_.data(), depth_, x + row * inputs_, rows, signature, words_,
                       y != nullptr ? y + row * outputs_ : nullptr, scratch, stride_});
  }

 private:
  int64_t packed_size(const std::vector<Layer<T>>& layers) const {
    int64_t size = 0;
    for (int64_t l = 0; l < depth_; ++l) {
      const Layer<T>& layer = layers[static_cast<size_t>(l)];
      size += round_up(layer.outputs, kernel_.tile) * (layer.inputs + 1);
    }
    return size;
  }

  const KernelsOf<T>& kernel_ = kernels_of<T>(kernels());
  int64_t depth_, inputs_, outputs_;
  int64_t words_ = 0, stride_ = 0;
  Buffer<T> packed_;
  std::vector<ForwardLayer<T>> forward_;
};

template <class T>
void signatures(const ForwardPass<T>& pass, const T* x, int64_t n, uint64_t* signature, T* y,
                const Run& run) {
  if (n == 0 || pass.empty()) return;
  const int64_t blocks = (n + pass.block_rows() - 1) / pass.block_rows();
  const Buffer<T> scratch(threads_for(blocks, run) * pass.scratch());
  parallel_blocks(blocks, run, [&](int64_t block, int thread) {
    const int64_t row = block * pass.block_rows();
    pass.run(x, row, std::min(pass.block_rows(), n - row), signature + row * pass.words(), y,
             scratch.get() + thread * pass.scratch());
  });
}

// The signatures of examples as rows that are computed when they are read.
template <class T, int64_t fixed_words>
struct SignatureRows {
  const ForwardPass<T>& pass;
  const T* x;
  static constexpr int64_t fixed = fixed_words;
  static constexpr int64_t batches_between_checks = 1;

  int64_t words() const { return pass.words(); }
  int64_t batch() const { return pass.block_rows(); }

  class Reader {
   public:
    explicit Reader(const SignatureRows& rows)
        : rows_(rows), scratch_(rows.pass.scratch()), words_(rows.batch() * rows.words()) {}
    const uint64_t* read(int64_t begin, int64_t n) {
      rows_.pass.run(rows_.x, begin, n, words_.get(), nullptr, scratch_.get());
      return words_.get();
    }
    void prefetch(int64_t) const {}

   private:
    const SignatureRows& rows_;
    Buffer<T> scratch_;
    Buffer<uint64_t> words_;
  };
};

// Whether the signatures of a sample of examples are mostly unique.
template <class T>
bool signatures_mostly_unique(const ForwardPass<T>& pass, const T* x, int64_t n, const Run& run) {
  const int64_t sample = sample_size(n), inputs = pass.inputs();
  if (sample == 0) return false;
  const Buffer<T> some(sample * inputs);
  for (int64_t i = 0; i < sample; ++i) {
    std::copy_n(x + n / sample * i * inputs, inputs, some.get() + i * inputs);
  }
  const Buffer<uint64_t> words(sample * pass.words());
  signatures<T>(pass, some.get(), sample, words.get(), nullptr, run);
  return mostly_unique(words.get(), sample, pass.words());
}

}  // namespace

template <class T>
void signatures(const std::vector<Layer<T>>& layers, const std::vector<int64_t>& sites, const T* x,
                int64_t n, uint64_t* signature, T* y, const Run& run) {
  const ForwardPass<T> pass(layers, sites, y != nullptr);
  prefer_huge_pages(signature, n * pass.words());
  if (y != nullptr) prefer_huge_pages(y, n * layers.back().outputs);
  signatures(pass, x, n, signature, y, run);
}

template <class T>
int64_t unique_signatures(const std::vector<Layer<T>>& layers, const std::vector<int64_t>& sites,
                          const T* x, int64_t n, uint64_t* unique, int64_t* first, int64_t* counts,
                          int64_t* ids, const Run& run) {
  const ForwardPass<T> pass(layers, sites, false);
  const int64_t words = pass.words();
  if (pass.empty() || signatures_mostly_unique(pass, x, n, run)) {
    // All of them, then the unique ones moved to the front: first[id] >= id, in ascending order.
    prefer_huge_pages(unique, n * words);
    signatures<T>(pass, x, n, unique, nullptr, run);
    const int64_t count = unique_rows(unique, n, words, 64, first, counts, ids, run);
    for (int64_t id = 0; id < count; ++id) {
      std::copy_n(unique + first[id] * words, words, unique + id * words);
    }
    return count;
  }
  prefer_huge_pages(ids, n);
  return with_fixed(words, [&]<int64_t fixed>(std::integral_constant<int64_t, fixed>) {
    using Source = SignatureRows<T, fixed>;
    const Source rows{pass, x};
    return with_table_per_thread(
        Deduplication<Source>{rows, n, ~uint64_t{0}, first, counts, ids, unique, run});
  });
}

template void signatures(const std::vector<Layer<float>>&, const std::vector<int64_t>&,
                         const float*, int64_t, uint64_t*, float*, const Run&);
template void signatures(const std::vector<Layer<double>>&, const std::vector<int64_t>&,
                         const double*, int64_t, uint64_t*, double*, const Run&);
template int64_t unique_signatures(const std::vector<Layer<float>>&, const std::vector<int64_t>&,
                                   const float*, int64_t, uint64_t*, int64_t*, int64_t*, int64_t*,
                                   const Run&);
template int64_t unique_signatures(const std::vector<Layer<double>>&, const std::vector<int64_t>&,
                                   const double*, int64_t, uint64_t*, int64_t*, int64_t*, int64_t*,
                                   const Run&);

}  // namespace gradsplinter
