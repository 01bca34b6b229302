// The corners of a mesh: pre-activations of a layer at points of a plane or a segment, and their
// signs.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <stdexcept>
#include <utility>
#include <vector>

#include "buffer.h"
#include "forward_pass.h"
#include "ops.h"
#include "scalar.h"

namespace gradsplinter {

// A mesh whose pre-activations outgrow this is divided, so that they stay in the cache.
constexpr int64_t mesh_bytes = 1 << 20;

// Memory to work in, for one mesh after the other.
struct Scratch {
  Growing<double> before;       // pre-activations of the layer before
  std::vector<int32_t> active;  // its units that are on at any point: often a few of them
  Growing<double> a, panels;    // activations and weights of these only
};

// A layer over points whose rows are padded to whole vectors.
class MeshLayer {
 public:
  // The first layer, whose inputs are coordinates. `terms` [outputs]: the largest Σ|term| of each
  // sum over the domain, also of those sums that made its weights from those of a network.
  static MeshLayer first(const Layer<double>& layer, const std::vector<double>& terms) {
    MeshLayer made(layer);
    for (int64_t j = 0; j < layer.outputs; ++j) {
      made.add_unit(j, terms[static_cast<size_t>(j)], terms[static_cast<size_t>(j)]);
    }
    return made;
  }

  // A later one; `bounds` [inputs]: the largest activations over the domain.
  static MeshLayer later(const Layer<double>& layer, const std::vector<double>& bounds) {
    MeshLayer made(layer);
    for (int64_t j = 0; j < layer.outputs; ++j) {
      double terms = std::abs(layer.bias[j]), most = layer.bias[j];
      for (int64_t k = 0; k < layer.inputs; ++k) {
        const double weight = layer.weight[j * layer.inputs + k];
        terms += std::abs(weight) * bounds[static_cast<size_t>(k)];
        // Activations are not negative, so only those with a positive weight add.
        most += std::max(weight, 0.0) * bounds[static_cast<size_t>(k)];
      }
      made.add_unit(j, terms, std::max(most, 0.0));
    }
    return made;
  }

  int64_t stride() const { return stride_; }
  int64_t words() const { return words_; }
  const double* tolerance() const { return tolerance_.get(); }
  const std::vector<double>& bounds() const { return bounds_; }  // of the activations

  // a [points, inputs] -> z [points, stride].
  void compute(const double* a, int64_t points, double* z) const {
    compute(a, points, inputs_, panels_.get(), z);
  }

  // The same from pre-activations of the layer before, [points, stride], where no units are on but
  // the active ones. Terms that are 0 change no sum, so the bits are the same.
  void compute(Scratch& scratch, int64_t stride, int64_t points, double* z) const {
    const std::vector<int32_t>& active = scratch.active;
    const auto count = static_cast<int64_t>(active.size());
    const int64_t inputs = count % 16 == 0 ? count + 1 : count;  // as stride_of
    scratch.a.resize(static_cast<size_t>(points * inputs));
    scratch.panels.resize(static_cast<size_t>(padded() * inputs));
    kernels().gather(
        {scratch.before.data(), stride, points, active.data(), count, inputs, scratch.a.data()});
    const int64_t tile = kernel_.tile;
    for (int64_t begin = 0; begin < padded(); begin += tile) {
      const double* panel = panels_.get() + begin * inputs_;
      double* to = scratch.panels.data() + begin * inputs;
      for (const int32_t unit : active) to = std::copy_n(panel + unit * tile, tile, to);
      if (inputs > count) std::fill_n(to, tile, 0.0);
    }
    compute(scratch.a.data(), points, inputs, scratch.panels.data(), z);
  }

 private:
  static constexpr double relative_tolerance = 1e-14;

  explicit MeshLayer(const Layer<double>& layer)
      : inputs_(layer.inputs),
        stride_(stride_of(layer.outputs)),
        words_(words_of(layer.outputs)),
        panels_(padded() * layer.inputs),
        bias_(padded()),
        tolerance_(stride_) {
    pack_layer(layer, kernel_.tile, panels_.get(), bias_.get());
    std::fill_n(bias_.get() + layer.outputs, padded() - layer.outputs, 0.0);
    std::fill_n(tolerance_.get(), stride_, 0.0);
  }

  void add_unit(int64_t j, double terms, double bound) {
    if (!std::isfinite(terms)) {
      throw std::invalid_argument(
          "net must have activations below 1.8e308 over the domain, got weights that are too "
          "large");
    }
    tolerance_[j] = relative_tolerance * terms;
    bounds_.push_back(bound);
  }

  // Whole vectors; rows that lie a power of two apart would share few sets of the cache.
  static int64_t stride_of(int64_t units) {
    const int64_t stride = round_up(units, 8);
    return stride % 64 == 0 ? stride + 8 : stride;
  }
  int64_t padded() const { return round_up(stride_, kernel_.tile); }

  void compute(const double* a, int64_t points, int64_t inputs, const double* panels,
               double* z) const {
    const ForwardLayer<double> layer{panels, bias_.get(), inputs, stride_, -1};
    for (int64_t begin = 0; begin < points; begin += kernel_.block_rows) {
      kernel_.signature({&layer, 1, a + begin * inputs,
                         std::min(kernel_.block_rows, points - begin), nullptr, 0,
                         z + begin * stride_, nullptr, 0});
    }
  }

  const KernelsOf<double>& kernel_ = kernels_of<double>(kernels());
  int64_t inputs_, stride_, words_;
  Buffer<double> panels_, bias_, tolerance_;
  std::vector<double> bounds_;
};

// Points with the pre-activations of a layer, and the signs of these.
class Points {
 public:
  int32_t size() const { return static_cast<int32_t>(position_.size() / dims_); }
  const double* position(int32_t i) const { return position_.data() + i * dims_; }
  const double* z(int32_t i) const { return z_.data() + i * stride_; }
  int64_t bytes() const { return size() * stride_ * 8; }
  int64_t cleared() const { return cleared_; }
  uint64_t positive(int32_t i, int64_t word) const {
    return positive_[static_cast<size_t>(i * words_ + word)];
  }
  uint64_t negative(int32_t i, int64_t word) const {
    return negative_[static_cast<size_t>(i * words_ + word)];
  }
  int8_t sign(int32_t i, int64_t word, int unit) const {
    return static_cast<int8_t>((positive(i, word) >> unit & 1) - (negative(i, word) >> unit & 1));
  }
  // The units of a word that change sign between two points.
  uint64_t crossing(int32_t a, int32_t b, int64_t word) const {
    return (positive(a, word) & negative(b, word)) | (negative(a, word) & positive(b, word));
  }

  void add(const double* position) {
    position_.insert(position_.end(), position, position + dims_);
  }

  // The pre-activations of a layer: of the first one from the positions, else from the layer
  // before.
  void enter(const MeshLayer& layer, bool first, Scratch& scratch) {
    if (!first) {
      find_active(scratch.active);
      std::swap(scratch.before, z_);
    }
    const int64_t n = size(), stride = stride_;
    tolerance_ = layer.tolerance();
    stride_ = layer.stride();
    words_ = layer.words();
    z_.reserve(static_cast<size_t>(mesh_bytes / 8));  // else it is copied as it grows
    z_.resize(static_cast<size_t>(n * stride_));
    positive_.resize(static_cast<size_t>(n * words_));
    negative_.resize(static_cast<size_t>(n * words_));
    if (first) {
      layer.compute(position_.data(), n, z_.data());
    } else {
      layer.compute(scratch, stride, n, z_.data());
    }
    cleared_ += kernels().signs(
        {z_.data(), n, stride_, tolerance_, positive_.data(), negative_.data(), words_});
  }

  // Adds the points between two others where units of a word change sign -> these, in order from a.
  const std::vector<int32_t>& cut(int32_t a, int32_t b, int64_t word, uint64_t crossing) {
    order_.clear();
    for (uint64_t left = crossing; left != 0; left &= left - 1) {
      const int unit = __builtin_ctzll(left);
      const double za = z(a)[word * 64 + unit], zb = z(b)[word * 64 + unit];
      order_.push_back({za / (za - zb), unit});
    }
    std::sort(order_.begin(), order_.end());
    cuts_.clear();
    for (const auto& [t, unit] : order_) {
      if (!cuts_.empty() && at_border(cuts_.back(), word, unit)) continue;  // both are 0 there
      cuts_.push_back(add_between(a, b, word, unit, t));
    }
    return cuts_;
  }

  // Becomes some of the points of others.
  void take(const Points& others, const std::vector<int32_t>& some) {
    dims_ = others.dims_;
    stride_ = others.stride_;
    words_ = others.words_;
    tolerance_ = others.tolerance_;
    cleared_ = 0;
    const auto copy = [&](const auto& from, auto& to, auto width) {
      to.resize(some.size() * static_cast<size_t>(width));
      auto row = to.begin();
      for (const int32_t i : some) {
        row = std::copy_n(
            from.begin() + static_cast<std::ptrdiff_t>(i) * static_cast<std::ptrdiff_t>(width),
            width, row);
      }
    };
    copy(others.position_, position_, dims_);
    copy(others.z_, z_, stride_);
    copy(others.positive_, positive_, words_);
    copy(others.negative_, negative_, words_);
  }

  explicit Points(size_t dims = 2) : dims_(dims) {}

 private:
  uint64_t* signs(Growing<uint64_t>& of, int32_t i) { return of.data() + i * words_; }

  int32_t add_between(int32_t a, int32_t b, int64_t word, int unit, double t) {
    const int32_t c = size();
    position_.resize(position_.size() + dims_);
    for (size_t i = 0; i < dims_; ++i) {
      const double pa = position(a)[i], pb = position(b)[i];
      position_[static_cast<size_t>(c) * dims_ + i] = __builtin_fma(t, pb - pa, pa);
    }
    z_.resize(z_.size() + static_cast<size_t>(stride_));
    positive_.resize(positive_.size() + static_cast<size_t>(words_));
    negative_.resize(negative_.size() + static_cast<size_t>(words_));
    cleared_ += kernels().between({z(a), z(b), t, word * 64 + unit, stride_, tolerance_,
                                   signs(positive_, a), signs(negative_, a), signs(positive_, b),
                                   signs(negative_, b), words_, z_.data() + c * stride_,
                                   signs(positive_, c), signs(negative_, c)});
    return c;
  }

  bool at_border(int32_t i, int64_t word, int unit) const {
    return ((positive(i, word) | negative(i, word)) >> unit & 1) == 0;
  }

  void find_active(std::vector<int32_t>& active) const {
    active.clear();
    for (int64_t word = 0; word < words_; ++word) {
      uint64_t on = 0;
      for (int32_t i = 0; i < size(); ++i) on |= positive(i, word);
      for (; on != 0; on &= on - 1) {
        active.push_back(static_cast<int32_t>(word * 64 + __builtin_ctzll(on)));
      }
    }
  }

  size_t dims_;
  int64_t stride_ = 0, words_ = 0, cleared_ = 0;
  const double* tolerance_ = nullptr;
  Growing<double> position_, z_;
  Growing<uint64_t> positive_, negative_;
  std::vector<std::pair<double, int>> order_;  // scratch, as what follows
  std::vector<int32_t> cuts_;
};

}  // namespace gradsplinter
