// Exact linear regions of a network on a plane and on a line.
#pragma once

#include <cstdint>
#include <vector>

#include "buffer.h"
#include "ops.h"

namespace gradsplinter {

// A side of a region at a seam between two meshes, to be matched with the same side beyond it.
struct SeamSide {
  int64_t seam;
  double a[2], b[2];
  int64_t region, side;
};

// Some of the regions.
struct PlanePart {
  Growing<double> vertices;         // [sides, 2], those of a region counter-clockwise
  std::vector<int64_t> offsets;     // [regions]: where the vertices of each end
  Growing<uint64_t> signatures;     // [regions, words]
  std::vector<double> areas;        // [regions]
  std::vector<double> centroids;    // [regions, 2]
  std::vector<int64_t> neighbours;  // [sides]: the region beyond the side from each vertex
  std::vector<SeamSide> seams;
};

class PlaneRegions {
 public:
  static constexpr int64_t outside = -1, unknown = -2;

  // Hidden layers; the first one takes the two coordinates of the plane, and `terms` are the
  // largest Σ|term| of its sums. `domain` [corners, 2] is a convex polygon, counter-clockwise.
  // Stops after about `most` regions.
  PlaneRegions(const std::vector<Layer<double>>& hidden, const std::vector<double>& terms,
               const double* domain, int64_t corners, int64_t most, const Run& run);

  int64_t regions() const { return regions_; }
  int64_t sides() const { return sides_; }
  bool complete() const { return complete_; }
  // How many pre-activations at corners were set to 0, being within tolerance.
  int64_t cleared() const { return cleared_; }

  // What PlanePart holds, of all regions; offsets [regions + 1].
  void write(double* vertices, int64_t* offsets, uint64_t* signatures, double* areas,
             double* centroids, int64_t* neighbours, const Run& run) const;

 private:
  std::vector<PlanePart> parts_;
  int64_t words_ = 0, regions_ = 0, sides_ = 0, cleared_ = 0;
  bool complete_ = true;
};

// On a segment, from 0 to 1.
class LineRegions {
 public:
  // Hidden layers; the first one takes the coordinate on the segment, `terms` as for a plane.
  LineRegions(const std::vector<Layer<double>>& hidden, const std::vector<double>& terms,
              const Run& run);

  int64_t regions() const { return static_cast<int64_t>(breakpoints_.size()) - 1; }
  int64_t cleared() const { return cleared_; }
  const std::vector<double>& breakpoints() const { return breakpoints_; }  // [regions + 1]
  const std::vector<uint64_t>& signatures() const { return signatures_; }  // [regions, words]

 private:
  std::vector<double> breakpoints_;
  std::vector<uint64_t> signatures_;
  int64_t words_ = 0, cleared_ = 0;
};

}  // namespace gradsplinter
