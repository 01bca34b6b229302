"""Pieces of work side by side, each on one thread.

Operations of torch on small blocks gain little from several threads, and lose much where others use the cores:
whoever is done waits for a thread that has no core. So threads take whole blocks. What a block gives then does
not depend on the number of threads either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Task = TypeVar("Task")
Result = TypeVar("Result")


def side_by_side(
    function: Callable[[Task], Result], tasks: Sequence[Task], device: torch.device
) -> Iterator[Result]:
    """`map(function, tasks)`; on a CPU by as many threads as torch has, each of which uses one.

    Meanwhile torch has one thread here, and in threads that are started, too. Tasks that have not begun are
    dropped when one of them fails, or nobody waits for the results.

    Examples:
        >>> list(side_by_side(lambda n: n * torch.get_num_threads(), [1, 2, 3], torch.device("cpu")))
        [1, 2, 3]
    """
    threads = torch.get_num_threads()
    if device.type != "cpu":
        yield from map(function, tasks)
        return
    torch.set_num_threads(1)
    try:
        if min(threads, len(tasks)) <= 1:
            yield from map(function, tasks)
            return
        pool = ThreadPoolExecutor(min(threads, len(tasks)))
        try:
            yield from pool.map(function, tasks)
        finally:
            pool.shutdown(cancel_futures=True)
    finally:
        torch.set_num_threads(threads)
