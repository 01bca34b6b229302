"""The figures of docs/graph.md: python examples/reading_a_graph.py [FOLDER] [--digits]

`--digits` also needs scikit-learn, for its digits.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from gradsplinter import communities, computation_graph, neuron_communities, view
from gradsplinter.data import load
from gradsplinter.plot.dendrogram import dendrogram
from gradsplinter.plot.graph import layers
from gradsplinter.plot.similarity import similarity
from gradsplinter.plot.style import save
from gradsplinter.tasks import ParallelProducts
from gradsplinter.train import TrainConfig, train


def products():
    """A network that learned x1·x2 and x3·x4 side by side, and 2,000 examples."""
    task = ParallelProducts(2)
    x = task.sample(8000, generator=torch.Generator().manual_seed(0))
    config = TrainConfig((4, 16, 16, 2), steps=3000, learning_rate=5e-3, batch_size=256)
    return train(config, x[None], task.target(x)[None], [1]).networks[0], x[:2000]


def digits():
    """A network that reads the 8 x 8 digits of scikit-learn, and these."""
    data = load("digits", "all")
    x, y = data.x, torch.nn.functional.one_hot(data.y).float()
    config = TrainConfig((64, 64, 64, 10), steps=600, learning_rate=2e-3, batch_size=256)
    return train(config, x[None], y[None], [0]).networks[0], x


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=Path("results/graph"))
    parser.add_argument("--digits", action="store_true")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)

    net, x = products()
    graph = computation_graph(net, x)
    print(graph)
    print("share of the components that an example uses, by site:", graph.share_used())
    print(neuron_communities(net, x))
    found = communities(graph)
    print(found)
    drawn = view(
        graph, most_nodes=60, angle=0.15, communities=found.of(graph),
        directions=["x1·x2", "x3·x4"], examples=[0],
    )  # fmt: skip
    print(drawn)
    save(layers(drawn, example=0), options.folder, "graph-layers")
    save(dendrogram(graph, 0, angle=0.15), options.folder, "graph-tree")
    save(similarity(drawn, 0), options.folder, "graph-similarity")
    net.save(options.folder / "products.safetensors")
    np.save(options.folder / "products.npy", x.numpy())

    if options.digits:
        net, x = digits()
        graph = computation_graph(net, x)
        print(graph)
        print("share of the components that an example uses, by site:", graph.share_used())
        drawn = view(graph, most_nodes=120, angle=0.3, examples=[0])
        print(drawn)
        save(layers(drawn, example=0), options.folder, "graph-digits")


if __name__ == "__main__":
    main()
