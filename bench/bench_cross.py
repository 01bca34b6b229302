"""cross against torch's batched products. Ours sums in float64 and gives cosines; theirs do not."""

import pytest
import torch
from workloads import name, network

import gradsplinter


@pytest.mark.parametrize(("widths", "n"), [((4, 16, 16, 2), 100_000), ((784, 64, 64, 10), 10_000)])
def bench_cross(race, widths, n):
    n = race.size(n, 500)
    _, net = network(*widths)
    patterns = gradsplinter.signatures(net, torch.rand(n, widths[0]))
    jacobian = gradsplinter.jacobian(net, patterns)
    dots = gradsplinter.cross(jacobian, normalize=False)
    double = jacobian.double()
    torch.testing.assert_close(dots.double(), double @ double.mT, rtol=1e-6, atol=1e-9)
    units = torch.nn.functional.normalize(double, dim=2)
    torch.testing.assert_close(
        gradsplinter.cross(jacobian).double(), units @ units.mT, rtol=1e-6, atol=1e-6
    )
    race(
        f"cross, {name(net, n)}",
        {
            "ours": lambda: gradsplinter.cross(jacobian, normalize=False),
            "bmm (float32 sums)": lambda: jacobian @ jacobian.mT,
            "bmm (float64 sums)": lambda: jacobian.double() @ jacobian.double().mT,
            "einsum (float32 sums)": lambda: torch.einsum("uih,ujh->uij", jacobian, jacobian),
        },
    )
