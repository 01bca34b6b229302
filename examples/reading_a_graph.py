"""The figures of docs/graph.md: python examples/reading_a_graph.py [FOLDER] [--digits] [--mnist]

`--digits` also needs scikit-learn, for its digits; `--mnist` MNIST, where `gradsplinter.data` finds it:
`make data` puts 10,000 digits of it into build/data, and GRADSPLINTER_DATA names the folder.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from gradsplinter import communities, computation_graph, neuron_communities, view
from gradsplinter.data import load
from gradsplinter.plot.activated import activated
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


def mnist():
    """A network that reads MNIST's digits, these, and what they are."""
    data = load("mnist", "all", download=False)
    y = torch.nn.functional.one_hot(data.y).float()
    config = TrainConfig((784, 64, 64, 10), steps=1500, learning_rate=2e-3, batch_size=256)
    net = train(config, data.x[None], y[None], [0]).networks[0]
    return net, data.x, data.y


def print_users(drawn, of_node, y):
    """Of some nodes, what share of their site's flow they have, and how many fours and nines."""
    for n in of_node:
        node = drawn.nodes[n]
        flow = sum(drawn.nodes[other].flow for other in drawn.of_site(node.site))
        users = (drawn.index[node.site] == n).any(dim=1)[drawn.graph.modes(node.site)]
        names = ", ".join(drawn.directions[d] for d in node.directions)
        print(
            f"node {node.name} of {names}: {node.flow / flow:.1%} of the flow shown, "
            f"{int((y[users] == 4).sum())} fours, {int((y[users] == 9).sum())} nines"
        )
    for edge in drawn.edges:
        if edge.kind == "within" and {edge.a, edge.b} <= set(of_node):
            names = drawn.nodes[edge.a].name, drawn.nodes[edge.b].name
            print(f"{names[0]} with {names[1]}: cosine {edge.weight:.2f}, {edge.count} examples")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=Path("results/graph"))
    parser.add_argument("--digits", action="store_true")
    parser.add_argument("--mnist", action="store_true")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)

    print("Two products:")
    net, x = products()
    graph = computation_graph(net, x)
    print(graph)
    print("share of the components that an example uses, by site:", graph.share_used())
    graphs = {"4-16-16-2, two products": graph}
    print("from the neurons alone:", neuron_communities(net, x))
    found = communities(graph)
    print("from the outputs:", found)
    drawn = view(
        graph, most_nodes=60, angle=0.15, communities=found,
        directions=["x1·x2", "x3·x4"], examples=[0],
    )  # fmt: skip
    print(drawn)
    save(layers(drawn, example=0), options.folder, "graph-layers")
    save(dendrogram(graph, 0, angle=0.15), options.folder, "graph-tree")
    save(similarity(drawn, 0), options.folder, "graph-similarity")
    net.save(options.folder / "products.safetensors")
    np.save(options.folder / "products.npy", x.numpy())

    if options.digits:
        print("\nDigits:")
        net, x = digits()
        graph = computation_graph(net, x)
        print(graph)
        print("share of the components that an example uses, by site:", graph.share_used())
        graphs["64-64-64-10, digits"] = graph
        drawn = view(graph, most_nodes=120, angle=0.3, examples=[0])
        print(drawn)
        save(layers(drawn, example=0), options.folder, "graph-digits")

    if options.mnist:
        print("\nMNIST:")
        net, x, y = mnist()
        graph = computation_graph(net, x)
        print(graph)
        print("share of the components that an example uses, by site:", graph.share_used())
        print("as rare as the rarest:", len(graph.equally_rare(int(graph.rarest(1)))), "examples")
        graphs["784-64-64-10, MNIST"] = graph
        some = (y == 4) | (y == 9)
        graph = computation_graph(net, x[some], torch.eye(10)[[4, 9]])
        print(graph)
        drawn = view(graph, most_nodes=100, angle=1.0, directions=["4", "9"])
        print(drawn)
        print_users(drawn, drawn.of_site(1)[:4], y[some])
        save(layers(drawn), options.folder, "graph-mnist")

    save(activated(graphs), options.folder, "graph-activated")
    print(f"Written to {options.folder}/")


if __name__ == "__main__":
    main()
