"""The choice of an instruction set: in a process and for a whole process."""

import os
import subprocess
import sys
import threading

import pytest
import torch
from networks import random_inputs, random_network

from gradsplinter import _C, ops

SCRIPT = """
import torch, gradsplinter
net = gradsplinter.ReluNetwork([torch.ones(3, 2)], [torch.zeros(3)])
print(net(torch.ones(1, 2)).tolist(), gradsplinter._C.instruction_set())
"""


def run(value):
    environment = os.environ | {"GRADSPLINTER_CPU": value}
    return subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=False
    )


def test_environment_variable():
    done = run("portable")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[[2.0, 2.0, 2.0]] portable"


def test_empty_environment_variable_means_the_best():
    assert run("").stdout.split()[-1] == ops.instruction_sets()[0]


def test_environment_variable_of_another_cpu():
    done = run("sse9")
    assert done.returncode == 1
    names = ", ".join(ops.instruction_sets())
    assert (
        f"ValueError: the instruction set must be one that this CPU can run ({names}), got 'sse9'"
    ) in done.stderr


def test_context_restores_what_was_there():
    best, portable = ops.instruction_sets()[0], "portable"
    assert ops.instruction_sets()[-1] == portable
    before = _C.instruction_set()
    with ops.instruction_set(portable):
        assert _C.instruction_set() == portable
        with ops.instruction_set(best):
            assert _C.instruction_set() == best
        assert _C.instruction_set() == portable
        with pytest.raises(ValueError, match="got 'none'"), ops.instruction_set("none"):
            pass
        assert _C.instruction_set() == portable
    assert _C.instruction_set() == before
    with pytest.raises(KeyError), ops.instruction_set(portable):
        raise KeyError
    assert _C.instruction_set() == before


def test_a_change_while_others_compute():
    """Each call uses one instruction set from its begin to its end."""
    net = random_network((40, 33, 17, 5))
    patterns = ops.unique_signatures(net, random_inputs(3000, 40)).signatures
    expected = ops.jacobian(net, patterns), ops.gram(net, patterns)
    stop = threading.Event()

    def change():
        while not stop.is_set():
            for name in ops.instruction_sets():
                _C.use_instruction_set(name)

    before = _C.instruction_set()
    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(20):
            assert torch.equal(ops.jacobian(net, patterns), expected[0])
            assert torch.equal(ops.gram(net, patterns), expected[1])
    finally:
        stop.set()
        thread.join()
        _C.use_instruction_set(before)
