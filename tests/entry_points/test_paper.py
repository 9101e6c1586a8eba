"""The study's commands as a user runs them, on small data: tables and figures, again, killed, and as one page."""

import pathlib
import shutil
import signal
import time

import pytest

from experiments.paper.names import NAMES
from tests.entry_points.conftest import Command, Start
from tests.entry_points.study import OTHERS, assert_one_page, assert_whole, flags


@pytest.fixture(scope="module")
def studied(command: Command, dataset: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The workdir of a study with its tables and figures, but for those over a parameter."""
    workdir = tmp_path_factory.mktemp("study") / "small"
    for name in OTHERS:
        done = command(f"experiments.paper.{name}", *flags(dataset, workdir))
        assert done.returncode == 0, (name, done.stderr)
    return workdir


def test_a_module_that_is_no_command_names_those_that_are(command: Command) -> None:
    done = command("experiments.paper.variants")
    assert done.returncode == 1 and done.stdout == ""
    assert "variants is no command but serves these: " + ", ".join(NAMES) in done.stderr


@pytest.mark.parametrize("name", OTHERS)
def test_every_name_leaves_a_table_a_picture_and_findings(studied: pathlib.Path, name: str) -> None:
    assert_whole(studied, name)


def test_what_exists_is_drawn_again_and_not_trained(
    command: Command, dataset: pathlib.Path, studied: pathlib.Path
) -> None:
    runs = {path: path.stat().st_mtime_ns for path in (studied / "runs").iterdir()}
    before = (studied / "ablation" / "table.csv").read_bytes()
    done = command("experiments.paper.ablation", *flags(dataset, studied))
    assert done.returncode == 0, done.stderr
    assert "epoch" not in done.stderr and "AlterRec_random" in done.stdout
    assert (studied / "ablation" / "table.csv").read_bytes() == before
    assert {path: path.stat().st_mtime_ns for path in (studied / "runs").iterdir()} == runs


def test_a_killed_study_goes_on_to_the_same_numbers(
    start: Start, command: Command, dataset: pathlib.Path, studied: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    whole = ("experiments.paper.naive_vs_independent", *flags(dataset, tmp_path))
    process = start(*whole)
    deadline = time.monotonic() + 120

    def saved() -> bool:
        """Whether the first run has a whole checkpoint: of the first of its two epochs, or of a part of that."""
        return any(path.name.isdigit() for path in tmp_path.glob("runs/*/checkpoints/*"))

    while not saved() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL, "it was killed in its middle"
    done = command(*whole)
    assert done.returncode == 0, done.stderr
    tables = [folder / "naive_vs_independent" / "table.csv" for folder in (tmp_path, studied)]
    assert tables[0].read_bytes() == tables[1].read_bytes()


def test_the_report_is_one_page_with_everything_in_it(command: Command, studied: pathlib.Path) -> None:
    assert_one_page(command, studied, OTHERS)


def test_a_whole_report_lacks_nothing(command: Command, studied: pathlib.Path, tmp_path: pathlib.Path) -> None:
    for name in NAMES:  # what one of them holds stands for those that are not made here
        shutil.copytree(studied / (name if name in OTHERS else "ablation"), tmp_path / name)
    assert_one_page(command, tmp_path, NAMES)


def test_mistakes_are_one_line(
    command: Command, dataset: pathlib.Path, studied: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    for module, extra, message in (
        ("long_tail", ["--reference=SASREC"], "did you mean 'SASRec'?"),
        ("long_tail", ["--reference=AlterRec"], "name another model"),
        ("ablation", ["--seeds=a"], "--seeds=a is not a list of whole numbers"),
        ("ablation", ["--seeds="], "--seeds= is not a list of whole numbers"),
    ):
        done = command(f"experiments.paper.{module}", *flags(dataset, studied), *extra)
        assert done.returncode == 1 and message in done.stderr, done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
    done = command("experiments.paper.report", f"--workdir={tmp_path}")
    assert done.returncode == 1 and "holds no table or figure" in done.stderr


def test_the_study_of_srim_s_paper_has_commands_of_the_same_form(
    command: Command, dataset: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    of_srim = ["--config=srim_complete_journey", f"--data_dir={dataset}", f"--workdir={tmp_path}"]
    done = command("experiments.srim_paper.data", *of_srim)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "data" / "README.md").read_text(encoding="utf-8")
    assert "python -m experiments.srim_paper.data --config=" in page and "Table 2 of SRIM's paper" in page
    done = command("experiments.srim_paper.report", f"--workdir={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert "not there yet: comparison, ablation, layers, heads, session_length, attention" in done.stdout
    other = command("experiments.srim_paper.layers", *of_srim, "--config=best")
    assert other.returncode == 1 and "the study starts from SRIM, but --config is of model=alterrec" in other.stderr
    module = command("experiments.srim_paper.variants")
    assert module.returncode == 1 and "variants is no command but serves these: data, comparison" in module.stderr
