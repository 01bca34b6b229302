"""Folders, and files that belong together, are written whole or not at all."""

import os
import shutil
from contextlib import nullcontext
from pathlib import Path

import pytest

from gradsplinter import io


def test_a_new_folder_appears_when_the_block_ends(tmp_path):
    path = tmp_path / "deep" / "results"
    with io.new_folder(path) as folder:
        (folder / "a.txt").write_text("new")
        assert not path.exists()
    assert (path / "a.txt").read_text() == "new"
    assert [p.name for p in path.parent.iterdir()] == ["results"]


def test_an_existing_folder_is_replaced_and_other_files_stay(tmp_path):
    path = tmp_path / "results"
    (path / "networks").mkdir(parents=True)
    (path / "networks" / "stale").write_text("old")
    (path / "table.csv").write_text("old")
    (path / "notes.md").write_text("the user's")
    with io.new_folder(path) as folder:
        (folder / "table.csv").write_text("new")
        (folder / "networks").mkdir()
    assert {p.name for p in path.iterdir()} == {"table.csv", "networks", "notes.md"}
    assert (path / "table.csv").read_text() == "new"
    assert (path / "notes.md").read_text() == "the user's"
    assert list((path / "networks").iterdir()) == []
    assert [p.name for p in tmp_path.iterdir()] == ["results"]


def test_a_link_and_the_current_folder(tmp_path, monkeypatch):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with io.new_folder(tmp_path / "link") as folder:
        (folder / "a.txt").write_text("new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "a.txt").read_text() == "new"
    monkeypatch.chdir(tmp_path / "real")
    with io.new_folder(Path()) as folder:
        (folder / "b.txt").write_text("new")
    assert {p.name for p in (tmp_path / "real").iterdir()} == {"a.txt", "b.txt"}


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_leaves_what_was_there(tmp_path, error):
    path = tmp_path / "results"
    path.mkdir()
    (path / "old.txt").write_text("old")
    with pytest.raises(error), io.new_folder(path) as folder:  # noqa: PT012
        (folder / "new.txt").write_text("new")
        raise error
    assert [p.name for p in path.iterdir()] == ["old.txt"]
    assert [p.name for p in tmp_path.iterdir()] == ["results"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("file", r"out must be a folder, got the file .*file"),
        ("file/below", r"out must be a folder that can be written, got .*below"),
    ],
)
def test_a_place_that_cannot_be_written_is_refused_before_work(tmp_path, name, message):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=message), io.new_folder(tmp_path / name):
        pytest.fail("the work began")


def test_csv_writes_none_as_an_empty_field(tmp_path):
    io.write_csv(tmp_path / "a.csv", [{"x": 1, "y": None}, {"x": 0.5, "y": "z"}])
    assert (tmp_path / "a.csv").read_text().splitlines() == ["x,y", "1,", "0.5,z"]


def test_json_round_trip_and_damage(tmp_path):
    path = tmp_path / "a.json"
    io.write_json(path, {"a": [1, 2.5]})
    assert io.read_json(path) == {"a": [1, 2.5]}
    path.write_text("{")
    with pytest.raises(ValueError, match="cannot be read as JSON"):
        io.read_json(path)
    path.write_text("[]")
    with pytest.raises(ValueError, match="must hold a JSON object, got list"):
        io.read_json(path)


def test_a_folder_that_cannot_be_renamed(tmp_path, monkeypatch):
    """As a mount point cannot."""
    path = tmp_path / "results"
    (path / "networks").mkdir(parents=True)
    (path / "networks" / "stale").write_text("old")
    (path / "table.csv").write_text("old")
    (path / "notes.md").write_text("the user's")
    rename = Path.rename

    def busy(self, target):
        if self == path:
            raise OSError(16, "Device or resource busy")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", busy)
    with io.new_folder(path) as folder:
        (folder / "table.csv").write_text("new")
        (folder / "networks").mkdir()
    assert {p.name for p in path.iterdir()} == {"table.csv", "networks", "notes.md"}
    assert (path / "table.csv").read_text() == "new"
    assert list((path / "networks").iterdir()) == []
    assert [p.name for p in tmp_path.iterdir()] == ["results"]


def test_a_failure_between_the_renames_puts_the_old_results_back(tmp_path, monkeypatch):
    path = tmp_path / "results"
    path.mkdir()
    (path / "table.csv").write_text("old")
    rename = Path.rename

    def failing(self, target):
        if self.name.endswith(".tmp"):
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(KeyboardInterrupt), io.new_folder(path) as folder:
        (folder / "table.csv").write_text("new")
    assert (path / "table.csv").read_text() == "old"


def test_files_appear_together(tmp_path):
    (tmp_path / "a").write_text("old")
    io.write_files({tmp_path / "a": b"new", tmp_path / "b": b"other"})
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"a": "new", "b": "other"}


@pytest.mark.parametrize("stop", range(1, 14))
def test_a_failure_at_any_step_leaves_every_file_as_it_was(tmp_path, monkeypatch, stop):
    """Of the calls that touch the disk the one of this number is interrupted; there are 12."""
    (tmp_path / "a").write_text("old")
    (tmp_path / "link").symlink_to("a")
    files = {tmp_path / "b": b"new", tmp_path / "a": b"new", tmp_path / "link": b"new"}
    calls = 0

    def counting(call):
        def counted(*arguments, **options):
            nonlocal calls
            calls += 1
            if calls == stop:
                raise KeyboardInterrupt
            return call(*arguments, **options)

        return counted

    with monkeypatch.context() as patch:
        for of, name in ((Path, "open"), (Path, "rename"), (os, "fsync"), (shutil, "copy2")):
            patch.setattr(of, name, counting(getattr(of, name)))
        with pytest.raises(KeyboardInterrupt) if stop <= 12 else nullcontext():
            io.write_files(files)
    found = {p.name: p.read_text() for p in tmp_path.iterdir()}
    expected = ["a", "link"] if stop <= 12 else ["a", "b", "link"]
    assert found == dict.fromkeys(expected, "old" if stop <= 12 else "new")
    assert (tmp_path / "link").is_symlink() == (stop <= 12)
