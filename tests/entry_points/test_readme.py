"""The README's commands run as they stand, on small files with the names and columns that they speak of."""

import json
import pathlib
import re
import subprocess
import sys

import polars as pl
import pytest

from tests.docs import pages
from tests.entry_points.conftest import MEANS, ROOT, SMALL, Command

# Fewer and smaller steps, of the same kind.
FEW = (
    *(flag for flag in SMALL[1:] if ".mining." not in flag),
    *MEANS,
    "--config.batch_prefixes=500",
    "--config.epochs=3",
)

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


def block_with(text: str) -> list[pages.Command]:
    """The commands of a shell block of the README, the one that holds `text`."""
    block = next(block for block in pages.blocks(ROOT / "README.md") if block.language == "sh" and text in block.text)
    return list(pages.commands(block))


def test_your_own_data_in_three_commands(python: Command, own_files: pathlib.Path) -> None:
    found = block_with("alterrec prepare")
    modules = ["data_tools.prepare", "experiments.train", "experiments.evaluate"]
    assert [module for _, module, _ in found] == modules
    for _, module, flags in found:
        placed = [re.sub(r"=((clicks|items)\.csv|(data|runs)/mine.*)$", rf"={own_files}/\1", flag) for flag in flags]
        small = FEW if module == "experiments.train" else ()
        done = python(module, *placed, *small)
        assert done.returncode == 0, done.stderr
    metrics = json.loads((own_files / "runs/mine/metrics.json").read_text())
    assert metrics["protocol"]["split"] == "test"
    described = python("data_tools.describe", f"{own_files}/data/mine")
    assert described.returncode == 0, described.stderr
    assert "catalogue" in described.stdout and (own_files / "data/mine/describe.png").is_file()
    echo, recommend = block_with("alterrec recommend")
    flags = [flag.replace("runs/mine", f"{own_files}/runs/mine") for flag in recommend.words]
    line = echo.words[1].replace("item id", "i3")
    done = python(recommend.module, *flags, input=line)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["recommendations"]) == 20
    export, _, serve = block_with("alterrec export")
    done = python(export.module, f"--workdir={own_files}/runs/mine", f"--out={own_files}/served")
    assert done.returncode == 0, done.stderr
    assert export.words == ("--workdir=runs/mine", "--out=served")
    assert serve.words == ("python", "served/serve.py", "served")
    found = subprocess.run(
        [sys.executable, "-I", "served/serve.py", "served"], input=line, capture_output=True, text=True, cwd=own_files
    )
    assert len(json.loads(found.stdout)["recommendations"]) == 20, found.stderr


def test_the_two_commands_are_targets_of_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for _, _, words in block_with("make train"):
        assert words[0] == "make" and re.search(rf"^{words[1]}:", makefile, re.MULTILINE)


def test_every_configuration_is_told_in_the_readme() -> None:
    configs = {path.stem for path in (ROOT / "experiments/configs").glob("*.py")} - {"__init__"}
    assert [name for name in configs if f"`{name}`" not in README] == []
