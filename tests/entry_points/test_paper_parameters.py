"""The study's commands that draw AlterRec over one of its parameters, as a user runs them, on small data."""

import pathlib

import polars as pl
import pytest

from tests.entry_points.conftest import Command
from tests.entry_points.study import PARAMETERS, assert_one_page, assert_whole, flags


@pytest.fixture(scope="module")
def studied(command: Command, dataset: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The workdir of a study with its figures over a parameter."""
    workdir = tmp_path_factory.mktemp("study") / "small"
    for name in PARAMETERS:
        # Each value is a program of its own to compile, and that of a mean takes half the time of a Transformer's.
        mean = "--config.networks.text.encoder=mean"
        done = command(f"experiments.paper.{name}", *flags(dataset, workdir, "0,1" if name == "alpha" else "0"), mean)
        assert done.returncode == 0, (name, done.stderr)
    return workdir


@pytest.mark.parametrize("name", PARAMETERS)
def test_every_name_leaves_a_table_a_picture_and_findings(studied: pathlib.Path, name: str) -> None:
    assert_whole(studied, name)


def test_alpha_fuses_one_run_in_nine_ways(studied: pathlib.Path) -> None:
    table = pl.read_csv(studied / "alpha" / "table.csv")
    assert table["model"].unique().sort().to_list() == [place / 10 for place in range(1, 10)]
    assert table["seeds"].unique().to_list() == [2]


def test_the_report_is_one_page_with_everything_in_it(command: Command, studied: pathlib.Path) -> None:
    assert_one_page(command, studied, PARAMETERS)
