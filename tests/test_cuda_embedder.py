"""An embedder taught on a GPU: the same draws as on the CPU, and sums in another order."""

import pytest
import torch

from gradsplinter.embedder_training import EmbedderTrainingConfig, train_embedder
from gradsplinter.train import initialise

NETS = [initialise([2, 8, 8, 1], seed) for seed in range(12)]
CONFIG = EmbedderTrainingConfig(steps=30, batch=6, points=40, refresh=10)


def draw(n, generator):
    return torch.rand(n, 2, generator=generator)


def test_as_on_the_cpu(device):
    """To rounding, which grows from step to step."""
    cpu = train_embedder(NETS, draw, config=CONFIG, progress=False)
    found = train_embedder(NETS, draw, config=CONFIG, device=device, progress=False)
    torch.testing.assert_close(found.losses, cpu.losses, rtol=0.02, atol=0.002)
    torch.testing.assert_close(found.losses[:3], cpu.losses[:3], rtol=1e-3, atol=1e-4)
    assert {value.device.type for value in found.embedder.state_dict().values()} == {"cpu"}
    for name in ("point_low", "point_high", "point_mean", "value_scale"):
        expected = getattr(cpu.embedder, name)
        torch.testing.assert_close(getattr(found.embedder, name), expected)


def test_resumed_there(device, tmp_path):
    whole = train_embedder(NETS, draw, config=CONFIG, device=device, progress=False)
    calls = []

    def stops(n, generator):
        calls.append(n)
        if len(calls) == 4:  # two at first, then one after each validation
            raise KeyboardInterrupt
        return draw(n, generator)

    path = tmp_path / "checkpoint.safetensors"
    with pytest.raises(KeyboardInterrupt):
        train_embedder(NETS, stops, config=CONFIG, checkpoint=path, device=device, progress=False)
    again = train_embedder(
        NETS, stops, config=CONFIG, checkpoint=path, device=device, progress=False
    )
    assert len(calls) == 4 + 3  # from the beginning it would be four more
    torch.testing.assert_close(again.losses, whole.losses, rtol=0.02, atol=0.002)
