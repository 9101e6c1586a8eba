"""The rules of the house that a search can hold: run by `make lint`. Prints what breaks one, and ends with status 1."""

import ast
import pathlib
import re
import sys
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).parents[1]

# Each room may import those before it, and itself.
ROOMS = (
    "errors",
    "runtime",
    "sharding",
    "numerics",
    "contract",
    "config",
    "config_files",
    "stages",
    "data",
    "nn",
    "scoring",
    "hard_negatives",
    "losses",
    "models",
    "evaluation",
    "training",
    "serving",
    "run",
    "api",
)
NETWORK_NAMES = ("id", "text", "fused")
# What is about the paper, the data that carry texts, and the models themselves may name its networks.
NAMES_ALLOWED = ("alterrec_jax/models/", "alterrec_jax/data/", "experiments/configs/", "experiments/paper/")
# Constants that a test may patch, for no caller has a use for another value.
PATCHES_ALLOWED = (
    "FORMAT_VERSION",  # a checkpoint of another version is written
    "NORM_EPSILON",  # shows that parity notices a wrong epsilon
)
PRIVATE_WORDS = r"\b(twins|sought|alike|told|panics|nothing_kept|held_here|HELD|_Way|stretch|EveryOther|in_first)\b"


def main() -> int:
    """Looks at every file of the packages; how many rules are broken."""
    broken = [message for path in sorted((ROOT / "alterrec_jax").rglob("*.py")) for message in _of_library(path)]
    broken += [message for path in sorted((ROOT / "tests").rglob("*.py")) for message in _of_test(path)]
    for package in ("alterrec_jax", "experiments", "data_tools", "benchmarks"):
        for path in sorted((ROOT / package).rglob("*.py")):
            broken += list(_words(path))
    for path in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "results").rglob("*.md")):
        broken += list(_of_page(path))
    print("\n".join(broken), file=sys.stderr)
    return 1 if broken else 0


def _of_library(path: pathlib.Path) -> Iterator[str]:
    name = path.relative_to(ROOT).as_posix()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    room = _room(name.removesuffix(".py").removesuffix("/__init__").replace("/", "."))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            imported = _room(node.module if node.module != "alterrec_jax" else f"alterrec_jax.{node.names[0].name}")
            if imported and room and ROOMS.index(imported) > ROOMS.index(room):
                yield f"{name}:{node.lineno}: {room} imports {imported}, which stands above it"
            if node.module.split(".")[0] in ("experiments", "data_tools") and room not in ("run", "api"):
                yield f"{name}:{node.lineno}: the library knows neither experiments nor data_tools"
            if node.module.split(".")[0] == "flax" and room not in ("nn", "models"):
                yield f"{name}:{node.lineno}: only nn/ and models/ import flax"
        flax = isinstance(node, ast.Import) and any(part.name.startswith("flax") for part in node.names)
        if flax and room not in ("nn", "models"):
            yield f"{name}:{node.lineno}: only nn/ and models/ import flax"
        if isinstance(node, ast.Constant) and node.value in NETWORK_NAMES and not name.startswith(NAMES_ALLOWED):
            yield f"{name}:{node.lineno}: '{node.value}' names a network of one paper"


def _of_test(path: pathlib.Path) -> Iterator[str]:
    name = path.relative_to(ROOT).as_posix()
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        found = re.search(r"setattr\(\w+, \"(_?[A-Z][A-Z_]+)\"", line)
        if found and found[1] not in PATCHES_ALLOWED:
            yield f"{name}:{number}: the test patches the constant {found[1]}; make it an argument"


def _of_page(path: pathlib.Path) -> Iterator[str]:
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        if line.startswith(("<<<<<<< ", ">>>>>>> ")):
            yield f"{path.relative_to(ROOT).as_posix()}:{number}: a merge left its mark"


def _words(path: pathlib.Path) -> Iterator[str]:
    name = path.relative_to(ROOT).as_posix()
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        if found := re.search(PRIVATE_WORDS, line):
            yield f"{name}:{number}: '{found[1]}' is a word of our own; say what the field says"


def _room(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if parts[0] == "alterrec_jax" and len(parts) > 1 and parts[1] in ROOMS else None


if __name__ == "__main__":
    sys.exit(main())
