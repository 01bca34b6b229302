"""Work side by side: its order, its end, and the number of threads before and after."""

import threading
import time

import pytest
import torch

from gradsplinter.threads import side_by_side

CPU = torch.device("cpu")


@pytest.fixture(params=[1, 2, 5])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    assert torch.get_num_threads() == request.param
    torch.set_num_threads(before)


def test_results_come_in_order_by_several_threads_of_one_each(threads):
    met = threading.Barrier(threads, timeout=20)

    def task(n):
        if n < threads:
            met.wait()  # as many at once as there are threads
        time.sleep(0.001 * (7 - n % 7))
        return n, torch.get_num_threads(), threading.current_thread().name

    found = list(side_by_side(task, range(40), CPU))
    assert [n for n, _, _ in found] == list(range(40))
    assert {own for _, own, _ in found} == {1}
    assert len({name for _, _, name in found}) == threads


def test_other_devices_are_left_to_torch(threads):
    found = list(side_by_side(lambda _: torch.get_num_threads(), range(3), torch.device("meta")))
    assert found == [threads] * 3


def test_nothing_to_do(threads):
    assert threads == torch.get_num_threads()
    assert list(side_by_side(abs, [], CPU)) == []


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.usefixtures("threads")
def test_what_fails_drops_the_rest(error):
    begun = []

    def task(n):
        begun.append(n)
        if n == 3:
            raise error("no")
        time.sleep(0.01)

    with pytest.raises(error, match="no"):
        list(side_by_side(task, range(1000), CPU))
    assert len(begun) < 500


@pytest.mark.usefixtures("threads")
def test_nobody_waits_for_the_rest():
    begun = []

    def task(n):
        begun.append(n)
        time.sleep(0.01)
        return n

    for n in side_by_side(task, range(1000), CPU):
        if n == 5:
            break
    assert len(begun) < 500
