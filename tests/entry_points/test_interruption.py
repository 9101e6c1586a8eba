"""A run that is killed, or asked to stop, at any moment ends in the same bits as one that is not."""

import json
import pathlib
import random
import signal
import time

import jax
import numpy as np
import polars as pl

from alterrec_jax.data.batches import TrainBatches
from alterrec_jax.data.dataset import load_dataset
from alterrec_jax.data.features import catalogue_info, make_context
from alterrec_jax.models.registry import read_run_config
from alterrec_jax.training.checkpoint import CheckpointStore, read_newest
from alterrec_jax.training.loop import TrainLoop
from tests.conftest import CLOCKS
from tests.entry_points.conftest import SMALL, Command, Start, wait_for_checkpoint


def training(dataset: pathlib.Path, workdir: pathlib.Path) -> tuple[str, ...]:
    """The command."""
    return ("experiments.train", *SMALL, f"--data_dir={dataset}", f"--workdir={workdir}")


def last_state(workdir: pathlib.Path, dataset_folder: pathlib.Path) -> dict[str, np.ndarray]:
    """Every array of the newest checkpoint, by its path."""
    dataset = load_dataset(dataset_folder)
    config = read_run_config(read_newest(workdir).meta["config"])
    system, train = config.build(catalogue_info(dataset)), dataset.splits["train"]
    context = make_context(dataset, system.reads, config.precision)
    batches = TrainBatches(train, config.batch_prefixes, config.max_length, system.layout)
    shapes = TrainLoop(system, context, batches, len(train.items), config.seed).shapes()
    store = CheckpointStore(workdir)
    found = store.restore_newest(shapes.as_tree(), shapes.params)
    store.close()
    assert found is not None
    leaves = jax.tree_util.tree_leaves_with_path({"state": found.state, "best": found.best})
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def assert_same_run(one: pathlib.Path, other: pathlib.Path, dataset: pathlib.Path) -> None:
    expected, found = last_state(one, dataset), last_state(other, dataset)
    assert expected.keys() == found.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(array, found[name], err_msg=name)
    tables = [pl.read_csv(workdir / "history.csv").drop(*CLOCKS) for workdir in (one, other)]
    assert tables[0].equals(tables[1])
    bests = [read_newest(workdir).meta["run_state"]["best"] for workdir in (one, other)]
    assert [{k: v for k, v in best.items() if k not in CLOCKS} for best in bests][0] == {
        k: v for k, v in bests[1].items() if k not in CLOCKS
    }


def test_killed_at_random_moments_and_continued(
    trained: pathlib.Path, dataset: pathlib.Path, start: Start, tmp_path: pathlib.Path
) -> None:
    workdir, draw = tmp_path / "killed", random.Random(1)
    kills, within_an_epoch = 0, 0
    while kills < 3:
        process = start(*training(dataset, workdir))
        if wait_for_checkpoint(process, workdir):
            time.sleep(draw.random() * 0.8)
            process.send_signal(signal.SIGKILL)
        process.communicate(timeout=120)
        assert process.returncode == -signal.SIGKILL, "the run ended before it was killed; make it longer"
        kills += 1
        within_an_epoch += read_newest(workdir).meta["run_state"]["step"] > 0
    process = start(*training(dataset, workdir))
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    assert within_an_epoch >= 1, "no kill fell within an epoch; make the epochs of this test longer"
    assert_same_run(trained, workdir, dataset)


def test_sigterm_saves_and_the_same_command_continues(
    trained: pathlib.Path, dataset: pathlib.Path, start: Start, command: Command, tmp_path: pathlib.Path
) -> None:
    workdir = tmp_path / "stopped"
    process = start(*training(dataset, workdir))
    assert wait_for_checkpoint(process, workdir)
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 75, stderr
    assert "the same command continues" in stderr
    done = command(*training(dataset, workdir))
    assert done.returncode == 0, done.stderr
    assert "continuing at epoch" in done.stderr
    assert_same_run(trained, workdir, dataset)


def test_a_finished_run_is_not_trained_again(trained: pathlib.Path, dataset: pathlib.Path, command: Command) -> None:
    before = json.dumps(read_newest(trained).meta, sort_keys=True)
    done = command(*training(dataset, trained))
    assert done.returncode == 0, done.stderr
    assert json.dumps(read_newest(trained).meta, sort_keys=True) == before
