"""Splinters of a small network that multiplies two pairs of numbers at once.

Run: python examples/first_steps.py
"""

import torch
from torch import nn

import gradsplinter

torch.manual_seed(0)

# A network that learns x1·x2 and x3·x4 side by side.
net = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 2))
x = torch.rand(4000, 4)
y = torch.stack([x[:, 0] * x[:, 1], x[:, 2] * x[:, 3]], dim=1)
optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
untrained = gradsplinter.splinter(net, x)
for _ in range(300):
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(net(x), y)
    loss.backward()
    optimizer.step()

splinters = gradsplinter.splinter(net, x)
print(splinters)
print()

# The gradient of each output in the region where most examples lie: an output of its own task.
mode = int(splinters.counts.argmax())
print(
    f"Mode {mode} holds {splinters.counts[mode]} of {splinters.n_examples} examples. Its gradients:"
)
print(splinters.jacobian()[mode])
print()
print(f"orthogonality of the two outputs before training: {untrained.orthogonality():.3f}")
print(f"                                  after training: {splinters.orthogonality():.3f}")
