"""The command line: `gradsplinter mixing`, `communities`, `field`, `smooth`, `mnist`, `adversarial`, `relevance`, `zoo`, `embed`, `embed train`, `embed study`, `embed parts`, `graph`, `extract`, `merge` and `info`."""

from __future__ import annotations

import sys

import gradsplinter
from gradsplinter.cli.adversarial import AdversarialStudy
from gradsplinter.cli.command import (
    Command,
    command_of_line,
    error_console,
    with_command_of_two_words,
    with_joined_values,
)
from gradsplinter.cli.communities import CommunitiesStudy
from gradsplinter.cli.embed import Embed
from gradsplinter.cli.embed_study import EmbedStudy
from gradsplinter.cli.embed_train import EmbedTrain
from gradsplinter.cli.field import FieldStudy
from gradsplinter.cli.graph import Graph
from gradsplinter.cli.mixing import Mixing
from gradsplinter.cli.mnist import MnistStudy
from gradsplinter.cli.parts import EmbedParts
from gradsplinter.cli.relevance import RelevanceStudy
from gradsplinter.cli.smooth import SmoothStudy
from gradsplinter.cli.tables import Extract, Info, Merge
from gradsplinter.cli.zoo import MakeZoo

COMMANDS: dict[str, type[Command]] = {
    "mixing": Mixing,
    "communities": CommunitiesStudy,
    "field": FieldStudy,
    "smooth": SmoothStudy,
    "mnist": MnistStudy,
    "adversarial": AdversarialStudy,
    "relevance": RelevanceStudy,
    "zoo": MakeZoo,
    "embed": Embed,
    "embed train": EmbedTrain,
    "embed study": EmbedStudy,
    "embed parts": EmbedParts,
    "graph": Graph,
    "extract": Extract,
    "merge": Merge,
    "info": Info,
}
USAGE_ERROR = 2
INTERRUPTED = 130


def main() -> None:
    """Entry point of `gradsplinter`."""
    if sys.argv[1:] == ["--version"]:
        print(f"gradsplinter {gradsplinter.__version__}")  # noqa: T201
        return
    command, typed = Command(), {}
    try:
        line = with_command_of_two_words(with_joined_values(sys.argv[1:]), COMMANDS)
        typed = COMMANDS.get(line[0], Command).typed if line else {}
        command = command_of_line(
            COMMANDS,
            "How a ReLU network does its work, by the gradients that it has. "
            "`gradsplinter --version` prints the version.",
            line,
        )
        command.run()
    except (ValueError, TypeError, NotImplementedError, OSError, ImportError) as error:
        word, *rest = str(error).split(" ", 1)
        notes = getattr(error, "__notes__", [])
        message = " ".join(["error:", typed.get(word, word), *rest, *notes])
        error_console.print(message, style="red", markup=False)
        raise SystemExit(USAGE_ERROR) from None
    except KeyboardInterrupt:
        error_console.print(f"interrupted; {command.after_interrupt()}", markup=False)
        raise SystemExit(INTERRUPTED) from None
