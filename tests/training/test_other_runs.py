"""Runs of the other models and of networks that learn apart, by the driver of AlterRec; and what is kept of epochs."""

import dataclasses
import pathlib
import shutil
import threading
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import numpy as np
import pytest

from alterrec_jax.config import RunConfig
from alterrec_jax.contract import PREFIX, param_shapes
from alterrec_jax.data.dataset import Dataset
from alterrec_jax.data.features import catalogue_info, context_shapes
from alterrec_jax.errors import UserError
from alterrec_jax.models.core import COREConfig, CORENetworkConfig
from alterrec_jax.models.nfrec import FusedNetworkConfig, NFRecConfig
from alterrec_jax.models.sasrec import LLM2SASRecConfig, TransformerOnIdsConfig
from alterrec_jax.models.sr_gnn import SRGNNConfig, SRGNNNetworkConfig
from alterrec_jax.models.unimodal import VectorsConfig
from alterrec_jax.models.unisrec import UniSRecConfig, UniSRecNetworkConfig
from alterrec_jax.serving.trained_model import load_trained
from alterrec_jax.sharding.digests import tree_digest
from alterrec_jax.training import trainer
from alterrec_jax.training.checkpoint import EPOCHS, Checkpoint, CheckpointStore, read_epoch, read_newest
from alterrec_jax.training.loop import RunArrays, TrainLoop
from alterrec_jax.training.trainer import Interrupted, Trainer
from tests.conftest import CATALOGUE
from tests.training.test_trainer import CONFIG, saved

BOTH = ("fused", "id", "text")


def config_of(model: str, negatives: str = "full", **changes: Any) -> RunConfig:
    """The small configuration of the driver's tests, for three epochs of another run."""
    shared: dict[str, Any] = {"batch_prefixes": CONFIG.batch_prefixes, "max_length": 7, "epochs": 3, **changes}
    if model == "nfrec":
        fused = FusedNetworkConfig(dim=3, operation="sum")
        return NFRecConfig(network=fused, text=VectorsConfig(mlp_hidden=()), **shared)
    if model == "core":
        return COREConfig(network=CORENetworkConfig(dim=4, layers=1, inner=5, learning_rate=0.01), **shared)
    if model == "sr_gnn":
        return SRGNNConfig(network=SRGNNNetworkConfig(dim=4, learning_rate=0.01), **shared)
    if model == "unisrec":
        unisrec = UniSRecNetworkConfig(dim=8, experts=2, layers=1, inner=5, dropout=0.1, temperature=0.5)
        return UniSRecConfig(network=unisrec, pretrain_epochs=2, freeze_encoder=True, **shared)
    if model == "llm2sasrec":
        return LLM2SASRecConfig(network=TransformerOnIdsConfig(dim=4, layers=1), **shared)
    networks = CONFIG.networks if model == "alterrec" else {model: CONFIG.networks[model]}
    mining = dataclasses.replace(CONFIG.mining, negatives=negatives)
    return dataclasses.replace(CONFIG, networks=networks, mining=mining, warmup_epochs=1, turn_epochs=1, **shared)


def assert_tells_of(record: Mapping[str, Any], views: tuple[str, ...]) -> None:
    """The record of an epoch has metrics and a cross-entropy of these views, and of no others."""
    for metric in ("hits@20", "cross_entropy"):
        assert {name.removesuffix(f"_{metric}") for name in record if name.endswith(f"_{metric}")} == set(views)
    # No worse than twice a guess at random.
    assert all(0 < record[f"{view}_cross_entropy"] < 2 * np.log(CATALOGUE) for view in views)


@pytest.mark.parametrize(
    ("model", "negatives", "turns", "views"),
    [
        ("nfrec", "full", ["fused:full"] * 3, BOTH),
        ("sr_gnn", "full", ["sr_gnn:full"] * 3, ("sr_gnn",)),
        ("unisrec", "full", ["unisrec:contrastive", "unisrec:contrastive", "unisrec:full"], ("unisrec",)),
        ("text", "self", ["text:random", "text:own_window", "text:own_window"], ("text",)),
        ("alterrec", "self", ["id:random", "text:random", "id:own_window"], BOTH),
    ],
)
def test_a_run_tells_of_its_views_and_continues_as_if_nothing_had_happened(
    model: str, negatives: str, turns: list[str], views: tuple[str, ...], dataset: Dataset, tmp_path: pathlib.Path
) -> None:
    config, whole, cut = config_of(model, negatives), tmp_path / "whole", tmp_path / "cut"
    Trainer(config, dataset, whole).run()
    _, history = saved(whole)
    assert [f"{record['network']}:{record['objective']}" for record in history] == turns
    for record in history:
        assert_tells_of(record, views)
    trained = load_trained(whole)
    assert trained.finished and set(trained.params) == set(trained.system.networks)

    stop = threading.Event()

    def end_soon(record: Mapping[str, Any]) -> None:
        if record["epoch"] == len(turns) - 2:
            stop.set()

    with pytest.raises(Interrupted):
        Trainer(config, dataset, cut, stop).run(end_soon)
    state = read_newest(cut).meta["run_state"]
    assert (state["epoch"], state["step"]) == (len(turns) - 1, 1), "within the last epoch"
    Trainer(config, dataset, cut).run()
    assert saved(cut) == saved(whole)


def first_params(
    config: RunConfig, dataset: Dataset, workdir: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    """The parameters with which a run would begin, by network."""
    found, fresh = [], TrainLoop.fresh

    def noted(*args: Any) -> RunArrays:
        found.append(fresh(*args))
        return found[-1]

    def killed(*_: Any) -> NoReturn:
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(TrainLoop, "fresh", noted)
        patch.setattr(trainer, "RunLog", killed)
        with pytest.raises(RuntimeError, match="killed"):
            Trainer(config, dataset, workdir).run()
    return found[0].params


def test_a_network_alone_begins_as_it_does_within_alterrec(
    dataset: Dataset, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {
        model: first_params(config_of(model, "uniform"), dataset, tmp_path / model, monkeypatch)
        for model in ("alterrec", "id", "text", "nfrec")
    }
    for name in ("id", "text"):
        assert tree_digest(found[name]) == tree_digest({name: found["alterrec"][name]})
    other = config_of("alterrec", "uniform", seed=1)
    assert tree_digest(first_params(other, dataset, tmp_path / "other", monkeypatch)) != tree_digest(found["alterrec"])
    tables = [found["alterrec"]["id"]["items"]["table"], found["nfrec"]["fused"]["items"]["id"]["table"]]
    assert tables[0].shape == tables[1].shape and (tables[0] != tables[1]).any()


def test_the_first_epoch_of_the_id_network_is_the_same_alone_and_in_alterrec(
    dataset: Dataset, tmp_path: pathlib.Path
) -> None:
    records = []
    for model in ("id", "alterrec"):
        config = config_of(model, "uniform", epochs=1)
        Trainer(config, dataset, tmp_path / model).run()
        records.append(saved(tmp_path / model)[1][0])
    alone, within = records
    assert_tells_of(alone, ("id",))
    assert alone == {name: within[name] for name in alone}
    assert not (tmp_path / "id" / EPOCHS).exists(), "they are kept only where somebody asks"
    with pytest.raises(UserError, match="holds no parameters by epoch; train with --config.keep_epochs=True"):
        read_epoch(tmp_path / "id", 0, None)


@dataclasses.dataclass(frozen=True)
class Kept:
    """A run with `keep_epochs`. Attributes: workdir; digests, of its parameters after each epoch; best, its record."""

    workdir: pathlib.Path
    digests: list[str]
    best: dict[str, Any]


KEEPING = config_of("id", "uniform", keep_epochs=True)


def shapes(dataset: Dataset) -> Any:
    """The parameters' shapes."""
    system = KEEPING.build(catalogue_info(dataset))
    return {"id": param_shapes(system.networks["id"], context_shapes(dataset, system.reads, KEEPING.precision))}


@pytest.fixture(scope="module")
def kept(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Kept:
    """Its digests are not of what it kept, but of the state in the checkpoint of each epoch."""
    workdir, digests, save = tmp_path_factory.mktemp("runs") / "kept", [], CheckpointStore.save

    def noted(store: CheckpointStore, number: int, checkpoint: Checkpoint) -> None:
        if checkpoint.state:
            digests.append(tree_digest(checkpoint.state["params"]))
        save(store, number, checkpoint)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CheckpointStore, "save", noted)
        best = Trainer(KEEPING, dataset, workdir).run()
    return Kept(workdir, digests, best)


def test_every_epoch_is_kept_as_it_was(kept: Kept, dataset: Dataset) -> None:
    folder = kept.workdir / EPOCHS
    assert sorted(entry.name for entry in folder.iterdir()) == ["0", "1", "2"]
    found = [tree_digest(read_epoch(kept.workdir, epoch, shapes(dataset))) for epoch in range(3)]
    assert found == kept.digests and len(set(found)) == 3
    assert found[kept.best["epoch"]] == tree_digest(load_trained(kept.workdir).params)


def test_an_epoch_that_is_not_there_is_an_error(kept: Kept, dataset: Dataset) -> None:
    with pytest.raises(UserError, match="holds no parameters of epoch 4"):
        read_epoch(kept.workdir, 3, shapes(dataset))


def flip(path: pathlib.Path) -> None:
    """Changes one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(bytes(content))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("damage", [flip, pathlib.Path.unlink])
def test_a_damaged_epoch_is_whole_or_an_error(
    damage: Callable[[pathlib.Path], None], kept: Kept, dataset: Dataset, tmp_path: pathlib.Path
) -> None:
    folder = kept.workdir / EPOCHS / "1"
    files = sorted(path.relative_to(kept.workdir) for path in folder.rglob("*") if path.is_file())
    errors = 0
    for count, file in enumerate(files):
        workdir = tmp_path / str(count)
        shutil.copytree(kept.workdir / EPOCHS, workdir / EPOCHS)
        damage(workdir / file)
        try:
            assert tree_digest(read_epoch(workdir, 1, shapes(dataset))) == kept.digests[1], file
        except UserError as error:
            assert f"the parameters of epoch 2 in {workdir} are damaged" in str(error)
            assert "\n" not in str(error)
            errors += 1
        assert tree_digest(read_epoch(workdir, 0, shapes(dataset))) == kept.digests[0]
    assert errors >= 2, "the arrays and the record are most of the files"
    shutil.rmtree(workdir / EPOCHS / "1" / "best")
    with pytest.raises(UserError, match="the parameters of epoch 2 .* are damaged"):
        read_epoch(workdir, 1, shapes(dataset))


def test_a_run_that_dies_between_keeping_an_epoch_and_its_checkpoint_continues(
    kept: Kept, dataset: Dataset, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any) -> NoReturn:
        raise RuntimeError("killed")

    def kill_next(record: Mapping[str, Any]) -> None:
        patch.setattr(Trainer, "_save", killed)

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="killed"):
        Trainer(KEEPING, dataset, tmp_path).run(kill_next)
    assert read_newest(tmp_path).meta["run_state"]["epoch"] == 1
    assert sorted(entry.name for entry in (tmp_path / EPOCHS).iterdir()) == ["0", "1"]
    Trainer(KEEPING, dataset, tmp_path).run()
    assert saved(tmp_path) == saved(kept.workdir)
    assert [tree_digest(read_epoch(tmp_path, epoch, shapes(dataset))) for epoch in range(3)] == kept.digests


def test_a_run_that_begins_again_keeps_its_own_epochs(kept: Kept, dataset: Dataset, tmp_path: pathlib.Path) -> None:
    shutil.copytree(kept.workdir, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    config = dataclasses.replace(KEEPING, seed=1, epochs=2)
    Trainer(config, dataset, tmp_path / "run").run()
    assert sorted(entry.name for entry in (tmp_path / "run" / EPOCHS).iterdir()) == ["0", "1"]
    for epoch in range(2):
        assert tree_digest(read_epoch(tmp_path / "run", epoch, shapes(dataset))) not in kept.digests


def test_a_batch_lies_as_the_system_wants_it(dataset: Dataset) -> None:
    system = config_of("sr_gnn").build(catalogue_info(dataset))
    assert system.layout == PREFIX and config_of("core").build(catalogue_info(dataset)).layout != PREFIX


def test_a_run_starts_from_the_best_parameters_of_another(
    dataset: Dataset, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the networks that it shares by name: here an ID network that was trained alone, in an alternation."""
    before, after = tmp_path / "before", tmp_path / "after"
    Trainer(config_of("id", "uniform"), dataset, before).run()
    best = load_trained(before).params
    config = config_of("alterrec", "uniform", start_from=str(before))
    found = first_params(config, dataset, after, monkeypatch)
    assert tree_digest({"id": found["id"]}) == tree_digest(best)
    plain = first_params(config_of("alterrec", "uniform"), dataset, tmp_path / "plain", monkeypatch)
    assert tree_digest({"text": found["text"]}) == tree_digest({"text": plain["text"]})
    Trainer(config, dataset, after).run()
    assert tree_digest(load_trained(before).params) == tree_digest(best), "where it started from is as it was"
    shutil.rmtree(before)
    Trainer(config, dataset, after).run()  # it is over, and needs it no more


@pytest.mark.parametrize(
    ("model", "changes", "message"),
    [
        ("nfrec", {}, "has the networks id, this run fused: none has the same name"),
        ("llm2sasrec", {}, "its network id has other shapes"),
        ("alterrec", {"start_from": "nowhere"}, "nowhere holds no checkpoint"),
    ],
)
def test_a_start_from_what_does_not_fit_is_refused(
    model: str, changes: dict[str, str], message: str, kept: Kept, dataset: Dataset, tmp_path: pathlib.Path
) -> None:
    fields = {"start_from": str(kept.workdir), **changes}
    with pytest.raises(UserError, match=message):
        Trainer(config_of(model, "uniform", **fields), dataset, tmp_path).run()
