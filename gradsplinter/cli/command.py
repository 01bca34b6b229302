"""What the commands share."""

from __future__ import annotations

import dataclasses
import hashlib
import re
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import ClassVar

import torch

from gradsplinter import io
from gradsplinter.wording import missing_extra

try:
    import tyro
    from rich.console import Console
except ImportError as error:  # pragma: no cover
    raise SystemExit(missing_extra("the command line", "cli", error)) from error

MAY_BEGIN_WITH_MINUS = ("--expression",)

console = Console(soft_wrap=True)
error_console = Console(stderr=True, soft_wrap=True)


class Command:
    """What `main` runs."""

    typed: ClassVar[dict[str, str]] = {}
    """Arguments of Python by what they are called on the command line, for messages."""

    def run(self) -> None:
        raise NotImplementedError

    def after_interrupt(self) -> str:
        """What Ctrl-C has left."""
        return "the results are as they were before"


@dataclass(frozen=True)
class Study(Command):
    """One that trains networks, and writes a folder of results."""

    overwrite: bool = field(default=False, kw_only=True)
    """Replace the results that are there; other files beside them stay."""
    progress: bool = field(default=True, kw_only=True)
    """Show a bar, if this is a terminal."""

    @property
    def shows_bar(self) -> bool:
        return self.progress and sys.stderr.isatty()


def command_of_line(
    commands: Mapping[str, type[Command]], description: str, line: Sequence[str]
) -> Command:
    """The command that was typed, with its arguments."""
    return tyro.extras.subcommand_cli_from_dict(
        dict(commands), prog="gradsplinter", description=description, args=line
    )


def with_joined_values(line: Sequence[str]) -> list[str]:
    """The command line with the values of options that begin with a minus joined to these by "=".

    Else they would be read as options. A flag of one letter, as -h, and what begins with two are left.

    Examples:
        >>> with_joined_values(["field", "--expression", "-x1*x2", "--tasks", "formula", "-h"])
        ['field', '--expression=-x1*x2', '--tasks', 'formula', '-h']
    """
    found: list[str] = []
    for word in line:
        if found and found[-1] in MAY_BEGIN_WITH_MINUS and re.match(r"-(?!-|\w$)", word):
            found[-1] += f"={word}"
        else:
            found.append(word)
    return found


def with_command_of_two_words(line: Sequence[str], commands: Collection[str]) -> list[str]:
    """The command line with its first two words joined, where together they are a command.

    Examples:
        >>> with_command_of_two_words(["embed", "train", "zoo"], {"embed", "embed train"})
        ['embed train', 'zoo']
        >>> with_command_of_two_words(["embed", "net.safetensors"], {"embed", "embed train"})
        ['embed', 'net.safetensors']

    Raises:
        ValueError: two words that are nearly a command, of which the second is no file.
    """
    joined = " ".join(line[:2])
    if len(line) < 2 or joined in commands:
        return [joined, *line[2:]] if line else []
    of_first = [command for command in commands if command.startswith(f"{line[0]} ")]
    meant = get_close_matches(joined, of_first, n=1, cutoff=0.8)
    if meant and not Path(line[1]).exists():
        raise ValueError(f"command must be one that there is, got {joined}: is {meant[0]} meant?")
    return list(line)


def device_of(name: str | None) -> str:
    """By default CUDA where there is such a device."""
    return name or ("cuda" if torch.cuda.is_available() else "cpu")


def checkpoint_of(out: Path, ending: str) -> Path:
    """Where unfinished work is kept: beside the folder that it is for, which is whole or not there."""
    out = out.resolve()
    return out.with_name(f"{out.name}.checkpoint{ending}")


@contextmanager
def may_begin_anew() -> Iterator[None]:
    """Say of a checkpoint that does not fit what one can do about it."""
    try:
        yield
    except ValueError as error:
        if str(error).startswith("checkpoint "):
            error.add_note("(choose another --out, or remove this file to begin anew)")
        raise


def options_of(config: type) -> dict[str, str]:
    """The fields of a configuration by what they are called on the command line."""
    return {field.name: f"--{field.name.replace('_', '-')}" for field in dataclasses.fields(config)}


@contextmanager
def results_folder(out: Path, overwrite: bool, name: str) -> Iterator[Path]:
    """`replaced_folder`, for one writer only.

    Raises:
        ValueError: it holds files that must not be overwritten, or cannot be written to.
    """
    out = out.resolve()  # which stays the same where "." becomes another folder
    check_new(out, overwrite)
    with io.only_writer(out), replaced_folder(out, name) as folder:
        yield folder


def check_new(out: Path, overwrite: bool) -> None:
    """
    Raises:
        ValueError: it is a file, or holds files that must not be overwritten.
    """
    if out.exists() and not out.is_dir():
        raise ValueError(f"out must be a folder, got the file {out}")
    if out.is_dir() and any(out.iterdir()) and not overwrite:
        raise ValueError(
            f"out must be a new folder, got {out}, which holds files; choose another --out or "
            "replace the results with --overwrite"
        )


@contextmanager
def replaced_folder(out: Path, name: str) -> Iterator[Path]:
    """`io.new_folder`, whose config.json then lists the files that the command `name` wrote.

    Those of an earlier run of it that this one does not write are removed, unless they were changed since.
    """
    earlier = _files_of(out, name)
    with io.new_folder(out) as folder:
        yield folder
        about = folder / "config.json"
        files = {path.name: _sha256(path) for path in sorted(folder.iterdir()) if path.is_file()}
        files.pop(about.name)
        io.write_json(about, io.read_json(about) | {"command": name, "files": files})
    for path in out.iterdir():
        of_earlier = path.name in earlier and path.name not in files and path.is_file()
        if of_earlier and not path.is_symlink() and _sha256(path) == earlier[path.name]:
            path.unlink()


def _files_of(out: Path, name: str) -> dict[str, str]:
    """Checksums of what an earlier run of this command wrote there."""
    with suppress(ValueError):
        found = io.read_json(out / "config.json")
        if found.get("command") == name and isinstance(found.get("files"), dict):
            return dict(found["files"])
    return {}


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
