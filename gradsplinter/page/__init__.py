"""A view of a computation graph → one HTML file to explore it, which works offline and asks nobody.

The page is `template.html` with its style, its scripts and the data put in. Its content-security policy
allows these by their hashes and nothing else: no request, no other script, no inline style.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Iterable
from importlib import resources

from gradsplinter.graph_view import GraphView
from gradsplinter.page.data import (
    Examples,
    check_image_shape,
    chosen_examples,
    page_data,
    ties_note,
    whole_paths,
)

__all__ = [
    "Examples",
    "check_image_shape",
    "chosen_examples",
    "graph_page",
    "ties_note",
    "whole_paths",
]

SCRIPTS = (  # in this order
    *("data", "elements", "vectors", "shown", "drawing"),
    *("select", "panel", "examples", "search", "keyboard", "main"),
)


def graph_page(
    view: GraphView,
    *,
    title: str = "Computation graph",
    examples: Examples | None = None,
    image_shape: tuple[int, int] | None = None,
) -> str:
    """The text of an HTML file that shows a view: pan, zoom, filter, nodes, examples and their paths.

    Args:
        view: what is shown. Up to 1,000 of its nodes at a time are, the strongest first; the others can
            be brought in.
        title: of the page.
        examples: those whose paths can be looked at; by default `chosen_examples` without their inputs.
        image_shape: (height, width), if the input is an image: its gradients are drawn as images, too.

    Raises:
        ValueError: a shape that does not match the input; inputs or names that do not match the
            examples.
        IndexError: an example that the graph does not have.

    Examples:
        >>> import torch
        >>> from gradsplinter import ReluNetwork, computation_graph
        >>> from gradsplinter.graph_choice import view
        >>> net = ReluNetwork([torch.eye(2), torch.ones(1, 2)], [torch.zeros(2), torch.zeros(1)])
        >>> page = graph_page(view(computation_graph(net, torch.ones(3, 2))), title="<b> & co")
        >>> "<title>&lt;b&gt; &amp; co</title>" in page
        True
    """
    style = _part("page.css")
    library = _part("cytoscape.min.js")
    script = '"use strict";\n' + "\n".join(_part(f"{name}.js") for name in SCRIPTS)
    parts = {
        "policy": "; ".join(
            (
                "default-src 'none'",
                f"script-src {_hash(library)} {_hash(script)}",
                f"style-src {_hash(style)}",
                "img-src data:",  # the empty icon, without which a server is asked for one
                "base-uri 'none'",
                "form-action 'none'",
            )
        ),
        "title": html.escape(title),
        "style": style,
        "library": library,
        "script": script,
        "data": _json(page_data(view, examples, image_shape)),
    }
    # In one go, so that nothing that is put in is searched again.
    return re.sub(r"@(\w+)@", lambda found: parts[found[1]], _part("template.html"))


def _part(name: str) -> str:
    return (resources.files(__package__) / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _json(value: object) -> str:
    """JSON that cannot end the element it stands in, whatever its strings hold."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return _escape(text, "<>&\u2028\u2029")


def _escape(text: str, characters: Iterable[str]) -> str:
    for character in characters:
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
