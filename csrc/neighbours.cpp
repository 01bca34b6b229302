// Rows within an angle of each other are joined, bucket by bucket. Which rows end up in one set
// depends neither on the order nor on the threads: it is the connected components of all pairs of
// neighbours that share a bucket. Pairs that cannot change that are left out.
#include <algorithm>
#include <cmath>
#include <vector>

#include "buffer.h"
#include "ops.h"
#include "sets.h"

namespace gradsplinter {
namespace {

// Angles are known up to rounding, which near 0 is that of a cosine next to 1.
constexpr double margin = 1e-6;

template <class T>
class Joining {
 public:
  Joining(const NeighbourRows<T>& rows, int64_t* parents) : rows_(rows), sets_(parents) {}

  // All rows of a bucket. A row that has a neighbour among the leaders goes to the group of the
  // nearest one; else it becomes a leader. Far from the leader of a group, further than its radius
  // and the angle, there is no neighbour in it (the triangle inequality).
  void run(const int64_t* members, int64_t n, const Stopping& stopping) {
    if (joined(members, n)) return;
    groups_.clear();
    leaders_.clear();
    next_.assign(static_cast<size_t>(n), -1);
    for (int64_t at = 0; at < n && !stopping(); ++at) {
      const int64_t row = members[at];
      cosines(row, leaders_);
      int64_t nearest = -1;
      for (size_t g = 0; g < groups_.size(); ++g) {
        if (found_[g] < rows_.cosine) continue;
        sets_.join(row, leaders_[g]);
        if (nearest < 0 || found_[g] > found_[static_cast<size_t>(nearest)]) {
          nearest = static_cast<int64_t>(g);
        }
      }
      const double best = nearest < 0 ? 0 : found_[static_cast<size_t>(nearest)];
      far_.clear();
      for (size_t g = 0; g < groups_.size(); ++g) {
        if (found_[g] < rows_.cosine && found_[g] >= groups_[g].reach) far_.push_back(g);
      }
      for (const size_t g : far_) {
        if (sets_.root(row) != sets_.root(leaders_[g])) join_one_of(row, groups_[g], members);
      }
      if (nearest < 0) {
        groups_.push_back({-1, 0, std::cos(rows_.angle + margin)});
        leaders_.push_back(row);
      } else {
        Group& group = groups_[static_cast<size_t>(nearest)];
        next_[static_cast<size_t>(at)] = group.last;
        group.last = at;
        const double angle = std::acos(std::min(best, 1.0)) + margin;
        if (angle > group.radius) {
          group.radius = angle;
          group.reach = std::cos(std::min(rows_.angle + angle + margin, M_PI));
        }
      }
    }
  }

 private:
  struct Group {
    int64_t last;   // of its members but the leader, by place in the bucket; -1: none
    double radius;  // at least the angle from the leader to each member
    double reach;   // no member has a neighbour whose cosine to the leader is less
  };

  bool joined(const int64_t* members, int64_t n) const {
    const int64_t root = sets_.root(members[0]);
    return std::all_of(members + 1, members + n,
                       [&](int64_t row) { return sets_.root(row) == root; });
  }

  // Joins a row with a member of a group that is its neighbour, if there is one.
  void join_one_of(int64_t row, const Group& group, const int64_t* members) {
    constexpr size_t most = 32;
    for (int64_t at = group.last; at >= 0;) {
      some_.clear();
      for (; at >= 0 && some_.size() < most; at = next_[static_cast<size_t>(at)]) {
        some_.push_back(members[at]);
      }
      cosines(row, some_);
      for (size_t i = 0; i < some_.size(); ++i) {
        if (found_[i] >= rows_.cosine) return sets_.join(row, some_[i]);
      }
    }
  }

  void cosines(int64_t row, const std::vector<int64_t>& others) {
    found_.resize(others.size());
    kernel_.dots({rows_.data + row * rows_.width, rows_.data, rows_.width, others.data(),
                  static_cast<int64_t>(others.size()), found_.data()});
    for (size_t i = 0; i < others.size(); ++i) {
      found_[i] /= rows_.lengths[row] * rows_.lengths[others[i]];
    }
  }

  const KernelsOf<T>& kernel_ = kernels_of<T>(kernels());
  NeighbourRows<T> rows_;
  Sets sets_;
  std::vector<Group> groups_;
  std::vector<int64_t> leaders_, some_;
  std::vector<int64_t> next_;  // by place in the bucket: the member before in the same group
  std::vector<size_t> far_;
  std::vector<double> found_;
};

}  // namespace

template <class T>
void lengths(const T* rows, int64_t n, int64_t width, double* lengths, const Run& run) {
  constexpr int64_t rows_per_block = 1024;
  const KernelsOf<T>& kernel = kernels_of<T>(kernels());
  parallel_blocks((n + rows_per_block - 1) / rows_per_block, run, [&](int64_t block, int) {
    const int64_t end = std::min(n, (block + 1) * rows_per_block);
    for (int64_t i = block * rows_per_block; i < end; ++i) {
      kernel.dots({rows + i * width, rows, width, &i, 1, lengths + i});
      lengths[i] = std::sqrt(lengths[i]);
    }
  });
}

template <class T>
void join_neighbours(const NeighbourRows<T>& rows, const int64_t* bucket_of, int64_t buckets,
                     int64_t* parents, const Run& run) {
  if (rows.n == 0) return;
  // Rows in the order of their buckets: counted, then put in place.
  const Buffer<int64_t> begins(buckets + 1), members(rows.n);
  std::fill_n(begins.get(), buckets + 1, 0);
  for (int64_t i = 0; i < rows.n; ++i) ++begins[bucket_of[i] + 1];
  for (int64_t b = 0; b < buckets; ++b) begins[b + 1] += begins[b];
  for (int64_t i = 0; i < rows.n; ++i) members[begins[bucket_of[i]]++] = i;
  // Now `begins` has the end of each bucket.
  std::vector<Joining<T>> joinings(static_cast<size_t>(threads_for(buckets, run)),
                                   Joining<T>(rows, parents));
  parallel_blocks(buckets, run, [&](int64_t bucket, int thread, const Stopping& stopping) {
    const int64_t begin = bucket == 0 ? 0 : begins[bucket - 1];
    const int64_t size = begins[bucket] - begin;
    if (size > 1) joinings[static_cast<size_t>(thread)].run(members.get() + begin, size, stopping);
  });
}

template void lengths(const float*, int64_t, int64_t, double*, const Run&);
template void lengths(const double*, int64_t, int64_t, double*, const Run&);
template void join_neighbours(const NeighbourRows<float>&, const int64_t*, int64_t, int64_t*,
                              const Run&);
template void join_neighbours(const NeighbourRows<double>&, const int64_t*, int64_t, int64_t*,
                              const Run&);

}  // namespace gradsplinter
