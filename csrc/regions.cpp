#include "regions.h"

#include <atomic>
#include <cmath>
#include <memory>
#include <mutex>
#include <tuple>

#include "mesh.h"

namespace gradsplinter {
namespace {

// Some faces of a mesh that is cut by the words of the layers before `layer` and by the first
// `word` of that one.
struct Piece {
  std::shared_ptr<const Mesh> whole;
  size_t begin, end;
  size_t layer = 0;
  int64_t word = 0;
  std::vector<int32_t> path;  // which part of which division it is: the order of the results
};

struct Worker {
  std::unique_ptr<Mesh> mesh;
  Scratch scratch;
};

using Finished = std::pair<std::vector<int32_t>, PlanePart>;

// Twice the area and six times the first moments, from the first corner.
void measure(const double* corners, size_t n, double& area, double* centroid) {
  double twice = 0, moment[2] = {0, 0};
  for (size_t i = 1; i + 1 < n; ++i) {
    const double ax = corners[2 * i] - corners[0], ay = corners[2 * i + 1] - corners[1];
    const double bx = corners[2 * i + 2] - corners[0], by = corners[2 * i + 3] - corners[1];
    const double cross = ax * by - ay * bx;
    twice += cross;
    moment[0] += cross * (ax + bx);
    moment[1] += cross * (ay + by);
  }
  area = twice / 2;
  for (int i = 0; i < 2; ++i) {
    centroid[i] = corners[i];
    if (twice > 0) centroid[i] += moment[i] / (3 * twice);
  }
}

std::vector<MeshLayer> mesh_layers(const std::vector<Layer<double>>& hidden,
                                   const std::vector<double>& terms) {
  std::vector<MeshLayer> layers;
  layers.reserve(hidden.size());
  for (const Layer<double>& layer : hidden) {
    layers.push_back(layers.empty() ? MeshLayer::first(layer, terms)
                                    : MeshLayer::later(layer, layers.back().bounds()));
  }
  return layers;
}

PlanePart finish(const Mesh& mesh) {
  PlanePart part;
  const auto faces = static_cast<size_t>(mesh.faces());
  part.vertices.resize(2 * mesh.sides.size());
  part.offsets.reserve(faces);
  part.areas.resize(faces);
  part.centroids.resize(2 * faces);
  part.signatures = mesh.patterns;
  part.neighbours.assign(mesh.sides.size(), PlaneRegions::outside);
  struct Seen {
    int32_t face = -1;
    int32_t side = 0;
  };
  std::vector<Seen> seen(mesh.edges.size());
  for (size_t f = 0; f < faces; ++f) {
    const auto begin = static_cast<size_t>(mesh.begins[f]);
    const auto end = static_cast<size_t>(mesh.begins[f + 1]);
    for (size_t i = begin; i < end; ++i) {
      const double* position = mesh.points.position(mesh.sides[i].from);
      std::copy_n(position, 2, &part.vertices[2 * i]);
      Seen& other = seen[static_cast<size_t>(mesh.sides[i].edge >> 1)];
      if (other.face >= 0) {
        part.neighbours[i] = other.face;
        part.neighbours[static_cast<size_t>(other.side)] = static_cast<int64_t>(f);
      }
      other = {static_cast<int32_t>(f), static_cast<int32_t>(i)};
    }
    part.offsets.push_back(static_cast<int64_t>(end));
    measure(part.vertices.data() + 2 * begin, end - begin, part.areas[f], &part.centroids[2 * f]);
  }
  for (size_t e = 0; e < seen.size(); ++e) {
    const Edge& edge = mesh.edges[e];
    if (edge.seam <= 0) continue;
    const double *a = mesh.points.position(edge.a), *b = mesh.points.position(edge.b);
    part.seams.push_back({edge.seam, {a[0], a[1]}, {b[0], b[1]}, seen[e].face, seen[e].side});
    part.neighbours[static_cast<size_t>(seen[e].side)] = PlaneRegions::unknown;
  }
  return part;
}

class Enumeration {
 public:
  Enumeration(const std::vector<MeshLayer>& layers, int64_t most) : layers_(layers), most_(most) {}

  void run(Mesh whole, const Run& run) {
    const auto faces = static_cast<size_t>(whole.faces());
    pending_.push_back({std::make_shared<Mesh>(std::move(whole)), 0, faces, 0, 0, {}});
    workers_.resize(static_cast<size_t>(run.threads));
    // Most networks are done before they are divided; no other thread need wake for them.
    parallel_blocks(1, run, [&](int64_t, int thread) { take_one(thread); });
    parallel_blocks(pending_.empty() ? 0 : run.threads, run,
                    [&](int64_t, int thread, const Stopping& stopping) {
                      while (!stopping() && !full() && (take_one(thread) || busy())) {
                      }
                    });
    std::sort(finished_.begin(), finished_.end(),
              [](const Finished& a, const Finished& b) { return a.first < b.first; });
  }

  bool full() const { return found_ > most_; }
  int64_t cleared() const { return cleared_; }
  std::vector<Finished>& finished() { return finished_; }

 private:
  // Whether there is, or may yet be, a piece to take.
  bool busy() {
    const std::lock_guard lock(mutex_);
    return working_ > 0 || !pending_.empty();
  }

  // Works on the piece that was added last, so that few wait -> whether there was one.
  bool take_one(int thread) {
    Worker& worker = workers_[static_cast<size_t>(thread)];
    Piece piece;
    {
      const std::lock_guard lock(mutex_);
      if (pending_.empty()) return false;
      ++working_;
      piece = std::move(pending_.back());
      pending_.pop_back();
      if (worker.mesh == nullptr) worker.mesh = spare();
    }
    worker.mesh->take(*piece.whole, piece.begin, piece.end);
    piece.whole.reset();
    refine(piece, worker);
    --working_;
    return true;
  }

  void refine(Piece& piece, Worker& worker) {
    Mesh& mesh = *worker.mesh;
    while (piece.layer < layers_.size()) {
      const MeshLayer& layer = layers_[piece.layer];
      if (piece.word == 0) mesh.points.enter(layer, piece.layer == 0, worker.scratch);
      mesh.cut(piece.word);
      if (++piece.word == layer.words()) {
        mesh.leave(layer);
        ++piece.layer;
        piece.word = 0;
      }
      if (piece.layer < layers_.size() && mesh.points.bytes() > mesh_bytes && mesh.faces() > 1) {
        return divide(piece, std::move(worker.mesh));
      }
    }
    PlanePart part = finish(mesh);
    found_ += mesh.faces();
    cleared_ += mesh.points.cleared();
    const std::lock_guard lock(mutex_);
    finished_.emplace_back(std::move(piece.path), std::move(part));
  }

  void divide(const Piece& piece, std::unique_ptr<Mesh> mesh) {
    const int64_t count =
        std::min<int64_t>(mesh->faces(), 4 * mesh->points.bytes() / mesh_bytes + 1);
    mesh->divide(count, [&] { return ++seams_; });
    cleared_ += mesh->points.cleared();
    {
      const std::lock_guard lock(mutex_);
      spare_.reserve(static_cast<size_t>(++divided_));  // so that none has to be made room for
    }
    const std::shared_ptr<const Mesh> whole(mesh.release(), [this](Mesh* done) {
      const std::lock_guard lock(mutex_);
      spare_.emplace_back(done);
    });
    const std::lock_guard lock(mutex_);
    for (int64_t i = count; i-- > 0;) {
      std::vector<int32_t> path = piece.path;
      path.push_back(static_cast<int32_t>(i));
      pending_.push_back({whole, whole->first(i, count), whole->first(i + 1, count), piece.layer,
                          piece.word, std::move(path)});
    }
  }

  // A mesh that is done with, for its memory; called under the lock.
  std::unique_ptr<Mesh> spare() {
    if (spare_.empty()) return std::make_unique<Mesh>();
    std::unique_ptr<Mesh> mesh = std::move(spare_.back());
    spare_.pop_back();
    return mesh;
  }

  const std::vector<MeshLayer>& layers_;
  const int64_t most_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Mesh>> spare_;
  std::vector<Piece> pending_;
  std::vector<Worker> workers_;  // of each thread
  std::vector<Finished> finished_;
  int64_t divided_ = 0;
  std::atomic<int> working_{0};
  std::atomic<int64_t> found_{0}, cleared_{0}, seams_{0};
};

}  // namespace

PlaneRegions::PlaneRegions(const std::vector<Layer<double>>& hidden,
                           const std::vector<double>& terms, const double* domain, int64_t corners,
                           int64_t most, const Run& run) {
  Mesh whole;
  for (int64_t i = 0; i < corners; ++i) {
    whole.points.add(domain + 2 * i);
    const auto corner = static_cast<int32_t>(i);
    whole.edges.push_back({corner, corner + 1 < corners ? corner + 1 : 0, Edge::border});
    whole.sides.push_back({2 * corner, corner});
  }
  whole.begins = {0, static_cast<int32_t>(corners)};
  whole.parents = {0};
  const std::vector<MeshLayer> layers = mesh_layers(hidden, terms);
  for (const MeshLayer& layer : layers) words_ += layer.words();
  Enumeration enumeration(layers, most);
  enumeration.run(std::move(whole), run);
  complete_ = !enumeration.full();
  cleared_ = enumeration.cleared();
  for (auto& [path, part] : enumeration.finished()) {
    regions_ += static_cast<int64_t>(part.areas.size());
    sides_ += static_cast<int64_t>(part.neighbours.size());
    parts_.push_back(std::move(part));
  }
}

void PlaneRegions::write(double* vertices, int64_t* offsets, uint64_t* signatures, double* areas,
                         double* centroids, int64_t* neighbours, const Run& run) const {
  std::vector<int64_t> first_region{0}, first_side{0};
  std::vector<SeamSide> seams;
  for (const PlanePart& part : parts_) {
    for (SeamSide side : part.seams) {
      side.region += first_region.back();
      side.side += first_side.back();
      seams.push_back(side);
    }
    first_region.push_back(first_region.back() + static_cast<int64_t>(part.areas.size()));
    first_side.push_back(first_side.back() + static_cast<int64_t>(part.neighbours.size()));
  }
  offsets[0] = 0;
  parallel_blocks(static_cast<int64_t>(parts_.size()), run, [&](int64_t block, int) {
    const auto i = static_cast<size_t>(block);
    const PlanePart& part = parts_[i];
    const int64_t region = first_region[i], side = first_side[i];
    std::copy(part.vertices.begin(), part.vertices.end(), vertices + 2 * side);
    std::copy(part.signatures.begin(), part.signatures.end(), signatures + words_ * region);
    std::copy(part.areas.begin(), part.areas.end(), areas + region);
    std::copy(part.centroids.begin(), part.centroids.end(), centroids + 2 * region);
    std::transform(part.offsets.begin(), part.offsets.end(), offsets + region + 1,
                   [&](int64_t end) { return side + end; });
    std::transform(part.neighbours.begin(), part.neighbours.end(), neighbours + side,
                   [&](int64_t other) { return other < 0 ? other : region + other; });
  });
  // A seam was cut on both of its sides at the same points, to the last bit.
  const auto key = [](const SeamSide& side) {
    return std::tuple(side.seam, side.a[0], side.a[1], side.b[0], side.b[1]);
  };
  std::sort(seams.begin(), seams.end(),
            [&](const SeamSide& a, const SeamSide& b) { return key(a) < key(b); });
  for (size_t i = 0; i + 1 < seams.size(); ++i) {
    if (key(seams[i]) != key(seams[i + 1])) continue;
    neighbours[seams[i].side] = seams[i + 1].region;
    neighbours[seams[i + 1].side] = seams[i].region;
    ++i;
  }
}

LineRegions::LineRegions(const std::vector<Layer<double>>& hidden, const std::vector<double>& terms,
                         const Run& run) {
  constexpr double ends[2] = {0, 1};
  Points points(1);
  for (const double& end : ends) points.add(&end);
  std::vector<int32_t> order{0, 1};  // points from the begin to the end
  std::vector<int32_t> parents{0};   // [pieces]: the piece at the begin of the layer
  Watch watch(run);
  Scratch scratch;
  const std::vector<MeshLayer> layers = mesh_layers(hidden, terms);
  for (const MeshLayer& layer : layers) {
    points.enter(layer, &layer == layers.data(), scratch);
    for (int64_t word = 0; word < layer.words(); ++word) {
      if (watch.interrupted()) throw Interrupted{};
      std::vector<int32_t> old_order{0}, old_parents;
      old_order.swap(order);
      old_parents.swap(parents);
      for (size_t i = 0; i < old_parents.size(); ++i) {
        const int32_t a = old_order[i], b = old_order[i + 1];
        const uint64_t crossing = points.crossing(a, b, word);
        if (crossing != 0) {
          const std::vector<int32_t>& cuts = points.cut(a, b, word, crossing);
          order.insert(order.end(), cuts.begin(), cuts.end());
        }
        order.push_back(b);
        parents.resize(order.size() - 1, old_parents[i]);
      }
    }
    std::vector<uint64_t> signatures;
    for (size_t i = 0; i < parents.size(); ++i) {
      const auto parent =
          signatures_.begin() + std::exchange(parents[i], static_cast<int32_t>(i)) * words_;
      signatures.insert(signatures.end(), parent, parent + words_);
      for (int64_t word = 0; word < layer.words(); ++word) {
        signatures.push_back(points.positive(order[i], word) | points.positive(order[i + 1], word));
      }
    }
    signatures_ = std::move(signatures);
    words_ += layer.words();
  }
  for (const int32_t point : order) breakpoints_.push_back(*points.position(point));
  cleared_ = points.cleared();
}

}  // namespace gradsplinter
