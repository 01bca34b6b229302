"""Fixtures that run a test in every way in which its result must be the same."""

import pytest
import torch
from hypothesis import settings
from networks import libm_fma

from gradsplinter import _C, ops, reference

# The same examples in every run: a failure can be repeated, and none comes by chance. The long form
# looks for new ones, and prints how to repeat a failure.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("soak", max_examples=5000, deadline=None, print_blob=True)


def pytest_addoption(parser):
    parser.addoption("--soak", action="store_true", help="run the long forms of some tests")
    parser.addoption("--device", default="cuda", help="what test_cuda*.py compare with the CPU")
    parser.addoption("--large", action="store_true", help="run tests that take tens of GB on a GPU")


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--large"):
        for item in items:
            if item.get_closest_marker("large"):
                item.add_marker(pytest.mark.skip("takes tens of GB on a GPU: --large"))


def pytest_configure(config):
    config.addinivalue_line("markers", "large: takes tens of GB on a GPU; run with --large")
    config.addinivalue_line(
        "markers", "sanitized: bench/gpu_check.py runs it under compute-sanitizer"
    )
    settings.load_profile("soak" if config.getoption("--soak") else "repeatable")


@pytest.fixture(autouse=True, scope="session")
def coarse_figures():
    """Drawing and packing pixels takes longer than most of what is tested."""
    from gradsplinter.plot import style  # noqa: PLC0415 (matplotlib takes its time)

    style._SETTINGS["savefig.dpi"] = 40


@pytest.fixture
def soak(request):
    """Whether a test shall run its long form: `make soak`."""
    return request.config.getoption("--soak")


@pytest.fixture(scope="module")
def libm_in_reference():
    """The reference with the C library's fma."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference, "fma", lambda a, b, c, dtype: libm_fma[dtype](a, b, c))
        yield


@pytest.fixture(params=ops.instruction_sets())
def instruction_set(request):
    """Each instruction set that this CPU can run."""
    with ops.instruction_set(request.param):
        yield request.param


@pytest.fixture
def restore_threads():
    """Lets a test call `torch.set_num_threads`."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def poisoned():
    """Outputs start as NaN or the largest integer, so that an entry never written fails a test."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)  # which has torch fill what it allocates
    assert torch.empty(1).isnan()
    yield
    torch.use_deterministic_algorithms(before)


@pytest.fixture(scope="session")
def device(request):
    """What is compared with the CPU."""
    name = request.config.getoption("--device")
    if name == "cuda" and not (_C.cuda and torch.cuda.is_available()):
        pytest.skip("there is no GPU, or this build has no kernels for one")
    return torch.device(name, 0) if name == "cuda" else torch.device(name)


@pytest.fixture
def gpu(device):
    """For what there is on a GPU only."""
    if device.type != "cuda":
        pytest.skip("a GPU is needed")
    return device
