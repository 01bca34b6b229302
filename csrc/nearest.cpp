// The nearest references of each group to each query. References are laid out in panels, those of a
// group one after the other; a block of queries goes through panels that stay in cache.
#include <algorithm>
#include <memory>
#include <vector>

#include "buffer.h"
#include "ops.h"

namespace gradsplinter {
namespace {

constexpr uint64_t nobody = uint64_t{1} << 62;  // more than any key
constexpr int64_t queries_per_block = 16;
constexpr int64_t bytes_at_once = 1 << 15;  // of panels

class Panels {
 public:
  Panels(const uint64_t* references, int64_t m, int64_t words, const int64_t* group_of,
         int64_t groups, const Run& run)
      : words_(words), begins_(static_cast<size_t>(groups) + 1, 0) {
    std::vector<int64_t> counts(static_cast<size_t>(groups), 0);
    for (int64_t i = 0; i < m; ++i) ++counts[static_cast<size_t>(group_of[i])];
    for (size_t g = 0; g < counts.size(); ++g) {
      begins_[g + 1] = begins_[g] + (counts[g] + lanes_ - 1) / lanes_;
    }
    const int64_t panels = begins_.back();
    indices_.assign(static_cast<size_t>(panels * lanes_), nobody);
    std::vector<int64_t> next(counts.size());
    for (size_t g = 0; g < counts.size(); ++g) next[g] = begins_[g] * lanes_;
    for (int64_t i = 0; i < m; ++i) {
      const int64_t place = next[static_cast<size_t>(group_of[i])]++;
      indices_[static_cast<size_t>(place)] = static_cast<uint64_t>(i);
    }
    packed_ = std::make_unique<Buffer<uint64_t>>(panels * words * lanes_);
    parallel_blocks(panels, run, [&](int64_t panel, int) { pack(references, panel); });
  }

  int64_t groups() const { return static_cast<int64_t>(begins_.size()) - 1; }

  // keys [rows]: of the nearest references of a group, or `nobody`.
  void search(const uint64_t* queries, int64_t rows, int64_t group, uint64_t* keys,
              const Stopping& stopping) const {
    std::fill_n(keys, rows, nobody);
    const int64_t end = begins_[static_cast<size_t>(group) + 1];
    const int64_t panel_bytes = 8 * std::max<int64_t>(1, words_) * lanes_;
    const int64_t step = std::max<int64_t>(1, bytes_at_once / panel_bytes);
    for (int64_t p = begins_[static_cast<size_t>(group)]; p < end && !stopping(); p += step) {
      kernel_({packed_->get() + p * words_ * lanes_, indices_.data() + p * lanes_,
               std::min(step, end - p), words_, queries, rows, keys});
    }
  }

 private:
  void pack(const uint64_t* references, int64_t panel) const {
    uint64_t* to = packed_->get() + panel * words_ * lanes_;
    for (int64_t lane = 0; lane < lanes_; ++lane) {
      const uint64_t i = indices_[static_cast<size_t>(panel * lanes_ + lane)];
      const uint64_t* from = i == nobody ? nullptr : references + static_cast<int64_t>(i) * words_;
      for (int64_t k = 0; k < words_; ++k) to[k * lanes_ + lane] = from == nullptr ? 0 : from[k];
    }
  }

  void (*kernel_)(const NearestBlock&) = kernels().nearest;
  int64_t lanes_ = kernels().nearest_lanes;
  int64_t words_;
  std::vector<int64_t> begins_;    // of the panels of each group, and the end
  std::vector<uint64_t> indices_;  // [panels, lanes]
  std::unique_ptr<Buffer<uint64_t>> packed_;
};

}  // namespace

void nearest(const uint64_t* queries, int64_t n, const uint64_t* references, int64_t m,
             int64_t words, const int64_t* group_of, int64_t groups, int32_t* distance,
             int64_t* index, const Run& run) {
  const Panels panels(references, m, words, group_of, groups, run);
  const int64_t blocks = (n + queries_per_block - 1) / queries_per_block;
  parallel_blocks(blocks, run, [&](int64_t block, int, const Stopping& stopping) {
    const int64_t begin = block * queries_per_block;
    const int64_t rows = std::min(queries_per_block, n - begin);
    uint64_t keys[queries_per_block];
    for (int64_t g = 0; g < groups; ++g) {
      panels.search(queries + begin * words, rows, g, keys, stopping);
      for (int64_t r = 0; r < rows; ++r) {
        const int64_t at = (begin + r) * groups + g;
        const bool found = keys[r] < nobody;
        distance[at] = found ? static_cast<int32_t>(keys[r] >> 32) : -1;
        index[at] = found ? static_cast<int64_t>(keys[r] & 0xFFFFFFFF) : -1;
      }
    }
  });
}

}  // namespace gradsplinter
