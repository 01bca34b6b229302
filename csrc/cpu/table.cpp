#include "cpu/isa.h"

#define GRADSPLINTER_STRING(x) #x
#define GRADSPLINTER_NAME(x) GRADSPLINTER_STRING(x)

namespace gradsplinter::GRADSPLINTER_ISA {

constexpr const Kernels table = {
    GRADSPLINTER_NAME(GRADSPLINTER_ISA),
    {Vec<float>::lanes, ForwardTile<float>::units, ForwardTile<float>::block_rows, CrossTile::lanes,
     CrossTile::columns, CrossTile::pass, signature, jacobian, cross, dots},
    {Vec<double>::lanes, ForwardTile<double>::units, ForwardTile<double>::block_rows,
     CrossTile::lanes, CrossTile::columns, CrossTile::pass, signature, jacobian, cross, dots},
    gram,
    NearestTile::lanes,
    nearest,
    signs,
    between,
    gather,
};

}  // namespace gradsplinter::GRADSPLINTER_ISA
