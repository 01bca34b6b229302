"""What the pages show works as it stands there, and what is written twice agrees."""

import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
if not (ROOT / "docs").is_dir():
    pytest.skip("no pages here, as in an sdist", allow_module_level=True)


def run_first_block(page):
    """The first block of Python of a page, as it stands."""
    code = re.search(
        r"^```python\n(.*?)^```$", (ROOT / page).read_text("utf-8"), re.DOTALL | re.MULTILINE
    )[1]
    exec(compile(code, page, "exec"), {})  # noqa: S102


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_first_steps(here):
    np.save(here / "images.npy", np.zeros((10, 4), dtype=np.uint8))
    run_first_block("README.md")


def test_a_graph_is_drawn_and_exported(here):
    run_first_block("docs/graph.md")
    written = {path.name: path.stat().st_size for path in (here / "figures").iterdir()}
    assert set(written) == {"graph.png", "graph.pdf", "graph.graphml"}
    assert all(written.values())


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
