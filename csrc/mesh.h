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

// An edge as a face sees it, counter-clockwise.
struct Side {
  int32_t edge;  // 2 edge + (from b to a)
  int32_t from;  // the point that it begins at
};

class Mesh {
 public:
  Points points;
  std::vector<Edge> edges;
  std::vector<Side> sides;       // of the faces
  std::vector<int32_t> begins;   // [faces + 1]
  std::vector<int32_t> parents;  // [faces]: the face at the begin of the layer
  Growing<uint64_t> patterns;    // [faces at the begin of the layer, pattern_words]
  int64_t pattern_words = 0;

  int32_t faces() const { return static_cast<int32_t>(parents.size()); }

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
      const Side* begin = old_sides_.data() + old_begins_[f];
      const Side* end = old_sides_.data() + old_begins_[f + 1];
      // New points have no signs but those of the ends of their edges.
      const uint64_t both = units_on_both_sides(begin, end, word);
      if (both == 0) {
        add_face(begin, end, old_parents_[f]);
      } else {
        polygons_.clear();
        for (const Side* side = begin; side != end; ++side) add_pieces(*side);
        cut_face(word, both, old_parents_[f]);
      }
    }
  }

  // What the layer adds to the patterns.
  void leave(const MeshLayer& layer) {
    const int64_t words = layer.words(), all = pattern_words + words;
    Growing<uint64_t> with(static_cast<size_t>(faces() * all));
    for (int32_t f = 0; f < faces(); ++f) {
      uint64_t* pattern = with.data() + f * all;
      const int32_t parent = std::exchange(parents[static_cast<size_t>(f)], f);
      std::copy_n(patterns.data() + parent * pattern_words, pattern_words, pattern);
      const Side* begin = sides.data() + begins[static_cast<size_t>(f)];
      const Side* end = sides.data() + begins[static_cast<size_t>(f) + 1];
      for (int64_t w = 0; w < words; ++w) {
        uint64_t on = 0;
        for (const Side* side = begin; side != end; ++side) on |= points.positive(side->from, w);
        pattern[pattern_words + w] = on;
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
        const auto e = static_cast<size_t>(sides[static_cast<size_t>(i)].edge >> 1);
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
        const auto [edge, from] = whole.sides[static_cast<size_t>(i)];
        sides.push_back(
            {2 * edge_copies_.number(edge >> 1) + (edge & 1), point_copies_.number(from)});
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

  void add_pieces(Side side) {
    const auto e = static_cast<size_t>(side.edge >> 1);
    const Rest rest = rest_[e];
    const bool back = side.edge & 1;
    if (!back) polygons_.push_back(side);
    add_rest(rest, back);
    if (back) polygons_.push_back({side.edge, rest.count > 0 ? edges[e].b : side.from});
  }

  void add_rest(Rest rest, bool back) {
    for (int32_t i = 0; i < rest.count; ++i) {
      const int32_t e = rest.begin + (back ? rest.count - 1 - i : i);
      const Edge& edge = edges[static_cast<size_t>(e)];
      polygons_.push_back({2 * e + back, back ? edge.b : edge.a});
    }
  }

  uint64_t units_on_both_sides(const Side* begin, const Side* end, int64_t word) const {
    uint64_t positive = 0, negative = 0;
    for (const Side* side = begin; side != end; ++side) {
      positive |= points.positive(side->from, word);
      negative |= points.negative(side->from, word);
    }
    return positive & negative;
  }

  void add_face(const Side* begin, const Side* end, int32_t parent) {
    sides.insert(sides.end(), begin, end);
    begins.push_back(static_cast<int32_t>(sides.size()));
    parents.push_back(parent);
  }

  // The face in polygons_ -> its parts, each on one side of every unit of the word. `both`: the
  // units that cut it.
  void cut_face(int64_t word, uint64_t both, int32_t parent) {
    open_.assign(1, {0, both});
    while (!open_.empty()) {
      auto& [begin, cuts] = open_.back();
      if (cuts == 0) {
        add_face(polygons_.data() + begin, polygons_.data() + polygons_.size(), parent);
        polygons_.resize(begin);
        open_.pop_back();
        continue;
      }
      const uint64_t others = cuts & (cuts - 1);
      const size_t middle = cut_polygon(begin, word, __builtin_ctzll(cuts));
      const auto part = [&](size_t from, size_t to) {
        return others == 0 ? 0
                           : others & units_on_both_sides(polygons_.data() + from,
                                                          polygons_.data() + to, word);
      };
      cuts = part(begin, middle);
      open_.push_back({middle, part(middle, polygons_.size())});
    }
  }

  // The last polygon -> its part where the unit is off and, last, the one where it is on, and where
  // that begins.
  size_t cut_polygon(size_t begin, int64_t word, int unit) {
    polygon_.assign(polygons_.begin() + static_cast<std::ptrdiff_t>(begin), polygons_.end());
    const size_t n = polygon_.size();
    signs_.clear();
    for (const Side& side : polygon_) signs_.push_back(points.sign(side.from, word, unit));
    const auto after = [&](size_t i) { return i + 1 < n ? i + 1 : 0; };
    // The corner at `begin` or later from which the sign changes to the other one, which is met at
    // `next`: a corner at 0. Corners at 0 between two of one sign only touch the unit's border.
    const auto change = [&](size_t begin, int from) {
      for (size_t last = begin;;) {
        while (signs_[last] == from) last = after(last);
        size_t next = last;
        while (signs_[next] == 0) next = after(next);
        if (signs_[next] != from) return std::pair(last, next);
        last = next;
      }
    };
    size_t positive = 0;
    while (signs_[positive] <= 0) ++positive;
    const auto [p, negative] = change(positive, 1);
    const size_t q = change(negative, -1).first;
    // Else a face would be cut at its own corners for ever.
    if (signs_[p] != 0 || signs_[q] != 0)
      throw std::logic_error("a face has no corner where it is cut");
    const int32_t from_p = polygon_[p].from, from_q = polygon_[q].from;
    const auto chord = static_cast<int32_t>(edges.size());
    edges.push_back({from_p, from_q, Edge::inside});
    const uint64_t crossing = points.crossing(from_p, from_q, word);
    const Rest rest =
        crossing != 0 ? split(static_cast<size_t>(chord), word, crossing) : Rest{0, 0};
    polygons_.resize(begin);
    add_corners(p, q);
    add_rest(rest, true);
    polygons_.push_back({2 * chord + 1, edges[static_cast<size_t>(chord)].b});
    const size_t part = polygons_.size();
    polygons_.push_back({2 * chord, from_p});
    add_rest(rest, false);
    add_corners(q, p);
    return part;
  }

  // Those of the polygon in hand from one up to another.
  void add_corners(size_t begin, size_t end) {
    const auto corner = [&](size_t i) { return polygon_.begin() + static_cast<std::ptrdiff_t>(i); };
    if (begin > end) {
      polygons_.insert(polygons_.end(), corner(begin), polygon_.end());
      begin = 0;
    }
    polygons_.insert(polygons_.end(), corner(begin), corner(end));
  }

  struct Open {
    size_t begin;   // in polygons_
    uint64_t cuts;  // the units that cut it
  };

  Copies point_copies_, edge_copies_;
  std::vector<Rest> rest_;
  std::vector<Side> old_sides_;
  std::vector<int32_t> old_begins_, old_parents_;
  std::vector<Side> polygons_, polygon_;  // the open ones, one after the other; the one in hand
  std::vector<int8_t> signs_;             // of its corners
  std::vector<Open> open_;
};

}  // namespace gradsplinter
