// A part of a plane, cut by the units of one layer after the other into faces on which every unit
// is on or off. Faces share points and edges, so an edge is cut once for both of its faces.
#pragma once

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <utility>
#include <vector>

#include "points.h"

namespace gradsplinter {

struct Edge {
  int32_t a, b;
  // Where the edge came from: inside, the domain's border, or a seam to another mesh.
  int64_t seam;
  static constexpr int64_t inside = 0, border = -1;
};

class Mesh {
 public:
  Points points;
  std::vector<Edge> edges;
  std::vector<int32_t> sides;      // of the faces, counter-clockwise: 2 edge + (from b to a)
  std::vector<int32_t> begins;     // [faces + 1]
  std::vector<int32_t> parents;    // [faces]: the face at the begin of the layer
  std::vector<uint64_t> patterns;  // [faces at the begin of the layer, pattern_words]
  int64_t pattern_words = 0;

  int32_t faces() const { return static_cast<int32_t>(parents.size()); }
  int32_t from(int32_t side) const {
    const Edge& edge = edges[static_cast<size_t>(side >> 1)];
    return side & 1 ? edge.b : edge.a;
  }

  // Cuts every face by the units of a word of the layer.
  void cut(int64_t word) {
    const size_t whole = edges.size();
    rest_.assign(whole, {0, 0});
    for (size_t e = 0; e < whole; ++e) {
      const uint64_t crossing = points.crossing(edges[e].a, edges[e].b, word);
      if (crossing != 0) rest_[e] = split(e, word, crossing);
    }
    old_sides_.swap(sides);
    old_begins_.swap(begins);
    old_parents_.swap(parents);
    sides.clear();
    begins.assign(1, 0);
    parents.clear();
    for (size_t f = 0; f < old_parents_.size(); ++f) {
      polygons_.clear();
      for (int32_t i = old_begins_[f]; i < old_begins_[f + 1]; ++i) {
        add_pieces(old_sides_[static_cast<size_t>(i)]);
      }
      cut_face(word, old_parents_[f]);
    }
  }

  // What the layer adds to the patterns.
  void leave(const MeshLayer& layer) {
    const int64_t words = layer.words(), all = pattern_words + words;
    std::vector<uint64_t> with(static_cast<size_t>(faces() * all), 0);
    for (int32_t f = 0; f < faces(); ++f) {
      uint64_t* pattern = with.data() + f * all;
      const int32_t parent = std::exchange(parents[static_cast<size_t>(f)], f);
      std::copy_n(patterns.data() + parent * pattern_words, pattern_words, pattern);
      for (int32_t i = begins[static_cast<size_t>(f)]; i < begins[static_cast<size_t>(f) + 1];
           ++i) {
        const int32_t point = from(sides[static_cast<size_t>(i)]);
        for (int64_t w = 0; w < words; ++w) pattern[pattern_words + w] |= points.positive(point, w);
      }
    }
    patterns = std::move(with);
    pattern_words = all;
  }

  // The first face of one of `count` parts of about as many faces each.
  size_t first(int64_t part, int64_t count) const {
    return static_cast<size_t>(part * faces() / count);
  }

  // Gives the edges that parts have in common numbers of their own.
  template <class NewSeam>
  void divide(int64_t count, const NewSeam& new_seam) {
    std::vector<int64_t> owner(edges.size(), -1);
    for (int64_t part = 0; part < count; ++part) {
      for (int32_t i = begins[first(part, count)]; i < begins[first(part + 1, count)]; ++i) {
        const auto e = static_cast<size_t>(sides[static_cast<size_t>(i)] >> 1);
        if (owner[e] >= 0 && owner[e] != part) edges[e].seam = new_seam();
        owner[e] = part;
      }
    }
  }

  // Becomes some faces of another mesh, one after the other, in the memory that it has.
  void take(const Mesh& whole, size_t begin, size_t end) {
    point_copies_.begin(static_cast<size_t>(whole.points.size()));
    edge_copies_.begin(whole.edges.size());
    pattern_words = whole.pattern_words;
    sides.clear();
    begins.assign(1, 0);
    parents.clear();
    patterns.clear();
    edges.clear();
    for (size_t f = begin; f < end; ++f) {
      for (int32_t i = whole.begins[f]; i < whole.begins[f + 1]; ++i) {
        const int32_t side = whole.sides[static_cast<size_t>(i)];
        sides.push_back(2 * edge_copies_.number(side >> 1) + (side & 1));
      }
      begins.push_back(static_cast<int32_t>(sides.size()));
      // Faces with one parent lie next to each other.
      if (f == begin || whole.parents[f] != whole.parents[f - 1]) {
        const auto pattern =
            whole.patterns.begin() + static_cast<std::ptrdiff_t>(whole.parents[f]) * pattern_words;
        patterns.insert(patterns.end(), pattern, pattern + pattern_words);
        parents.push_back(f == begin ? 0 : parents.back() + 1);
      } else {
        parents.push_back(parents.back());
      }
    }
    for (const int32_t e : edge_copies_.copied()) {
      const Edge& edge = whole.edges[static_cast<size_t>(e)];
      const int32_t a = point_copies_.number(edge.a), b = point_copies_.number(edge.b);
      edges.push_back({a, b, edge.seam});
    }
    points.take(whole.points, point_copies_.copied());
  }

 private:
  struct Rest {
    int32_t begin, count;  // the pieces of an edge after the first, which keeps its number
  };

  // The things of a mesh that a part of it has, and their new numbers.
  class Copies {
   public:
    void begin(size_t things) {
      for (const int32_t thing : copied_) numbers_[static_cast<size_t>(thing)] = -1;
      copied_.clear();
      if (numbers_.size() < things) numbers_.resize(things, -1);
    }
    int32_t number(int32_t thing) {
      int32_t& number = numbers_[static_cast<size_t>(thing)];
      if (number < 0) {
        number = static_cast<int32_t>(copied_.size());
        copied_.push_back(thing);
      }
      return number;
    }
    const std::vector<int32_t>& copied() const { return copied_; }

   private:
    std::vector<int32_t> numbers_, copied_;
  };

  Rest split(size_t e, int64_t word, uint64_t crossing) {
    const auto [a, b, seam] = edges[e];
    const std::vector<int32_t>& cuts = points.cut(a, b, word, crossing);
    const Rest rest{static_cast<int32_t>(edges.size()), static_cast<int32_t>(cuts.size())};
    edges[e].b = cuts.front();
    for (size_t i = 1; i < cuts.size(); ++i) edges.push_back({cuts[i - 1], cuts[i], seam});
    edges.push_back({cuts.back(), b, seam});
    return rest;
  }

  void add_pieces(int32_t side) {
    const auto e = static_cast<size_t>(side >> 1);
    const Rest rest = e < rest_.size() ? rest_[e] : Rest{0, 0};
    if ((side & 1) == 0) polygons_.push_back(side);
    for (int32_t i = 0; i < rest.count; ++i) {
      polygons_.push_back(side & 1 ? 2 * (rest.begin + rest.count - 1 - i) + 1
                                   : 2 * (rest.begin + i));
    }
    if (side & 1) polygons_.push_back(side);
  }

  // The face in polygons_ -> its parts, each on one side of every unit of the word.
  void cut_face(int64_t word, int32_t parent) {
    open_.assign(1, 0);
    while (!open_.empty()) {
      const size_t begin = open_.back();
      uint64_t positive = 0, negative = 0;
      for (size_t i = begin; i < polygons_.size(); ++i) {
        const int32_t point = from(polygons_[i]);
        positive |= points.positive(point, word);
        negative |= points.negative(point, word);
      }
      const uint64_t both = positive & negative;
      if (both == 0) {
        sides.insert(sides.end(), polygons_.begin() + static_cast<std::ptrdiff_t>(begin),
                     polygons_.end());
        begins.push_back(static_cast<int32_t>(sides.size()));
        parents.push_back(parent);
        polygons_.resize(begin);
        open_.pop_back();
      } else {
        cut_polygon(begin, word, __builtin_ctzll(both));
      }
    }
  }

  // The last polygon -> its part where the unit is off and, last, the one where it is on.
  void cut_polygon(size_t begin, int64_t word, int unit) {
    polygon_.assign(polygons_.begin() + static_cast<std::ptrdiff_t>(begin), polygons_.end());
    const size_t n = polygon_.size();
    const auto side = [&](size_t i) { return polygon_[i < n ? i : i - n]; };
    const auto sign = [&](size_t i) {
      const int32_t point = from(side(i));
      return static_cast<int>(points.positive(point, word) >> unit & 1) -
             static_cast<int>(points.negative(point, word) >> unit & 1);
    };
    const auto after = [&](size_t i) { return i + 1 < n ? i + 1 : 0; };
    // The corner at `begin` or later from which the sign changes to the other one, which is met at
    // `next`: a corner at 0. Corners at 0 between two of one sign only touch the unit's border.
    const auto change = [&](size_t begin, int from) {
      for (size_t last = begin;;) {
        while (sign(last) == from) last = after(last);
        size_t next = last;
        while (sign(next) == 0) next = after(next);
        if (sign(next) != from) return std::pair(last, next);
        last = next;
      }
    };
    size_t positive = 0;
    while (sign(positive) <= 0) ++positive;
    const auto [p, negative] = change(positive, 1);
    const size_t q = change(negative, -1).first;
    // Else a face would be cut at its own corners for ever.
    if (sign(p) != 0 || sign(q) != 0)
      throw std::logic_error("a face has no corner where it is cut");
    const size_t steps = q >= p ? q - p : q + n - p;
    const int32_t from_p = from(side(p)), from_q = from(side(q));
    const auto chord = static_cast<int32_t>(edges.size());
    edges.push_back({from_p, from_q, Edge::inside});
    const uint64_t crossing = points.crossing(from_p, from_q, word);
    const Rest rest =
        crossing != 0 ? split(static_cast<size_t>(chord), word, crossing) : Rest{0, 0};
    polygons_.resize(begin);
    for (size_t j = 0; j < steps; ++j) polygons_.push_back(side(p + j));
    for (int32_t j = rest.count; j-- > 0;) polygons_.push_back(2 * (rest.begin + j) + 1);
    polygons_.push_back(2 * chord + 1);
    open_.push_back(polygons_.size());
    polygons_.push_back(2 * chord);
    for (int32_t j = 0; j < rest.count; ++j) polygons_.push_back(2 * (rest.begin + j));
    for (size_t j = steps; j < n; ++j) polygons_.push_back(side(p + j));
  }

  Copies point_copies_, edge_copies_;
  std::vector<Rest> rest_;
  std::vector<int32_t> old_sides_, old_begins_, old_parents_;
  std::vector<int32_t> polygons_, polygon_;  // the open ones, one after the other; the one in hand
  std::vector<size_t> open_;                 // where each begins in polygons_
};

}  // namespace gradsplinter
