"""What all studies do on the command line: folders that are written again, bars, figures; and `smooth`."""

import csv
import json
import sys

import pytest
from matplotlib.figure import Figure

from gradsplinter import cli
from gradsplinter.cli.command import Study
from gradsplinter.plot.style import save

LINE = (
    "smooth --activations relu gelu --lambdas 0 0.5 --seeds 0 1 --hidden 4 --bits 1 --angles 20 "
    "--training-examples 50 --examples 30 --steps 2 --out s"
)
STUDIES = [  # those of two words take the folder of a zoo: test_cli_embed.py
    name for name, command in cli.COMMANDS.items() if issubclass(command, Study) and " " not in name
]


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(line):
        monkeypatch.setattr(sys, "argv", ["gradsplinter", *line.split()])
        cli.main()

    return run


def draws(monkeypatch, *names):
    monkeypatch.setattr("gradsplinter.plot.smooth.figures", lambda _: {n: Figure() for n in names})


def names(folder):
    return {path.name for path in folder.iterdir()}


def test_smooth(run, tmp_path, capsys):
    run(LINE)
    figures = {f"{n}.{end}" for n in ("groups", "orthogonality") for end in ("png", "pdf")}
    tables = {"groups.csv", "orthogonality.csv"}
    assert names(tmp_path / "s") == {"config.json", *tables, *figures}
    about = json.loads((tmp_path / "s" / "config.json").read_text())
    assert (about["command"], about["config"]["hidden"]) == ("smooth", [4])
    assert set(about["files"]) == tables | figures
    with (tmp_path / "s" / "orthogonality.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["activation"], row["strength"], row["seed"]) for row in rows] == [
        (kind, strength, seed) for kind in ("relu", "gelu") for strength in ("0.0", "0.5") for seed in "01"
    ]  # fmt: skip
    printed = capsys.readouterr()
    mean = sum(float(row["exact"]) for row in rows[:2]) / 2
    assert f"{mean:.3f}" in printed.out
    assert "Written to s/ in" in printed.out
    assert printed.err == ""  # no bar, since this is no terminal


def test_files_of_an_earlier_run_are_removed_and_no_others(run, tmp_path, monkeypatch, capsys):
    draws(monkeypatch, "a", "b", "c", "d")
    run(LINE)
    out = tmp_path / "s"
    (out / "notes.md").write_text("mine")
    (out / "b.png").write_text("mine, too")
    (out / "c.png").rename(out / "other.png")
    (out / "c.png").symlink_to(out / "other.png")
    (out / "d.png").unlink()
    (out / "d.png").mkdir()
    draws(monkeypatch, "new")
    with pytest.raises(SystemExit):
        run(LINE)
    assert "--overwrite" in capsys.readouterr().err
    assert "a.png" in names(out)
    run(f"{LINE} --overwrite")
    assert names(out) == {
        *("config.json", "groups.csv", "orthogonality.csv", "new.png", "new.pdf"),
        *("notes.md", "b.png", "c.png", "other.png", "d.png"),
    }
    assert (out / "b.png").read_text() == "mine, too"


@pytest.mark.parametrize(
    "damage",
    [
        {"command": "mnist"},
        {"files": ["a.png"]},
        {"files": {"../kept.txt": "", "a.png": "another"}},
        None,
    ],
)
def test_files_that_no_earlier_run_is_known_to_have_written_stay(
    damage, run, tmp_path, monkeypatch
):
    draws(monkeypatch, "a")
    run(LINE)
    (tmp_path / "kept.txt").write_text("")
    about = tmp_path / "s" / "config.json"
    if damage is None:
        about.write_text("{")
    else:
        about.write_text(json.dumps(json.loads(about.read_text()) | damage))
    draws(monkeypatch)
    run(f"{LINE} --overwrite")
    assert "a.png" in names(tmp_path / "s")
    assert (tmp_path / "kept.txt").exists()


@pytest.mark.parametrize(
    ("options", "terminal", "shown"),
    [("", True, True), ("", False, False), ("--no-progress", True, False)],
)
@pytest.mark.parametrize("name", STUDIES)
def test_a_bar_is_for_terminals(name, options, terminal, shown, run, monkeypatch, capsys):
    def stop(*_, progress=True, **__):
        raise ValueError(f"progress: {progress}")

    data = {
        "mnist": "--datasets iris",
        "adversarial": "--dataset digits",
        "relevance": "--dataset iris",
    }
    if name == "adversarial":  # of which there is nothing other
        monkeypatch.setitem(cli.adversarial.OTHERS, "digits", None)
    function = "make_zoo" if name == "zoo" else f"run_{name}"
    monkeypatch.setattr(f"gradsplinter.cli.{name}.{function}", stop)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    with pytest.raises(SystemExit):
        run(f"{name} {data.get(name, '')} --out x {options}")
    assert f"progress: {shown}" in capsys.readouterr().err


def test_figures_are_the_same_bytes_again(tmp_path):
    paths = []
    for folder in ("a", "b"):
        figure = Figure()
        figure.subplots().plot([1, 2])
        paths.append(save(figure, tmp_path / folder, "f"))
    for first, second in zip(*paths, strict=True):
        assert first.read_bytes() == second.read_bytes()
        assert b"CreationDate" not in first.read_bytes()
