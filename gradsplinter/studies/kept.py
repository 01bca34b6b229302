"""What a long study has finished, in a file, so that it goes on where it was interrupted."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

import gradsplinter
from gradsplinter import io
from gradsplinter.network import ReluNetwork
from gradsplinter.wording import difference


def about(config: Mapping[str, Any], **fingerprints: str) -> dict[str, Any]:
    """What the results of a study depend on: its settings, what it is about, and versions."""
    versions = {"gradsplinter": gradsplinter.__version__, "torch": torch.__version__}
    return {"config": config, **fingerprints, "versions": versions}


class Kept:
    """Results of parts of a study by name, as JSON; without a path they are not kept.

    Args:
        path: of the file; what it holds already is kept on.
        about: what the results depend on.

    Raises:
        ValueError: a file of another study.

    Examples:
        >>> kept = Kept(None, {"seed": 0})
        >>> kept["first"] = [1, 2]
        >>> "first" in kept, kept["first"]
        (True, [1, 2])
    """

    def __init__(self, path: Path | None, about: Mapping[str, Any]) -> None:
        self.path, self.about = path, json.loads(json.dumps(about))
        self.parts: dict[str, Any] = {}
        if path is not None and path.exists():
            found = io.read_json(path)
            other = difference(found.get("about"), self.about) or (
                "" if isinstance(found.get("parts"), dict) else "no parts"
            )
            if other:
                raise ValueError(f"checkpoint must be of the same study, got {path} with {other}")
            self.parts = found["parts"]

    def __contains__(self, name: str) -> bool:
        return name in self.parts

    def __getitem__(self, name: str) -> Any:
        return self.parts[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self.parts[name] = value
        if self.path is not None:
            text = json.dumps({"about": self.about, "parts": self.parts})
            io.write_file(self.path, text.encode())

    def network(self, name: str, make: Callable[[], ReluNetwork]) -> ReluNetwork:
        """The network of this name, from a file of its own beside `path`; where it is not there, it is made.

        Raises:
            ValueError: a file of another network.
        """
        path = None if self.path is None else self.path.with_name(f"{name}.safetensors")
        if path is None or name not in self or not path.exists():
            net = make()
            if path is not None:
                net.save(path)
            self[name] = net.fingerprint
            return net
        net = ReluNetwork.load(path)
        if net.fingerprint != self[name]:
            raise ValueError(
                f"checkpoint must be as it was written, got {path} with another network"
            )
        return net
