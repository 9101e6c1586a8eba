"""Pages of documentation whose Python is run as it stands, by an interpreter that has the project."""

import pathlib
import random
import re
import subprocess
from collections.abc import Mapping

ROOT = pathlib.Path(__file__).parents[1]
_KINDS, _COLOURS = ("soap", "brush", "cream", "comb"), ("red", "blue", "green", "white", "black", "pink", "brown")


def python_of(page: pathlib.Path) -> str:
    """The Python blocks of a page of Markdown, in their order, each at its line: errors then name the page's."""
    lines, inside = [], False
    for line in page.read_text(encoding="utf-8").splitlines():
        fence = re.match(r"^```(\w*)$", line)
        inside = (fence[1] == "python") if fence else inside
        lines.append(line if inside and not fence else "")
    return "\n".join(lines) + "\n"


def run_page(
    page: pathlib.Path, python: str, folder: pathlib.Path, environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Runs the Python of a page.

    Args:
      page: of Markdown.
      python: the interpreter; it must find the project, by being one where it is installed or by PYTHONPATH.
      folder: where to run; it gets the files that the page speaks of, by `write_logs`.
      environment: of the process.
    """
    write_logs(folder)
    script = folder / f"{page.stem}.py"
    script.write_text(python_of(page), encoding="utf-8")
    return subprocess.run(
        [python, script.name], cwd=folder, env={**environment}, capture_output=True, text=True, timeout=600
    )


def write_logs(folder: pathlib.Path) -> None:
    """clicks.csv and items.csv as README and docs name them: 400 sessions of 28 items, each mostly of one kind."""
    draw = random.Random(0)
    with open(folder / "items.csv", "w", encoding="utf-8") as file:
        file.write("item_id,title,brand\n")
        for number in range(28):
            file.write(f'i{number},"{_COLOURS[number % 7]} {_KINDS[number // 7]}, {number % 3 + 1} oz",Acme\n')
    with open(folder / "clicks.csv", "w", encoding="utf-8") as file:
        file.write("session_id,item_id,timestamp\n")
        for session in range(400):
            kind, place = draw.randrange(4), draw.randrange(7)
            for position in range(draw.randrange(3, 8)):
                place = (place + draw.choice((1, 1, 1, 2))) % 7
                file.write(f"s{session},i{kind * 7 + place},{1_700_000_000 + 3600 * session + position}\n")
