"""All commands of the project under one name: `alterrec train ...` is `python -m experiments.train ...`.

python -m experiments COMMAND does the same where nothing is installed.
"""

import ast
import importlib.util
import runpy
import sys

from alterrec_jax import __version__
from alterrec_jax.errors import nearest
from alterrec_jax.runtime.printable import printable
from experiments.paper.names import NAMES
from experiments.srim_paper.names import NAMES as NAMES_OF_SRIM

# In the order in which they are used; what computes comes first, what explains last.
COMMANDS = {
    "prepare": "data_tools.prepare",
    "join": "data_tools.join",
    "label_images": "data_tools.label_images",
    "describe": "data_tools.describe",
    "train": "experiments.train",
    "evaluate": "experiments.evaluate",
    "show": "experiments.show",
    "explore": "experiments.explore",
    "recommend": "experiments.recommend",
    "export": "experiments.export",
    "serve": "experiments.serve",
    "sweep": "experiments.sweep",
    "models": "experiments.models",
    "import_unisrec": "experiments.import_unisrec",
}
STUDIES = {
    "paper": ("The tables and figures of AlterRec's paper on a dataset of yours.", NAMES),
    "srim_paper": ("The tables and figures of SRIM's paper on a dataset of yours.", NAMES_OF_SRIM),
}
_HELP = ("--help", "-h", "-?", "help")


def main() -> int:
    """Runs the command that the first argument names (of a paper's study, the second), with the flags behind it."""
    prefix, commands, arguments = "alterrec", {**COMMANDS, **dict.fromkeys(STUDIES, "")}, sys.argv[1:]
    if arguments and arguments[0] in STUDIES:
        prefix, commands, arguments = f"alterrec {arguments[0]}", commands_of(arguments[0]), arguments[1:]
    if not arguments or arguments[0] in _HELP:
        print(_listed(prefix, commands))
        return 0
    name, *rest = arguments
    if name == "--version" and prefix == "alterrec":
        print(f"alterrec_jax {__version__}")
        return 0
    if name not in commands:
        print(printable(f"error: {prefix} has no command '{name}'; {nearest(name, list(commands))}"), file=sys.stderr)
        return 1
    sys.argv = [sys.argv[0], *rest]
    runpy.run_module(commands[name], run_name="__main__", alter_sys=True)  # which ends the process, with its status
    return 0


def commands_of(study: str) -> dict[str, str]:
    """The modules of a study's commands, by their names."""
    return {name: f"experiments.{study}.{name}" for name in (*STUDIES[study][1], "report")}


def _listed(prefix: str, commands: dict[str, str]) -> str:
    """A line a command; none of them is imported, for that takes seconds."""
    width = max(map(len, commands)) + 2
    lines = [f"usage: {prefix} COMMAND [--flag=value ...]", ""]
    for name, module in commands.items():
        about = _first_line(module) if module else STUDIES[name][0]
        lines.append(f"  {name:{width}}{about}")
    return "\n".join([*lines, "", f"{prefix} COMMAND --help explains the flags of one."])


def _first_line(module: str) -> str:
    """Of the docstring of a module, read from its source."""
    spec = importlib.util.find_spec(module)
    assert spec is not None and spec.origin is not None
    with open(spec.origin, encoding="utf-8") as file:
        return (ast.get_docstring(ast.parse(file.read())) or "").splitlines()[0]


if __name__ == "__main__":
    sys.exit(main())
