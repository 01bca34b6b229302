"""Exact linear regions on a square, against regioncam; regions and time by width and depth."""

import pytest

from gradsplinter import regions
from gradsplinter.train import initialise

SQUARE = [[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]]


def by_regioncam(module):
    """On the same square, in float32."""
    regioncam = pytest.importorskip("regioncam")
    camera = regioncam.Regioncam(size=1)
    camera.add(module)
    return camera.num_faces


@pytest.mark.parametrize(
    ("width", "hidden", "count"),
    [(32, 3, 1_180), (128, 3, 20_714), (256, 3, 79_783), (512, 3, 358_790), (1024, 2, 734_978)],
)
def bench_regions(race, width, hidden, count):
    if race.answers_only and width > 128:
        pytest.skip("the answers of small networks do")
    net = initialise([2, *[width] * hidden, 1], seed=0)
    found = regions.plane(net, domain=SQUARE)
    assert len(found) == count
    assert abs(float(found.areas.sum()) - 4) <= 4e-12
    module = net.to_module()
    contenders = {"ours": lambda: regions.plane(net, domain=SQUARE)}
    if width <= 256:
        assert by_regioncam(module) == count
        contenders["regioncam (float32, one thread)"] = lambda: by_regioncam(module)
    race(
        f"{count:,} regions of 2-{width}^{hidden}-1, corners, patterns, areas, neighbours",
        contenders,
        made=count,
    )


@pytest.mark.parametrize("hidden", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("width", [16, 32, 64, 128, 256])
def bench_by_size(race, width, hidden):
    """How regions, time and the rate, in regions a second, grow."""
    if race.answers_only and width > 32:
        pytest.skip("the answers of small networks do")
    net = initialise([2, *[width] * hidden, 1], seed=0)
    found = regions.plane(net, domain=SQUARE)
    assert abs(float(found.areas.sum()) - 4) <= 4e-12
    race(
        f"{len(found):,} regions of 2-{width}^{hidden}-1",
        {"ours": lambda: regions.plane(net, domain=SQUARE)},
        made=len(found),
    )
