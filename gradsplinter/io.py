"""Results on disk: whole folders or nothing, plain formats, never pickle."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path` that takes its place when the block ends without an error.

    A crash or Ctrl-C leaves what was there. The folder is made at once, so that a place that cannot
    be written to is refused before any work.

    Raises:
        ValueError: `path` is a file, or its folder cannot be written to.
    """
    if path.exists() and not path.is_dir():
        raise ValueError(f"out must be a folder, got the file {path}")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir(parents=True)
    except OSError as error:
        raise ValueError(
            f"out must be a folder that can be written, got {path}: {error}"
        ) from error
    try:
        yield temporary
        _replace(path, temporary)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _replace(path: Path, by: Path) -> None:
    if not path.exists():
        by.rename(path)
        return
    old = path.with_name(f".{path.name}.{os.getpid()}.old")
    path.rename(old)
    by.rename(path)
    shutil.rmtree(old)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """
    Raises:
        ValueError: the file is not a JSON object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(value, dict):  # what a file holds is a value, whatever its type
        raise ValueError(  # noqa: TRY004
            f"{path} must hold a JSON object, got {type(value).__name__}"
        )
    return value


def write_csv(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """One line per row; the first row's keys are the header. None is an empty field."""
    rows = list(rows)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]) if rows else [])
        writer.writeheader()
        writer.writerows(rows)
