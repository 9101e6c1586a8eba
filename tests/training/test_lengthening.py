"""A run that is lengthened goes on as if it had been given the longer schedule from the start."""

import dataclasses
import json
import pathlib
from typing import Any

import pytest

from alterrec_jax.config import LENGTHS, RunConfig, is_longer
from alterrec_jax.contract import CatalogueInfo, Stage, System
from alterrec_jax.data.dataset import Dataset
from alterrec_jax.errors import UserError
from alterrec_jax.models.alterrec import MiningConfig
from alterrec_jax.models.sasrec import SASRecConfig, TransformerOnIdsConfig
from alterrec_jax.serving.trained_model import load_trained
from alterrec_jax.training.trainer import Trainer
from tests.training.test_trainer import CONFIG, saved

ONE = SASRecConfig(
    batch_prefixes=53,
    max_length=7,
    epochs=2,
    network=TransformerOnIdsConfig(encoder="mean", dim=4, dropout=0.2, learning_rate=0.02, decay_every=1),
)
IN_TURNS = dataclasses.replace(CONFIG, mining=MiningConfig(k1=2, k2=19, p=2), turn_epochs=2)
"""One epoch of warm-up for each of two networks, and then turns of two, whose windows are kept."""


def trained(config: RunConfig, dataset: Dataset, workdir: pathlib.Path, **lengths: int) -> dict[str, Any]:
    """Trains, of that length, and returns the record of the best epoch."""
    return Trainer(dataclasses.replace(config, **lengths), dataset, workdir).run()


@pytest.mark.parametrize(
    ("config", "lengths"),
    [
        (ONE, (1, 3)),
        (IN_TURNS, (2, 4)),  # after the warm-ups, when no window was kept yet
        pytest.param(IN_TURNS, (3, 4), marks=pytest.mark.rounding),  # within the first turn
        (dataclasses.replace(IN_TURNS, keep_epochs=True), (4, 6)),
    ],
    ids=["joint", "warm-up", "within a turn", "between turns"],
)
def test_a_finished_run_goes_on_to_the_bits_of_a_longer_one(
    config: RunConfig, lengths: tuple[int, ...], dataset: Dataset, tmp_path: pathlib.Path
) -> None:
    short, whole = tmp_path / "short", tmp_path / "whole"
    for epochs in lengths:
        trained(config, dataset, short, epochs=epochs)
    trained(config, dataset, whole, epochs=lengths[-1])
    assert saved(short) == saved(whole) and len(saved(short)[1]) == lengths[-1]
    one, other = load_trained(short), load_trained(whole)
    assert (one.best["epoch"], one.finished) == (other.best["epoch"], True)
    for name in ("config.json", "catalogue.parquet"):
        assert (short / name).read_bytes() == (whole / name).read_bytes()
    assert json.loads((short / "config.json").read_text())["epochs"] == lengths[-1]
    assert len((short / "history.csv").read_text().splitlines()) == 1 + lengths[-1]
    folders = [{entry.name for entry in (run / "epochs").glob("*")} for run in (short, whole)]
    assert folders[0] == folders[1] and len(folders[0]) in (0, lengths[-1])


def test_a_run_that_patience_has_ended_goes_on_with_more_of_it(
    dataset: Dataset, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = dataclasses.replace(ONE, network=dataclasses.replace(ONE.network, learning_rate=1e-9))
    short, whole = tmp_path / "short", tmp_path / "whole"
    trained(config, dataset, short, epochs=5, patience=1)
    assert len(saved(short)[1]) == 2, "it learns nothing, so the first epoch is the best"
    trained(config, dataset, short, epochs=6, patience=1)
    assert "patience=1 has ended the run; give it a larger one to go on" in capsys.readouterr().err
    assert len(saved(short)[1]) == 2
    trained(config, dataset, short, epochs=6, patience=3)
    trained(config, dataset, whole, epochs=6, patience=3)
    assert saved(short) == saved(whole) and len(saved(short)[1]) == 4


@pytest.fixture(scope="module")
def short(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The workdir of a run of three epochs."""
    workdir = tmp_path_factory.mktemp("runs") / "short"
    trained(IN_TURNS, dataset, workdir, epochs=3, patience=9)
    return workdir


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 2}, "epochs=3, not 2; a run can be lengthened, not shortened"),
        ({"epochs": 5, "patience": 8}, "patience=9, not 8; a run can be lengthened, not shortened"),
        ({"epochs": 5, "seed": 1}, "seed=0, not 1"),
        ({"epochs": 5, "turn_epochs": 1}, "turn_epochs=2, not 1"),
        ({"epochs": 5, "warmup_epochs": 2}, "warmup_epochs=1, not 2"),
    ],
)
def test_only_how_long_it_is_may_change(
    changes: dict[str, int], message: str, short: pathlib.Path, dataset: Dataset
) -> None:
    before = saved(short)
    with pytest.raises(UserError, match=message):
        trained(IN_TURNS, dataset, short, **{"epochs": 3, "patience": 9, **changes})
    assert saved(short) == before and json.loads((short / "config.json").read_text())["epochs"] == 3


@dataclasses.dataclass(frozen=True)
class ByLengthConfig(SASRecConfig):
    """A family some part of which depends on how many epochs there are."""

    def build(self, catalogue: CatalogueInfo) -> System:
        system = super().build(catalogue)
        if self.network.decay_every:
            return system._replace(optimizers={"id": dataclasses.replace(self.network, decay_every=self.epochs)})
        half = Stage(("id",), "full", self.epochs // 2, "id")
        objectives = {**system.objectives, "second": system.objectives["full"]}
        return system._replace(stages=(half, half._replace(objective="second")), objectives=objectives)


@pytest.mark.parametrize(
    ("decay_every", "message"),
    [
        (1, "epochs=2, which cannot go on with epochs=4: its optimizers depend on the length"),
        (0, "epochs=2, which cannot go on with epochs=4: its epoch 2 was id:second and would have been id:full"),
    ],
)
def test_what_depends_on_the_length_is_refused_by_name(
    decay_every: int, message: str, dataset: Dataset, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = dataclasses.replace(ONE.network, decay_every=decay_every)
    config = ByLengthConfig(batch_prefixes=53, max_length=7, network=network)
    monkeypatch.setattr(
        "alterrec_jax.training.lengthening.read_run_config",
        lambda values, where: dataclasses.replace(config, epochs=values["epochs"]),
    )
    trained(config, dataset, tmp_path, epochs=2)
    trained(config, dataset, tmp_path, epochs=2)  # the same again is no longer one
    with pytest.raises(UserError, match=message):
        trained(config, dataset, tmp_path, epochs=4)


def test_which_lengths_are_longer() -> None:
    assert set(LENGTHS) <= {field.name for field in dataclasses.fields(RunConfig)}
    patience = [(0, 0), (3, 0), (3, 3), (3, 4), (0, 3), (3, 2)]
    assert [is_longer("patience", *pair) for pair in patience] == [True] * 4 + [False] * 2
    assert [is_longer("epochs", *pair) for pair in [(3, 3), (3, 4), (3, 2)]] == [True, True, False]
