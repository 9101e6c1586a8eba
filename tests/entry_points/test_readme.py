"""The README's commands run as they stand, on small files with the names and columns that they speak of."""

import json
import pathlib
import re
import shlex
import subprocess
import sys

import polars as pl
import pytest

from tests.entry_points.conftest import ROOT, SMALL, Command

README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture
def own_files(logs: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    """clicks.csv and items.csv as the README names them."""
    clicks = pl.read_csv(logs / "interactions.csv")
    hour = pl.col("user_id").str.strip_prefix("u").cast(pl.Int64) * 3600 + pl.col("position")
    clicks.select(
        pl.col("user_id").alias("session_id"), "item_id", (1_700_000_000 + hour).alias("timestamp")
    ).write_csv(tmp_path / "clicks.csv")
    items = pl.read_csv(logs / "items.csv")
    items.with_columns(brand=pl.lit("Acme")).write_csv(tmp_path / "items.csv")
    return tmp_path


def commands(block: str) -> list[list[str]]:
    """The words of each command of a code block of the README, the one that holds `block`."""
    text = next(part for part in re.findall(r"```\n(.*?)```", README, re.DOTALL) if block in part)
    return [shlex.split(line) for line in text.replace("\\\n", " ").splitlines() if line]


def test_your_own_data_in_three_commands(command: Command, own_files: pathlib.Path) -> None:
    found = commands("data_tools.prepare")
    assert [words[:3] for words in found] == [
        ["python", "-m", "data_tools.prepare"],
        ["python", "-m", "experiments.train"],
        ["python", "-m", "experiments.evaluate"],
    ]
    for _, _, module, *flags in found:
        placed = [re.sub(r"=((clicks|items)\.csv|(data|runs)/mine.*)$", rf"={own_files}/\1", flag) for flag in flags]
        small = [flag for flag in SMALL[1:] if ".mining." not in flag] if module == "experiments.train" else []
        done = command(module, *placed, *small)
        assert done.returncode == 0, done.stderr
    metrics = json.loads((own_files / "runs/mine/metrics.json").read_text())
    assert metrics["protocol"]["split"] == "test"
    described = command("data_tools.describe", f"{own_files}/data/mine")
    assert described.returncode == 0, described.stderr
    assert "catalogue" in described.stdout and (own_files / "data/mine/describe.png").is_file()
    (echo,) = commands("experiments.recommend")
    where = echo.index("|")
    flags = [flag.replace("runs/mine", f"{own_files}/runs/mine") for flag in echo[where + 4 :]]
    line = echo[1].replace("item id", "i3")
    done = command("experiments.recommend", *flags, input=line)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["recommendations"]) == 20
    export, serve = commands("experiments.export")
    done = command("experiments.export", f"--workdir={own_files}/runs/mine", f"--out={own_files}/served")
    assert done.returncode == 0, done.stderr
    assert export[2:] == ["experiments.export", "--workdir=runs/mine", "--out=served"]
    assert serve[serve.index("|") + 1 :] == ["python", "served/serve.py", "served"]
    found = subprocess.run(
        [sys.executable, "-I", "served/serve.py", "served"], input=line, capture_output=True, text=True, cwd=own_files
    )
    assert len(json.loads(found.stdout)["recommendations"]) == 20, found.stderr


def test_the_two_commands_are_targets_of_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for words in commands("make train"):
        assert words[0] == "make" and re.search(rf"^{words[1]}:", makefile, re.MULTILINE)


def test_every_configuration_is_told_in_the_readme() -> None:
    configs = {path.stem for path in (ROOT / "experiments/configs").glob("*.py")} - {"__init__"}
    assert [name for name in configs if f"`{name}`" not in README] == []
