"""The study of SRIM's paper: its models, and what its tables and figures say of rankings."""

import importlib
import pathlib
from typing import Any

import numpy as np
import pytest

from alterrec_jax.data.dataset import Dataset
from alterrec_jax.errors import UserError
from alterrec_jax.evaluation.ranking import Ranks
from alterrec_jax.models.core import COREConfig
from alterrec_jax.models.srim import SRIMConfig
from experiments.srim_paper.names import NAMES
from experiments.srim_paper.variants import ABLATED, METRICS, MODELS, OTHERS, SRIM, WITHOUT_ATTENTION, Study, srim_base
from experiments.studies import study as module
from experiments.studies.outcome import Outcome, write
from experiments.studies.study import Run
from tests.models.families import TINY

ABLATION = (SRIM, *ABLATED)
BASE = TINY["srim"]


@pytest.fixture
def study(dataset: Dataset, tmp_path: pathlib.Path) -> Study:
    """A study of one seed in an empty folder."""
    return Study(dataset, srim_base(BASE), MODELS, (0,), tmp_path, METRICS)


def command(name: str) -> Any:
    return importlib.import_module(f"experiments.srim_paper.{name}")


def test_every_model_can_be_built_and_shares_the_protocol_and_the_epochs(study: Study) -> None:
    for name in MODELS:
        config = study.model(name)[0].config
        assert (config.protocol, config.epochs, config.patience) == (BASE.protocol, BASE.epochs, BASE.patience), name
        assert config.max_length == BASE.max_length
    assert len({study.model(name)[0].workdir for name in MODELS}) == len(MODELS)


def test_it_starts_from_srim_alone() -> None:
    with pytest.raises(UserError, match="of model=core; name a configuration of SRIM, such as srim_complete_journey"):
        srim_base(COREConfig())


def test_an_ablation_changes_what_it_names() -> None:
    base = srim_base(BASE)
    for name in (*ABLATED, WITHOUT_ATTENTION):
        config = MODELS[name](base)
        assert isinstance(config, SRIMConfig) and config != base
    assert MODELS[SRIM](base) == base


@pytest.mark.parametrize("name", NAMES)
def test_runs_are_those_that_a_name_needs(name: str, study: Study) -> None:
    trained = {run.workdir for run in command(name).runs(study)}
    own = study.model(SRIM)[0].workdir
    assert (own in trained) == (name != "data")
    if name == "comparison":
        assert trained == {study.model(model)[0].workdir for model in (*OTHERS, SRIM)}
    if name in ("layers", "heads"):
        assert len(trained) > 2


def of_chance(seed: int, targets: int, hits: float) -> Ranks:
    """Random ranks, of which about the given share is among the first ten."""
    rng = np.random.default_rng(seed)
    above = np.where(rng.random(targets) < hits, rng.integers(0, 10, targets), 28)
    return Ranks(above.astype(np.int32), np.ones(targets, np.int32))


@pytest.fixture
def ranked(study: Study, monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Rankings of runs that nobody trained: by the family's name, how good they are; 0.3 where nothing is set."""
    quality: dict[str, float] = {}

    def ranks(run: Run, split: str = "test", views: Any = None) -> dict[str, Ranks]:
        del split, views
        hits = quality.get(run.config.family, 0.3)
        return {view: of_chance(len(view), len(study.targets), hits) for view in run.system.views}

    monkeypatch.setattr(Run, "ranks", ranks)
    monkeypatch.setattr(Run, "history", [{}, {}, {}])
    monkeypatch.setattr(Run, "best_epoch", 1)
    return quality


def made(name: str, study: Study) -> Outcome:
    outcome = command(name).outcome(study)
    assert isinstance(outcome, Outcome)
    return outcome


@pytest.mark.usefixtures("ranked")
@pytest.mark.parametrize("name", NAMES)
def test_every_name_leaves_a_table_a_picture_and_findings(name: str, study: Study, tmp_path: pathlib.Path) -> None:
    outcome = made(name, study)
    write(outcome, tmp_path / name, {"command": f"python -m experiments.srim_paper.{name}"})
    assert len((tmp_path / name / "figure.png").read_bytes()) > 5_000
    assert outcome.findings and len(outcome.frame)
    assert "SRIM's paper" in outcome.source


@pytest.mark.parametrize(("hits", "held"), [(0.9, True), (0.05, False)])
def test_srim_is_the_best_only_if_it_beats_all_others(
    hits: float, held: bool, study: Study, ranked: dict[str, float]
) -> None:
    ranked["srim"] = hits
    first, *_ = made("comparison", study).findings
    assert ("does not hold" not in first) == held
    lengths = made("session_length", study)
    assert held or "does not hold in full" in lengths.findings[0]
    assert sum(lengths.frame.filter(model=SRIM)["targets"]) == len(study.targets)


def test_what_a_dataset_lacks_is_left_out_by_name(
    study: Study, ranked: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    del ranked
    whole = module.catalogue_info(study.dataset)
    without = whole._replace(classes={})
    variants = command("variants")
    monkeypatch.setattr(variants, "catalogue_info", lambda dataset: without)
    trained, refused = variants.trainable(study, [*OTHERS, SRIM])
    assert "MGS" in refused and SRIM in trained and set(trained).isdisjoint(refused)
    findings = made("comparison", study).findings
    assert any(finding.startswith("MGS is not in the table: ") for finding in findings)


def test_a_part_of_the_table_is_said_to_be_one(study: Study, ranked: dict[str, float]) -> None:
    del ranked
    comparison = command("comparison")
    assert {run.config.family for run in comparison.runs(study, ["CoHHN", "NARM"])} == {"narm", "cohhn", "srim"}
    outcome = comparison.outcome(study, ["CoHHN", "NARM"])
    assert {"NARM", "CoHHN", SRIM} < set(outcome.frame["model"]) and "DIMO" not in set(outcome.frame["model"])
    assert any("leaves out BERT4Rec, SR-GNN" in finding for finding in outcome.findings)
    with pytest.raises(UserError, match="names 'CoHNN'.*CoHHN"):
        comparison.runs(study, ["CoHNN"])
