// Rows within an angle of each other are joined, bucket by bucket. Which rows end up in one set
// depends neither on the order nor on the threads: it is the connected components of all pairs of
// neighbours that share a bucket. Pairs that cannot change that are left out. What became too wide
// is cut again: each row goes to a leader.
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

// Rows in the order of their buckets, ascending in each; those of bucket -1 are left out.
class Buckets {
 public:
  Buckets(const int64_t* bucket_of, int64_t n, int64_t buckets) : ends_(buckets + 1), members_(n) {
    std::fill_n(ends_.get(), buckets + 1, 0);
    for (int64_t i = 0; i < n; ++i) ++ends_[bucket_of[i] + 1];
    ends_[0] = 0;
    for (int64_t b = 0; b < buckets; ++b) ends_[b + 1] += ends_[b];
    for (int64_t i = 0; i < n; ++i) {
      if (bucket_of[i] >= 0) members_[ends_[bucket_of[i]]++] = i;  // from a begin to the end
    }
  }

  const int64_t* members(int64_t bucket) const { return members_.get() + begin(bucket); }
  int64_t size(int64_t bucket) const { return ends_[bucket] - begin(bucket); }

 private:
  int64_t begin(int64_t bucket) const { return bucket == 0 ? 0 : ends_[bucket - 1]; }

  Buffer<int64_t> ends_, members_;
};

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

template <class T>
class Leading {
 public:
  Leading(const NeighbourRows<T>& rows, int64_t* leader_of) : rows_(rows), leader_of_(leader_of) {}

  // The rows of a cluster, a block at a time: all threads look among the leaders so far, then one
  // among those that the block adds.
  void run(const int64_t* members, int64_t n, const Run& run) const {
    constexpr int64_t rows_per_block = 256;
    std::vector<int64_t> leaders;
    for (int64_t begin = 0; begin < n; begin += rows_per_block) {
      const int64_t end = std::min(n, begin + rows_per_block);
      const size_t known = leaders.size();
      parallel_blocks(end - begin, run, [&](int64_t i, int) {
        const int64_t row = members[begin + i];
        leader_of_[row] = first_near(row, leaders, 0);
      });
      for (int64_t i = begin; i < end; ++i) {
        int64_t& leader = leader_of_[members[i]];
        if (leader < 0) leader = first_near(members[i], leaders, known);
        if (leader >= 0) continue;
        leader = members[i];
        leaders.push_back(leader);
      }
    }
  }

 private:
  // The first of the leaders from `at` on within the angle; -1: none.
  int64_t first_near(int64_t row, const std::vector<int64_t>& leaders, size_t at) const {
    constexpr size_t most = 32;
    double found[most];
    for (; at < leaders.size(); at += most) {
      const size_t count = std::min(most, leaders.size() - at);
      kernel_.dots({rows_.data + row * rows_.width, rows_.data, rows_.width, leaders.data() + at,
                    static_cast<int64_t>(count), found});
      for (size_t i = 0; i < count; ++i) {
        const int64_t leader = leaders[at + i];
        const double above = found[i] / (rows_.lengths[row] * rows_.lengths[leader]) - rows_.cosine;
        if (above > border || (above > -border && near(row, leader))) return leader;
      }
    }
    return -1;
  }

  // Also for small angles, whose cosines are 1 up to rounding (Kahan).
  bool near(int64_t row, int64_t leader) const {
    const T *a = rows_.data + row * rows_.width, *b = rows_.data + leader * rows_.width;
    double apart = 0, together = 0;
    for (int64_t k = 0; k < rows_.width; ++k) {
      const double x = static_cast<double>(a[k]) / rows_.lengths[row];
      const double y = static_cast<double>(b[k]) / rows_.lengths[leader];
      apart += (x - y) * (x - y);
      together += (x + y) * (x + y);
    }
    return 2 * std::atan2(std::sqrt(apart), std::sqrt(together)) <= rows_.angle;
  }

  static constexpr double border = 1e-9;  // of cosines, far more than their rounding

  const KernelsOf<T>& kernel_ = kernels_of<T>(kernels());
  NeighbourRows<T> rows_;
  int64_t* leader_of_;
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
  const Buckets sorted(bucket_of, rows.n, buckets);
  std::vector<Joining<T>> joinings(static_cast<size_t>(threads_for(buckets, run)),
                                   Joining<T>(rows, parents));
  parallel_blocks(buckets, run, [&](int64_t bucket, int thread, const Stopping& stopping) {
    const int64_t size = sorted.size(bucket);
    if (size > 1) {
      joinings[static_cast<size_t>(thread)].run(sorted.members(bucket), size, stopping);
    }
  });
}

template <class T>
void leaders(const NeighbourRows<T>& rows, const int64_t* cluster_of, int64_t clusters,
             int64_t* leader_of, const Run& run) {
  constexpr int64_t large = 4096;  // rows from which on a cluster is worth all threads
  const Buckets sorted(cluster_of, rows.n, clusters);
  const Leading<T> leading(rows, leader_of);
  std::fill_n(leader_of, rows.n, -1);
  parallel_blocks(clusters, run, [&](int64_t cluster, int) {
    const int64_t size = sorted.size(cluster);
    if (size < large) leading.run(sorted.members(cluster), size, Run{});
  });
  for (int64_t cluster = 0; cluster < clusters; ++cluster) {
    const int64_t size = sorted.size(cluster);
    if (size >= large) leading.run(sorted.members(cluster), size, run);
  }
}

template void lengths(const float*, int64_t, int64_t, double*, const Run&);
template void lengths(const double*, int64_t, int64_t, double*, const Run&);
template void join_neighbours(const NeighbourRows<float>&, const int64_t*, int64_t, int64_t*,
                              const Run&);
template void join_neighbours(const NeighbourRows<double>&, const int64_t*, int64_t, int64_t*,
                              const Run&);
template void leaders(const NeighbourRows<float>&, const int64_t*, int64_t, int64_t*, const Run&);
template void leaders(const NeighbourRows<double>&, const int64_t*, int64_t, int64_t*, const Run&);

}  // namespace gradsplinter
