// Tile sizes and kernels of the instruction set that this file is compiled for.
#pragma once

#include "cpu/kernels.h"
#include "cpu/simd.h"

#ifndef GRADSPLINTER_ISA
#error "kernel files are compiled with -DGRADSPLINTER_ISA=<namespace>"
#endif

namespace gradsplinter {
namespace {

// Forward: a register tile of `rows` examples x `vectors` vectors of units. Its accumulators, the
// weights and a broadcast fill the register file; a panel is 8, 16 or 32 units, so that its bits
// are whole bytes of a word.
template <class T>
struct ForwardTile {
  static constexpr int lanes = Vec<T>::lanes;
  static constexpr int vectors = lanes == 1                                       ? 8
                                 : lanes == 2 || (lanes == 4 && kRegisters == 32) ? 4
                                                                                  : 2;
  static constexpr int rows = lanes == 1 ? 1 : vectors == 4 ? 6 : kRegisters == 32 ? 14 : 6;
  static constexpr int units = lanes * vectors;
  static constexpr int block_rows = rows == 14 ? 56 : 60;
  static_assert(units == 8 || units == 16 || units == 32, "bits are stored as whole integers");
};

// Cross products: a register tile of `rows` x 4 pairs of directions.
struct CrossTile {
  static constexpr int lanes = Vec<double>::lanes;
  static constexpr int rows = kRegisters == 32 ? 4 : 2;
  static constexpr int columns = 4;
  static constexpr int pass = 32;  // gradient entries transposed at a time
};

// Gram matrices: columns of K that are used for all modes of a block before the next ones.
struct GramTile {
  static constexpr int columns = 128;
};

// Nearest signatures: words in a vector, where its bits can be counted.
struct NearestTile {
  static constexpr int lanes = Vec<double>::lanes >= 4 ? Vec<double>::lanes : 1;
};

}  // namespace

namespace GRADSPLINTER_ISA {
void signature(const SignatureBlock<float>&);
void signature(const SignatureBlock<double>&);
void jacobian(const JacobianBlock<float>&);
void jacobian(const JacobianBlock<double>&);
void cross(const CrossBlock<float>&);
void cross(const CrossBlock<double>&);
void gram(const GramBlock&);
void nearest(const NearestBlock&);
void dots(const DotsBlock<float>&);
void dots(const DotsBlock<double>&);
int64_t signs(const PointsBlock&);
int64_t between(const BetweenBlock&);
void gather(const GatherBlock&);
extern const Kernels table;
}  // namespace GRADSPLINTER_ISA

}  // namespace gradsplinter
