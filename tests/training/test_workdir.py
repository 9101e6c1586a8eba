"""A workdir belongs to one run at a time, and a folder of somebody else's is left as it is."""

import dataclasses
import errno
import fcntl
import json
import os
import pathlib
import shutil
import subprocess
import sys
from typing import NoReturn

import pytest

from alterrec_jax.data.dataset import Dataset
from alterrec_jax.errors import UserError
from alterrec_jax.models.alterrec import AlterRecConfig
from alterrec_jax.runtime import locks
from alterrec_jax.serving.trained_model import load_trained
from alterrec_jax.training.checkpoint import read_epoch
from alterrec_jax.training.run_log import RunLog
from alterrec_jax.training.trainer import Trainer
from alterrec_jax.training.workdir import claimed
from tests.conftest import write_small_dataset
from tests.training.test_lengthening import ONE

HOLD = """
import pathlib, sys
from alterrec_jax.training.workdir import claimed
with claimed(pathlib.Path(sys.argv[1])):
    print("claimed", flush=True)
    sys.stdin.read()
"""


def contents(folder: pathlib.Path) -> dict[pathlib.Path, bytes | None]:
    """What a folder holds, and what stands in its files."""
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def test_a_second_run_is_refused_until_the_first_is_killed(tmp_path: pathlib.Path) -> None:
    workdir = tmp_path / "new" / "run"
    command = [sys.executable, "-c", HOLD, str(workdir)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None and first.stdout.readline() == "claimed\n"
        with pytest.raises(UserError, match=rf"{workdir} is in use: process {first.pid} trains there") as caught:
            claimed(workdir).__enter__()
        assert "\n" not in str(caught.value)
        first.kill()
    with claimed(workdir), pytest.raises(UserError, match=f"process {os.getpid()} trains there"):
        claimed(workdir).__enter__()
    with claimed(workdir):
        pass


def test_a_file_system_without_locks_is_no_hindrance(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def flock(*_: object) -> NoReturn:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", flock)
    with claimed(tmp_path), claimed(tmp_path):
        pass
    assert f"{tmp_path} cannot be locked" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", '{"model_type": "bert", "seed": 0}'),
        ("config.json", "[1]"),
        ("config.json", "seed = 0"),
        ("history.csv", "date,price"),
        ("curves.png", ""),
        ("tensorboard/events.out.tfevents.1", ""),
        ("epochs/3/notes.txt", "of an excavation"),
    ],
)
def test_a_folder_of_somebody_else_is_refused_and_left_as_it_is(
    tmp_path: pathlib.Path, name: str, content: str
) -> None:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text(content)
    before = contents(tmp_path)
    with pytest.raises(UserError, match=rf"{tmp_path} holds {name.split('/')[0]}.* use another --workdir"):
        claimed(tmp_path).__enter__()
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    "name", ["config.json", "history.csv", "curves.png", "tensorboard", "catalogue.parquet", "alterrec_jax.lock"]
)
def test_links_in_a_workdir_are_refused_and_what_they_point_to_stays(tmp_path: pathlib.Path, name: str) -> None:
    workdir, elsewhere = tmp_path / "run", tmp_path / "mine.txt"
    workdir.mkdir()
    elsewhere.write_text("mine")
    (workdir / name).symlink_to(elsewhere)
    with pytest.raises(UserError, match=f"{name} is a link to {elsewhere}"):
        claimed(workdir).__enter__()
    assert elsewhere.read_text() == "mine"


def test_a_lock_is_not_written_through_a_link(tmp_path: pathlib.Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / "claim.lock").symlink_to(tmp_path / "mine.txt")
    with pytest.raises(OSError, match="symbolic links"):
        locks.claim(tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize("name", ["", "run", "deep/er/run"])
def test_a_workdir_in_a_dataset_is_refused(tmp_path: pathlib.Path, name: str) -> None:
    folder = write_small_dataset(tmp_path / "data")
    with pytest.raises(UserError, match=f"lies in the dataset {folder}, whose folder another preparation replaces"):
        claimed(folder / name).__enter__()
    assert not (folder / "run").exists() and not (folder / "deep").exists()
    with claimed(tmp_path):  # a dataset may lie in a workdir
        pass


def test_what_a_run_would_not_replace_may_stand_in_its_workdir(tmp_path: pathlib.Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    with claimed(tmp_path):
        pass


def test_a_run_that_was_killed_before_its_first_checkpoint_is_continued(tmp_path: pathlib.Path) -> None:
    RunLog(tmp_path, AlterRecConfig(), [])
    assert json.loads((tmp_path / "config.json").read_text())["seed"] == 0 and (tmp_path / "tensorboard").is_dir()
    with claimed(tmp_path):
        pass


def test_a_run_with_checkpoints_is_continued_without_its_config_json(tmp_path: pathlib.Path) -> None:
    (tmp_path / "checkpoints" / "12").mkdir(parents=True)
    (tmp_path / "history.csv").write_text("epoch")
    with claimed(tmp_path):
        pass


@pytest.fixture(scope="module")
def runs(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> dict[str, pathlib.Path]:
    """Workdirs of runs: two that differ by their seed, one on other data."""
    folder = tmp_path_factory.mktemp("runs")
    other = dataclasses.replace(dataset, manifest={**dataset.manifest, "fingerprint": "another"})
    for name, seed, data in (("own", 0, dataset), ("foreign", 1, dataset), ("elsewhere", 0, other)):
        config = dataclasses.replace(ONE, seed=seed, epochs=1, keep_epochs=True)
        Trainer(config, data, folder / name).run()
    return {name: folder / name for name in ("own", "foreign", "elsewhere")}


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ("foreign", r"a checkpoint in {own} is of another run: seed=1 in its record, 0 in {own}/config.json"),
        ("elsewhere", r"a checkpoint in {own} is of another run: its dataset is .*another.*{own}/catalogue.parquet is"),
    ],
)
def test_a_checkpoint_of_another_run_is_no_model(
    other: str, message: str, runs: dict[str, pathlib.Path], dataset: Dataset, tmp_path: pathlib.Path
) -> None:
    own = tmp_path / "own"
    shutil.copytree(runs["own"], own)
    trained = load_trained(own)
    for folder in ("checkpoints", "epochs"):
        shutil.rmtree(own / folder)
        shutil.copytree(runs[other] / folder, own / folder)
    for load in (
        lambda: load_trained(own),
        lambda: read_epoch(own, 0, trained.params),
        lambda: Trainer(dataclasses.replace(trained.config, seed=1), dataset, own).run(),
    ):
        with pytest.raises(UserError, match=message.format(own=own)) as caught:
            load()
        assert "\n" not in str(caught.value) and "belong into its own workdir" in str(caught.value)


@pytest.mark.parametrize("name", ["config.json", "catalogue.parquet"])
def test_a_run_is_read_without_the_files_that_name_it(
    name: str, runs: dict[str, pathlib.Path], tmp_path: pathlib.Path
) -> None:
    shutil.copytree(runs["own"], tmp_path / "run")
    (tmp_path / "run" / name).write_text("no longer whole")
    assert load_trained(tmp_path / "run").finished
    (tmp_path / "run" / name).unlink()
    assert load_trained(tmp_path / "run").finished
