"""What the tests of the study's commands share; they are two files, so that two processes can run them."""

import pathlib
import re
from collections.abc import Iterable

import polars as pl

from experiments.paper.names import NAMES
from tests.entry_points.conftest import MEANS, SMALL, Command

PARAMETERS = ("alpha", "k2", "k1", "p", "beta")
OTHERS = tuple(name for name in NAMES if name not in PARAMETERS)
_WRITTEN = {"README.md", "figure.png", "outcome.json", "table.csv"}


def flags(data_dir: pathlib.Path, workdir: pathlib.Path, seeds: str = "0") -> list[str]:
    """The flags of a command of the study; runs as short as can be."""
    short = ("--config.epochs=2", "--config.warmup_epochs=0", "--config.turn_epochs=1")
    short += ("--config.batch_prefixes=2000", "--config.max_length=6")
    short += ("--config.networks.id.dim=8", "--config.networks.text.dim=8")
    return [*SMALL, *MEANS, *short, f"--data_dir={data_dir}", f"--workdir={workdir}", f"--seeds={seeds}"]


def assert_whole(workdir: pathlib.Path, name: str) -> None:
    """That a name left a table, a picture and findings."""
    folder = workdir / name
    assert {path.name for path in folder.iterdir()} == _WRITTEN
    assert len(pl.read_csv(folder / "table.csv"))
    assert len((folder / "figure.png").read_bytes()) > 5_000
    page = (folder / "README.md").read_text(encoding="utf-8")
    assert re.search(rf"python -m experiments\.paper\.{name} --config=experiments/configs/quickstart\.py", page)
    assert str(workdir) not in page, "no path of a machine is published"
    assert re.search(r"^- \w", page, re.MULTILINE), "a finding"


def assert_one_page(command: Command, workdir: pathlib.Path, names: Iterable[str]) -> None:
    """That the report of a workdir shows all that it holds, which are these names, and tells what it does not hold."""
    done = command("experiments.paper.report", f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    page = (workdir / "report.html").read_text(encoding="utf-8")
    shown = [name for name in NAMES if f'id="{name}"' in page]
    assert sorted(shown) == sorted(names)
    assert page.count("data:image/png;base64,") == len(shown)
    assert not re.search(r'(src|href)="(?!data:|#)', page), "nothing beside it is needed"
    missing = [name for name in NAMES if name not in shown]
    told = [line for line in done.stdout.splitlines() if line.startswith("not there yet: ")]
    assert told == ([f"not there yet: {', '.join(missing)}"] if missing else [])
