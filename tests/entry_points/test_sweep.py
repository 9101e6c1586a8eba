"""A sweep as a user starts it: several processes at once, killed, stopped, and what it leaves."""

import json
import pathlib
import signal
import time

import polars as pl
import pytest

from tests.entry_points.conftest import MEANS, SMALL, Command, Start, wait_for_checkpoint
from tests.entry_points.test_bad_input import assert_one_line

TINY = (*SMALL, *MEANS, "--config.epochs=2")
RATE, DROPOUT = "networks.id.learning_rate,networks.text.learning_rate", "networks.id.dropout,networks.text.dropout"
SPACE = {RATE: [0.01, 0.001], DROPOUT: [0.1, 0.5]}


@pytest.fixture(scope="module")
def flags(dataset: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """All but the workdir."""
    space = tmp_path_factory.mktemp("space") / "space.json"
    space.write_text(json.dumps(SPACE))
    return (*TINY, f"--data_dir={dataset}", f"--space={space}")


def sweep(flags: tuple[str, ...], workdir: pathlib.Path) -> tuple[str, ...]:
    """The command."""
    return ("experiments.sweep", *flags, f"--workdir={workdir}")


@pytest.fixture(scope="module")
def swept(flags: tuple[str, ...], start: Start, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The workdir of a sweep by two processes at once."""
    workdir = tmp_path_factory.mktemp("sweeps") / "two"
    processes = [start(*sweep(flags, workdir)) for _ in range(2)]
    told = [process.communicate(timeout=300) for process in processes]
    for process, (_, stderr) in zip(processes, told, strict=True):
        assert process.returncode == 0, stderr
        assert "Warning" not in stderr and "Traceback" not in stderr, stderr
        assert "trial " in stderr, "each process trains a part of them"
    assert any(stdout.count("complete") == 4 for stdout, _ in told), told
    return workdir


def table(workdir: pathlib.Path) -> pl.DataFrame:
    return pl.read_csv(workdir / "trials.csv").sort("trial")


def assert_whole(workdir: pathlib.Path) -> None:
    found = table(workdir)
    assert found["trial"].to_list() == [0, 1, 2, 3]
    assert found["state"].to_list() == ["complete"] * 4
    assert found["epochs_trained"].to_list() == [2] * 4
    pairs = found.select(RATE, DROPOUT).rows()
    assert sorted(pairs) == [(rate, dropout) for rate in (0.001, 0.01) for dropout in (0.1, 0.5)]
    for trial, (rate, dropout) in enumerate(pairs):
        folder = workdir / "trials" / str(trial)
        networks = json.loads((folder / "config.json").read_text())["networks"]
        for network in ("id", "text"):
            assert (networks[network]["learning_rate"], networks[network]["dropout"]) == (rate, dropout)
        history = pl.read_csv(folder / "history.csv")
        assert history["epoch"].to_list() == [0, 1]
        assert found["hits@20"][trial] == history["fused_hits@20"].max()


def test_two_processes_train_each_combination_once(swept: pathlib.Path) -> None:
    assert_whole(swept)
    assert len(list((swept / "trials").iterdir())) == 4


def test_the_best_is_a_configuration_that_trains_to_the_same_score(
    swept: pathlib.Path, dataset: pathlib.Path, command: Command, tmp_path: pathlib.Path
) -> None:
    best = pl.read_csv(swept / "trials.csv").row(0, named=True)
    assert best["hits@20"] == table(swept)["hits@20"].max()
    source = (swept / "best.py").read_text()
    for words in (f"Trial {best['trial']} ", f"{best['hits@20']:.4f}", str(swept / "study.db"), "experiments.sweep"):
        assert words in source
    done = command(
        "experiments.train", f"--config={swept}/best.py", f"--data_dir={dataset}", f"--workdir={tmp_path / 'run'}"
    )
    assert done.returncode == 0, done.stderr
    assert pl.read_csv(tmp_path / "run/history.csv")["fused_hits@20"].max() == best["hits@20"]


def test_another_family_is_searched_by_its_main_view(
    dataset: pathlib.Path, python: Command, tmp_path: pathlib.Path
) -> None:
    space, workdir = tmp_path / "space.json", tmp_path / "sweep"
    space.write_text(json.dumps({"network.dropout": [0.1, 0.5]}))
    done = python(
        "experiments.sweep",
        "--config=experiments/configs/sasrec_beauty.py",
        "--config.network.dim=16",
        "--config.network.layers=1",
        "--config.max_length=10",
        "--config.batch_prefixes=200",
        "--config.epochs=2",
        "--config.protocol.select_on=hits@20",
        f"--data_dir={dataset}",
        f"--space={space}",
        f"--workdir={workdir}",
        "--trials=1",
    )
    assert done.returncode == 0, done.stderr
    assert table(workdir)["hits@20"][0] == pl.read_csv(workdir / "trials/0/history.csv")["id_hits@20"].max()
    assert "SASRecConfig(" in (workdir / "best.py").read_text()


def test_killed_and_stopped_midway_and_begun_again(
    flags: tuple[str, ...], swept: pathlib.Path, start: Start, tmp_path: pathlib.Path
) -> None:
    workdir = tmp_path / "killed"
    for trial, kind, status in ((1, signal.SIGKILL, -signal.SIGKILL), (2, signal.SIGTERM, 75)):
        process, folder = start(*sweep(flags, workdir)), workdir / "trials" / str(trial)
        assert wait_for_checkpoint(process, folder)
        process.send_signal(kind)
        _, stderr = process.communicate(timeout=60)
        assert process.returncode == status, stderr
        assert not (workdir / "best.py").exists()
    assert "the same command continues" in stderr
    began = time.time()
    process = start(*sweep(flags, workdir))
    stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == 0, stderr
    assert "trial 2: going on with it" in stderr and "continuing at epoch" in stderr
    assert "trial 0" not in stderr and "trial 1:" not in stderr
    assert (workdir / "best.py").stat().st_mtime > began
    assert_whole(workdir)
    assert table(workdir).equals(table(swept)), "an interrupted sweep finds what one that was not has found"
    again = start(*sweep(flags, workdir))
    assert again.communicate(timeout=60)[0] == stdout


def test_a_configuration_that_fails_is_told_and_the_sweep_goes_on(
    command: Command, dataset: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    space, workdir = tmp_path / "space.json", tmp_path / "sweep"
    space.write_text(json.dumps({"networks.id.learning_rate": [1e30, 0.01], "mining.k1": [5, 40]}))
    done = command("experiments.sweep", *TINY, f"--data_dir={dataset}", f"--space={space}", f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    found = table(workdir).sort("mining.k1", "networks.id.learning_rate")
    assert found["state"].to_list() == ["complete", "failed", "failed", "failed"]
    assert "finite" in found["error"][1] and found["error"][1] in done.stderr
    assert "mining.k1 is 40" in found["error"][2]


def test_bad_input_is_one_line(command: Command, dataset: pathlib.Path, tmp_path: pathlib.Path) -> None:
    space, data, workdir = tmp_path / "space.json", f"--data_dir={dataset}", tmp_path / "sweep"
    space.write_text(json.dumps({"networks.text.dropuot": [0.1]}))
    done = command("experiments.sweep", *TINY, data, f"--space={space}", f"--workdir={workdir}")
    assert done.returncode == 1
    assert_one_line(done, str(space), "dropuot", "'dropout'")
    assert not workdir.exists()
    missing = command("experiments.sweep", *TINY, data, "--space=nowhere.json", f"--workdir={workdir}")
    assert_one_line(missing, "nowhere.json", "not found")
    space.write_text(json.dumps({"mining.k1": [40, 50]}))
    hopeless = command("experiments.sweep", *TINY, data, f"--space={space}", f"--workdir={workdir}")
    assert_one_line(hopeless, "none of the 2 trials", "mining.k1")
