"""gradsplinter: how a ReLU network does its work, by the finitely many gradients that it has.

>>> import torch, gradsplinter
>>> net = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.ReLU(), torch.nn.Linear(16, 2))
>>> splinters = gradsplinter.splinter(net, torch.rand(1000, 4))
>>> splinters.n_examples
1000
"""

from importlib.metadata import version

from gradsplinter.clusters import Clusters, clusters
from gradsplinter.communities import Communities, communities, neuron_communities
from gradsplinter.embedder import Embedder
from gradsplinter.embedding import embed
from gradsplinter.extraction import extract
from gradsplinter.graph import ComputationGraph, computation_graph
from gradsplinter.graph_choice import view
from gradsplinter.graph_view import GraphView
from gradsplinter.network import ReluNetwork, pattern_sites
from gradsplinter.operations import SlopeLevels
from gradsplinter.ops import (
    cross,
    gram,
    hash_rows,
    jacobian,
    nearest_signatures,
    signatures,
    unique_rows,
    unique_signatures,
)
from gradsplinter.patterns import pack_bits, select_sites, unpack_bits
from gradsplinter.splinters import Gradients, Splinters
from gradsplinter.store import Store, merge
from gradsplinter.table import SplinterTable, splinter
from gradsplinter.traced import TracedNetwork

__version__ = version("gradsplinter")

__all__ = [
    "Clusters",
    "Communities",
    "ComputationGraph",
    "Embedder",
    "Gradients",
    "GraphView",
    "ReluNetwork",
    "SlopeLevels",
    "SplinterTable",
    "Splinters",
    "Store",
    "TracedNetwork",
    "clusters",
    "communities",
    "computation_graph",
    "cross",
    "embed",
    "extract",
    "gram",
    "hash_rows",
    "jacobian",
    "merge",
    "nearest_signatures",
    "neuron_communities",
    "pack_bits",
    "pattern_sites",
    "select_sites",
    "signatures",
    "splinter",
    "unique_rows",
    "unique_signatures",
    "unpack_bits",
    "view",
]
