"""What the pages of the project hold: their code blocks, their commands, and the code inside their sentences."""

import ast
import pathlib
import re
import shlex
from collections.abc import Iterator
from typing import NamedTuple

from experiments.__main__ import COMMANDS

ROOT = pathlib.Path(__file__).parents[2]
PAGES = (
    *(ROOT / name for name in ("README.md", "BUILD.md", "CHANGELOG.md", "CONTRIBUTING.md", "results/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
)
CONFIGS = tuple(sorted((ROOT / "experiments/configs").glob("[a-z]*.py")))

_FENCE = re.compile(r"^```(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A code block, or a code span in a sentence.

    Attributes:
      where: the page and the line, "README.md:17".
      language: what stands behind the fence; "span" of a span.
      text: what it holds.
    """

    where: str
    language: str
    text: str


class Command(NamedTuple):
    """A command of a block, its words without quotes; `module` is empty for other programs than ours."""

    where: str
    module: str
    words: tuple[str, ...]


def blocks(page: pathlib.Path) -> Iterator[Block]:
    """The fenced code blocks of a page."""
    text = page.read_text(encoding="utf-8")
    for found in _FENCE.finditer(text):
        yield Block(_where(page, text, found.start()), found[1], found[2])


def spans(page: pathlib.Path) -> Iterator[Block]:
    """The code spans of a page, outside of its blocks; in tables an escaped bar is a bar."""
    text = page.read_text(encoding="utf-8")
    prose = _FENCE.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), text)
    for found in re.finditer(r"`([^`\n]+)`", prose):
        yield Block(_where(page, prose, found.start()), "span", found[1].replace("\\|", "|"))


def docstring_blocks(path: pathlib.Path) -> Iterator[Block]:
    """The indented commands of a module's docstring."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    for found in re.finditer(r"^    python -m .*(?:\\\n.*)*", text, re.MULTILINE):
        yield Block(path.relative_to(ROOT).as_posix(), "sh", found[0])


def commands(block: Block) -> Iterator[Command]:
    """The commands of a shell block, each part of a pipeline on its own, comments left out."""
    for line in block.text.replace("\\\n", " ").splitlines():
        words: list[str] = []
        for word in [*shlex.split(line, comments=True), "|"]:
            if word in ("|", "&&"):
                yield from _command(block.where, words)
                words = []
            else:
                words.append(word)


def module_of(words: list[str]) -> tuple[str, list[str]]:
    """The module that a command runs, and the words behind it; the module is empty for other programs."""
    match words:
        case [python, "-m", module, *rest] if python.endswith("python"):
            return module, rest
        case ["alterrec", ("paper" | "srim_paper") as study, name, *rest]:
            return f"experiments.{study}.{name}", rest
        case ["alterrec", name, *rest] if not name.startswith("-"):
            return COMMANDS.get(name, f"experiments.{name}"), rest
    return "", words


def _command(where: str, words: list[str]) -> Iterator[Command]:
    if words:
        module, rest = module_of(words)
        yield Command(where, module, tuple(rest))


def _where(page: pathlib.Path, text: str, start: int) -> str:
    return f"{page.relative_to(ROOT).as_posix()}:{text.count(chr(10), 0, start) + 1}"
