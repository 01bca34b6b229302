"""Exact linear regions on a square, against regioncam; regions, time and memory by width and depth."""

import ctypes
import platform
import subprocess
import sys

import pytest

from gradsplinter import regions
from gradsplinter.train import initialise

SQUARE = [[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]]


@pytest.fixture(autouse=True)
def kept_memory():
    """As glibc does by itself in a process that has freed large arrays, up to 32 MiB of each are kept.

    Both contenders make many arrays of some 100 KiB; fresh from the system (`conftest.py`) ours takes twice as
    long (bench/NOTES.md).
    """
    if platform.libc_ver()[0] != "glibc":
        yield
        return
    mallopt, (trim, mmap) = ctypes.CDLL(None).mallopt, (-1, -3)
    mallopt(trim, 2**26)
    mallopt(mmap, 2**25)
    yield
    mallopt(trim, 2**17)
    mallopt(mmap, 2**17)


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


ALONE = """
import sys
from gradsplinter import regions
from gradsplinter.train import initialise

def most():  # KiB
    return next(int(line.split()[1]) for line in open("/proc/self/status") if "VmHWM" in line)

regions.plane(initialise([2, 32, 32, 32, 1], seed=0))
net, before = initialise([2, *map(int, sys.argv[1:]), 1], seed=0), most()
found = regions.plane(net, domain=[[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
tensors = (found.vertices, found.offsets, found.signatures, found.areas, found.centroids, found.neighbours)
print(len(found), 1024 * (most() - before), sum(t.nbytes for t in tensors))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def bench_memory(race, capsys):
    """In a process of its own: the most memory that an enumeration takes, beside what it returns."""
    sizes = [(128, 3, 20_714), (256, 3, 79_783), (512, 3, 358_790), (1024, 2, 734_978)]
    for width, hidden, expected in sizes[: race.size(4, 2)]:
        run = [sys.executable, "-c", ALONE, *[str(width)] * hidden]
        count, peak, result = map(int, subprocess.check_output(run, text=True).split())
        assert count == expected
        assert peak < 4 * result + 2**25
        with capsys.disabled():
            print(
                f"\n2-{width}^{hidden}-1: {count:,} regions, at most {peak / 2**20:.0f} MiB, "
                f"{peak / count:.0f} bytes a region; the result {result / count:.0f} bytes a region"
            )
