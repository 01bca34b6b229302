"""What the pages show works as it stands there, and what is written twice agrees."""

import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
if not (ROOT / "docs").is_dir():
    pytest.skip("no pages here, as in an sdist", allow_module_level=True)


def run_blocks(page, most=None):
    """The blocks of Python of a page, one after the other, as they stand."""
    text = (ROOT / page).read_text("utf-8")
    names = {}
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)[:most]
    for code in blocks:
        exec(compile(code, page, "exec"), names)  # noqa: S102
    return names


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_first_steps(here):
    np.save(here / "images.npy", np.zeros((10, 4), dtype=np.uint8))
    run_blocks("README.md", 1)


def test_a_graph_is_drawn_and_exported(here):
    run_blocks("docs/graph.md", 1)
    written = {path.name: path.stat().st_size for path in (here / "figures").iterdir()}
    assert set(written) == {"graph.png", "graph.pdf", "graph.graphml"}
    assert all(written.values())


def test_networks(here):  # noqa: ARG001 (one block writes there)
    names = run_blocks("docs/networks.md")
    assert repr(names["splinters"].net) == "TracedNetwork(784-5408-1352-10, float32)"
    assert names["splinters"].net.names == ("input", "2", "3", "output")


def test_relevance():
    names = run_blocks("docs/relevance.md")
    assert names["relevance"].shape == (100, 10, 64)


def test_embedding(here):  # noqa: ARG001 (one block writes there)
    names = run_blocks("docs/embedding.md")
    assert names["embedding"].shape == (2, names["known"].means.shape[1])


def test_the_version_to_cite():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    citation = (ROOT / "CITATION.cff").read_text("utf-8")
    assert f"version: {project['version']}\n" in citation
    assert project["authors"][0]["name"] in citation


def test_the_extra_of_all_has_every_other_one():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"][
        "optional-dependencies"
    ]
    assert extras.pop("all") == [f"gradsplinter[{','.join(sorted(extras))}]"]
