"""A model read from a workdir is the best of a finished epoch, bit by bit, or an error: never one without training."""

import dataclasses
import json
import pathlib
import shutil
from typing import Any

import jax
import pytest

from alterrec_jax.config import ProtocolConfig, to_json
from alterrec_jax.data.dataset import Dataset, load_dataset
from alterrec_jax.data.features import catalogue_info, make_context
from alterrec_jax.errors import UserError
from alterrec_jax.evaluation.protocol import protocol_of
from alterrec_jax.models.alterrec import AlterRecConfig
from alterrec_jax.models.sasrec import SASRecConfig
from alterrec_jax.models.unimodal import IdNetworkConfig, VectorNetworkConfig
from alterrec_jax.serving.trained_model import load_trained
from alterrec_jax.sharding.digests import tree_digest
from alterrec_jax.training.checkpoint import Checkpoint, CheckpointStore
from alterrec_jax.training.trainer import Trainer
from tests.conftest import write_small_dataset
from tests.models.families import TINY

CONFIG = AlterRecConfig(
    networks={
        "id": IdNetworkConfig(encoder="mean", dim=3),
        "text": VectorNetworkConfig(encoder="mean", dim=5, mlp_hidden=()),
    }
)
BEST = {"epoch": 0, "fused_hits@20": 0.5}


@pytest.fixture
def workdir(dataset: Dataset, tmp_path: pathlib.Path) -> pathlib.Path:
    """Checkpoint 1 from within the first epoch, checkpoint 2 from its end."""
    for number, best in ((1, None), (2, BEST)):
        save(tmp_path, number, dataset, dataset.path, best)
    return tmp_path


def save(workdir: pathlib.Path, number: int, dataset: Dataset, path: pathlib.Path, best: dict[str, Any] | None) -> None:
    """Writes a checkpoint of a run on a dataset that lay at `path`."""
    params, store = params_of(number, dataset), CheckpointStore(workdir)
    meta = {
        "run_state": {"best": best},
        "finished": False,
        "config": json.loads(json.dumps(to_json(CONFIG))),
        "dataset": {"path": str(path), "fingerprint": dataset.fingerprint},
    }
    store.save(number, Checkpoint(params, params, meta))
    store.close()


def params_of(number: int, dataset: Dataset) -> dict[str, Any]:
    """Parameters of both networks, different for every number."""
    system = CONFIG.build(catalogue_info(dataset))
    context = make_context(dataset, system.reads, "float32")
    return {name: network.init(jax.random.key(number), context) for name, network in system.networks.items()}


def test_the_best_parameters_are_read(workdir: pathlib.Path, dataset: Dataset) -> None:
    trained = load_trained(workdir)
    assert tree_digest(trained.params) == tree_digest(params_of(2, dataset))
    assert (trained.best, trained.config, trained.finished) == (BEST, CONFIG, False)


def test_the_fused_view_has_the_weights_that_were_fitted_at_the_best_epoch(
    workdir: pathlib.Path, dataset: Dataset
) -> None:
    assert load_trained(workdir).system.views["fused"] == {"id": 0.5, "text": 0.5}, "a record without any"
    save(workdir, 3, dataset, dataset.path, {**BEST, "fused_weight_id": 0.25, "fused_weight_text": 0.75})
    system = load_trained(workdir).system
    assert system.views == {"fused": {"id": 0.25, "text": 0.75}, "id": {"id": 1.0}, "text": {"text": 1.0}}


def test_before_the_end_of_the_first_epoch_there_is_no_model(workdir: pathlib.Path) -> None:
    shutil.rmtree(workdir / "checkpoints" / "2")
    with pytest.raises(UserError, match="has not finished its first epoch yet; let experiments.train go on"):
        load_trained(workdir)


def test_a_dataset_that_is_gone_can_be_named(
    workdir: pathlib.Path, dataset: Dataset, dataset_folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    gone = tmp_path / "gone"
    save(workdir, 3, dataset, gone, BEST)
    with pytest.raises(UserError, match=f"the dataset {gone} that {workdir} was trained on is gone; name it by --data"):
        load_trained(workdir)
    assert tree_digest(load_trained(workdir, dataset_folder).params) == tree_digest(params_of(3, dataset))


def test_an_older_checkpoint_from_before_that_is_no_model_either(
    workdir: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(workdir / "checkpoints" / "2" / "best")
    with pytest.raises(UserError, match="no intact checkpoint of a finished epoch; let experiments.train go on"):
        load_trained(workdir)
    assert "is damaged and is passed over" in capsys.readouterr().err


def test_another_folder_does_not_change_the_session_encoder(tmp_path: pathlib.Path) -> None:
    def random_order(arguments: dict[str, Any]) -> None:
        arguments["provenance"]["order"] = {"rule": "random inside a basket"}

    def fewer_sessions(arguments: dict[str, Any]) -> None:
        arguments["sessions"] = arguments["sessions"].head(-3)  # in a real order

    own = load_dataset(write_small_dataset(tmp_path / "own", random_order))
    other = write_small_dataset(tmp_path / "other", fewer_sessions)
    tiny = TINY["sasrec"]
    assert isinstance(tiny, SASRecConfig)
    config = dataclasses.replace(tiny, epochs=1, network=dataclasses.replace(tiny.network, encoder="auto"))
    Trainer(config, own, tmp_path / "run").run()
    assert load_dataset(other).ordered
    asked, trained_on = load_trained(tmp_path / "run", other), load_trained(tmp_path / "run")
    assert not asked.dataset.ordered and tree_digest(asked.params) == tree_digest(trained_on.params)


def test_another_folder_does_not_change_which_items_are_candidates(tmp_path: pathlib.Path) -> None:
    def no_candidates(arguments: dict[str, Any]) -> None:
        arguments["provenance"]["protocol"] = {"exclude_session_items": True, "why": "no item repeats"}

    def fewer_sessions(arguments: dict[str, Any]) -> None:
        arguments["sessions"] = arguments["sessions"].head(-3)  # and no protocol

    own = load_dataset(write_small_dataset(tmp_path / "own", no_candidates))
    other = write_small_dataset(tmp_path / "other", fewer_sessions)
    tiny = TINY["sasrec"]
    config = dataclasses.replace(tiny, epochs=1, protocol=ProtocolConfig(exclude_session_items="dataset"))
    Trainer(config, own, tmp_path / "run").run()
    asked = load_trained(tmp_path / "run", other)
    assert own.exclude_session_items and not load_dataset(other).exclude_session_items
    assert protocol_of(asked.config.protocol, asked.dataset).exclude_session_items
