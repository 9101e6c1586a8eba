"""Whole runs on meshes: the numbers of one device, whatever mesh they are continued on."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import pytest

from alterrec_jax.data.batches import TrainBatches
from alterrec_jax.data.dataset import Dataset
from alterrec_jax.models.alterrec import MiningConfig
from alterrec_jax.models.unimodal import IdNetworkConfig, VectorNetworkConfig
from alterrec_jax.serving.trained_model import load_trained
from alterrec_jax.training.checkpoint import read_newest
from alterrec_jax.training.trainer import Trainer
from tests.conftest import CATALOGUE, CLOCKS
from tests.sharding.examples import MESHES, ONE, on_mesh
from tests.training.test_trainer import CONFIG as PLAIN

CONFIG = dataclasses.replace(
    PLAIN,
    batch_prefixes=35,
    networks={
        "id": IdNetworkConfig(encoder="mean", dim=3, dropout=0.2),
        "text": VectorNetworkConfig(encoder="transformer", dim=4, layers=1, heads=2, mlp_hidden=(), item_dropout=0.2),
    },
    mining=MiningConfig(k1=2, k2=19, p=2),
    warmup_epochs=1,
    turn_epochs=2,
    epochs=4,
    checkpoint_steps=2,
)


class Ended(Exception):
    """The run ends here."""


def history(workdir: pathlib.Path) -> list[dict[str, Any]]:
    """What a run has seen, without the clocks."""
    return [
        {name: value for name, value in record.items() if name not in CLOCKS}
        for record in read_newest(workdir).meta["run_state"]["history"]
    ]


@pytest.fixture(scope="module")
def whole(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The workdir of a run on one device."""
    workdir = tmp_path_factory.mktemp("runs") / "one"
    Trainer(CONFIG, dataset, workdir).run()
    return workdir


def test_every_epoch_on_another_mesh_is_a_run_on_one_device(
    dataset: Dataset, whole: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for count, words in enumerate((*MESHES, ONE), 1):

        def stop(record: Mapping[str, Any], count: int = count) -> None:
            if record["epoch"] + 1 == count:
                raise Ended

        with on_mesh(words), pytest.raises(Ended):
            Trainer(CONFIG, dataset, tmp_path).run(stop)
        assert len(history(tmp_path)) == count
        shared = {"data:8": "8 devices share 5 rows", "data:4,model:2": "4 devices share 5 rows"}.get(words)
        assert ("devices share" in (told := capsys.readouterr().err)) == (shared is not None)
        assert shared is None or shared in told
    for found, wanted in zip(history(tmp_path), history(whole), strict=True):
        assert all(found[name] == wanted[name] for name in ("network", "objective", "optimizer"))
        numbers = {name for name, value in wanted.items() if isinstance(value, float)}
        ranked = {name for name in numbers if "@" in name}  # two items that all but tie may change their places
        for names, near in ((numbers - ranked, {"rel": 1e-4}), (ranked, {"abs": 5e-4})):
            expected = pytest.approx({name: wanted[name] for name in names}, **near)
            assert {name: found[name] for name in names} == expected
    of_one, of_many = load_trained(whole), load_trained(tmp_path)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), of_many.params, of_one.params)
    with on_mesh("data:4,model:2"):
        padded = load_trained(tmp_path).params["id"]["items"]["table"]
        assert padded.shape == (CATALOGUE + 1, 3) and not np.asarray(padded)[CATALOGUE:].any()
        np.testing.assert_array_equal(np.asarray(padded)[:CATALOGUE], of_many.params["id"]["items"]["table"])


def test_batches_of_a_mesh_are_those_of_one_device_and_empty_rows(dataset: Dataset) -> None:
    found = []
    for words in (ONE, "data:8"):
        with on_mesh(words):
            batches = TrainBatches(dataset.splits["train"], CONFIG.batch_prefixes, 13)
            found.append([jax.device_get(chunk) for chunk in batches.device_chunks(jax.random.key(0), 1)])
    for (count, whole), (same_count, parts) in zip(*found, strict=True):
        assert (count, whole.first) == (same_count, parts.first)
        steps, rows, length = whole.batches.items.shape
        assert rows < 8

        def alike(of_mesh: np.ndarray, column: np.ndarray, rows: int = rows, shape: Any = (steps, 8, length)) -> None:
            of_mesh, column = of_mesh.reshape(shape), column.reshape(shape[0], rows, shape[2])
            np.testing.assert_array_equal(of_mesh[:, :rows], column)

        jax.tree.map(alike, parts.batches, whole.batches)
        assert (parts.batches.segments[:count, rows:] == -1).all()
        assert not parts.batches.is_target.reshape(steps, 8, length)[:, rows:].any()
