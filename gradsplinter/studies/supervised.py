"""The architecture of an `Embedder`, taught with labels instead."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from gradsplinter.embedder import Embedder, EmbedderConfig
from gradsplinter.embedder_training import EmbedderTrainingConfig, half_cosine
from gradsplinter.tokens import Tokens, hide

Look = Callable[[Tensor, torch.Generator], Tokens]
"""The sets of tokens of these numbers, at examples that it draws."""


def teach_supervised(
    look: Look,
    labels: Tensor,
    shape: EmbedderConfig,
    config: EmbedderTrainingConfig,
    device: torch.device,
) -> Embedder:
    """An embedder from whose embeddings a linear layer tells the labels of networks.

    It is taught as `train_embedder` does, with the same steps, rates, noise, hidden tokens and end, but of the
    first half of each batch all tokens are shown. Nothing is turned or mirrored.

    Args:
        look: as in `train_embedder_of`.
        labels: int64 `[M]`: 0, 1, ... of each network.
        shape: of the embedder.
        config: how it is taught.
        device: where.
    """
    generator = torch.Generator().manual_seed(config.seed)
    order = torch.randperm(len(labels), generator=generator)
    count = min(max(1, round(config.validation * len(labels))), len(labels) - 1)
    validation, training = order[:count], order[count:]
    embedder = Embedder(shape, config.seed)
    head = nn.utils.skip_init(nn.Linear, shape.size, int(labels.max()) + 1)
    nn.init.normal_(head.weight, std=0.1, generator=generator)
    nn.init.zeros_(head.bias)
    embedder, head = embedder.to(device), head.to(device)

    def shown(tokens: Tokens) -> tuple[Tokens, Tensor]:
        """What is seen of them, and where values are."""
        visible = ~hide(tokens, config.mask, generator)
        visible[: len(tokens) // 2] = True
        absent = torch.rand(len(tokens), 1, generator=generator) < config.absent
        return tokens.only(visible | ~absent.to(device)), visible

    def loss(seen: tuple[Tokens, Tensor], of: Tensor, noise: Tensor | float) -> Tensor:
        return nn.functional.cross_entropy(head(embedder.encode(*seen) + noise), of)

    asked, wanted = shown(look(validation, generator).to(device)), labels[validation].to(device)
    tokens, own = look(training, generator).to(device), labels[training].to(device)
    embedder.standardise(tokens)
    taught = [*embedder.of_token.parameters(), *embedder.of_set.parameters(), *head.parameters()]
    if embedder.attention is not None:
        taught += embedder.attention.parameters()
    optimizer = torch.optim.AdamW(taught, config.learning_rate)
    found: list[float] = []
    best = copy.deepcopy(embedder.state_dict())
    for step in range(config.steps):
        if step and config.refresh and step % config.refresh == 0:
            tokens = look(training, generator).to(device)
        chosen = torch.randperm(len(training), generator=generator)[: config.batch]
        noise = config.noise * torch.randn(len(chosen), shape.size, generator=generator)
        optimizer.param_groups[0]["lr"] = config.learning_rate * half_cosine(step / config.steps)
        optimizer.zero_grad()
        loss(shown(tokens[chosen]), own[chosen], noise.to(device)).backward()
        nn.utils.clip_grad_norm_(taught, 1.0)
        optimizer.step()
        if (step + 1) % (config.refresh or 50) == 0 or step + 1 == config.steps:
            with torch.no_grad():
                found.append(float(loss(asked, wanted, 0.0)))
            if found[-1] == min(found):
                best = copy.deepcopy(embedder.state_dict())
            if len(found) - 1 - found.index(min(found)) >= config.patience:
                break
    embedder.load_state_dict(best)
    return embedder.to("cpu").eval().requires_grad_(False)
