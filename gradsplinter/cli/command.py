"""What the commands share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from gradsplinter import io
from gradsplinter.network import ReluNetwork

try:
    import tyro
    from rich.console import Console
except ImportError as error:  # pragma: no cover
    raise SystemExit(
        f"the command line needs the packages of the extra `cli`: {error}; in the source folder, "
        "`pip install '.[cli]'` installs them"
    ) from error

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


def command_of_line(commands: Mapping[str, type[Command]], description: str) -> Command:
    """The command that was typed, with its arguments."""
    return tyro.extras.subcommand_cli_from_dict(
        dict(commands), prog="gradsplinter", description=description
    )


@contextmanager
def results_folder(out: Path, overwrite: bool) -> Iterator[Path]:
    """`io.new_folder`, for one writer only.

    Raises:
        ValueError: it holds files that must not be overwritten, or cannot be written to.
    """
    out = out.resolve()  # which stays the same where "." becomes another folder
    if out.is_dir() and any(out.iterdir()) and not overwrite:
        raise ValueError(
            f"out must be a new folder, got {out}, which holds files; choose another --out or "
            "replace the results with --overwrite"
        )
    with io.only_writer(out), io.new_folder(out) as folder:
        yield folder


def load_network(path: Path) -> ReluNetwork:
    """
    Raises:
        ValueError: the file is not a network.
    """
    try:
        return ReluNetwork.load(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"MODEL must be a network that ReluNetwork.save wrote: {error}") from error
