"""The study's commands as a user runs them, on small data: every table and figure, again, killed, and as one page."""

import pathlib
import re
import signal
import subprocess
import sys
import time

import polars as pl
import pytest

from experiments.paper.names import NAMES
from tests.entry_points.conftest import ROOT, SMALL, Command

WRITTEN = {"README.md", "figure.png", "outcome.json", "table.csv"}


def flags(data_dir: pathlib.Path, workdir: pathlib.Path, seeds: str) -> list[str]:
    """The flags of a command of the study; runs as short as can be."""
    return [*SMALL, "--config.schedule.m_max=3", f"--data_dir={data_dir}", f"--workdir={workdir}", f"--seeds={seeds}"]


@pytest.fixture(scope="module")
def studied(command: Command, dataset: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The workdir of a study with all its tables and figures."""
    workdir = tmp_path_factory.mktemp("study") / "small"
    for name in NAMES:
        seeds = "0,1" if name == "alpha" else "0"
        done = command(f"experiments.paper.{name}", *flags(dataset, workdir, seeds))
        assert done.returncode == 0, (name, done.stderr)
    return workdir


@pytest.mark.parametrize("name", NAMES)
def test_every_name_leaves_a_table_a_picture_and_findings(studied: pathlib.Path, name: str) -> None:
    folder = studied / name
    assert {path.name for path in folder.iterdir()} == WRITTEN
    assert len(pl.read_csv(folder / "table.csv"))
    assert len((folder / "figure.png").read_bytes()) > 5_000
    page = (folder / "README.md").read_text(encoding="utf-8")
    assert re.search(rf"python -m experiments\.paper\.{name} --config=experiments/configs/quickstart\.py", page)
    assert str(studied) not in page, "no path of a machine is published"
    assert re.search(r"^- \w", page, re.MULTILINE), "a finding"


def test_what_exists_is_drawn_again_and_not_trained(
    command: Command, dataset: pathlib.Path, studied: pathlib.Path
) -> None:
    runs = {path: path.stat().st_mtime_ns for path in (studied / "runs").iterdir()}
    before = (studied / "ablation" / "table.csv").read_bytes()
    done = command("experiments.paper.ablation", *flags(dataset, studied, "0"))
    assert done.returncode == 0, done.stderr
    assert "epoch" not in done.stderr and "AlterRec_random" in done.stdout
    assert (studied / "ablation" / "table.csv").read_bytes() == before
    assert {path: path.stat().st_mtime_ns for path in (studied / "runs").iterdir()} == runs


def test_alpha_fuses_one_run_in_nine_ways(studied: pathlib.Path) -> None:
    table = pl.read_csv(studied / "alpha" / "table.csv")
    assert table["model"].unique().sort().to_list() == [place / 10 for place in range(1, 10)]
    assert table["seeds"].unique().to_list() == [2]


def test_a_killed_study_goes_on_to_the_same_numbers(
    environment: dict[str, str], dataset: pathlib.Path, studied: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    whole = [sys.executable, "-m", "experiments.paper.naive_vs_independent", *flags(dataset, tmp_path, "0")]
    process = subprocess.Popen(whole, cwd=ROOT, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(list((tmp_path / "runs").glob("*/checkpoints/[0-9]*"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL, "it was killed in its middle"
    done = subprocess.run(whole, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    tables = [folder / "naive_vs_independent" / "table.csv" for folder in (tmp_path, studied)]
    assert tables[0].read_bytes() == tables[1].read_bytes()


def test_the_report_is_one_page_with_everything_in_it(command: Command, studied: pathlib.Path) -> None:
    done = command("experiments.paper.report", f"--workdir={studied}")
    assert done.returncode == 0, done.stderr
    page = (studied / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == len(NAMES)
    assert all(f'id="{name}"' in page for name in NAMES)
    assert not re.search(r'(src|href)="(?!data:|#)', page), "nothing beside it is needed"


def test_mistakes_are_one_line(
    command: Command, dataset: pathlib.Path, studied: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    for module, extra, message in (
        ("long_tail", ["--reference=SASREC"], "did you mean 'SASRec'?"),
        ("long_tail", ["--reference=AlterRec"], "name another model"),
        ("ablation", ["--seeds=a"], "--seeds=a is not a list of whole numbers"),
        ("ablation", ["--seeds="], "--seeds= is not a list of whole numbers"),
    ):
        done = command(f"experiments.paper.{module}", *flags(dataset, studied, "0"), *extra)
        assert done.returncode == 1 and message in done.stderr, done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
    done = command("experiments.paper.report", f"--workdir={tmp_path}")
    assert done.returncode == 1 and "holds no table or figure" in done.stderr
