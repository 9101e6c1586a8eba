"""The models that the study compares: what each changes, and what they share."""

import dataclasses
import importlib
import itertools
import pathlib

import pytest
from absl import flags

from alterrec_jax.config import AlterRecConfig, MiningConfig, NetworkConfig, ScheduleConfig
from alterrec_jax.data.dataset import Dataset
from alterrec_jax.errors import UserError
from experiments.paper.names import NAMES
from experiments.paper.study import Study
from experiments.paper.variants import VARIANTS, own_epochs, variant

BASE = AlterRecConfig(
    id=NetworkConfig(encoder="mean", dim=6, heads=2, dropout=0.4),
    mining=MiningConfig(k1=2, k2=23),
    schedule=ScheduleConfig(m_random=1, m_gap=2, m_max=9),
)


@pytest.mark.parametrize("name", VARIANTS)
def test_every_model_can_be_built(name: str) -> None:
    config = variant(BASE, name)
    assert config.check() == config
    assert (config.protocol, config.seed, config.batch_prefixes) == (BASE.protocol, BASE.seed, BASE.batch_prefixes)


def test_an_unknown_model_is_named() -> None:
    with pytest.raises(UserError, match="no model is called 'AlterRex'; did you mean 'AlterRec'?"):
        variant(BASE, "AlterRex")


def test_a_network_alone_has_the_epochs_it_has_in_alterrec() -> None:
    # id text | id id text text id id text
    assert (own_epochs(BASE, "id"), own_epochs(BASE, "text")) == (5, 4)
    assert variant(BASE, "AlterRec_w/o_text").schedule.m_max == 5
    assert variant(BASE, "AlterRec_w/o_ID").schedule.m_max == 4
    assert variant(BASE, "NFRec (sum)").schedule.m_max == 5


def test_the_control_differs_from_alterrec_in_its_negatives_alone() -> None:
    alternating, apart = variant(BASE, "AlterRec"), variant(BASE, "Independent, fused")
    assert dataclasses.replace(apart, mining=alternating.mining, keep_epochs=True) == alternating
    assert (alternating.mining.negatives, apart.mining.negatives) == ("peer", "full")


def test_no_positive_of_augmentation_is_a_negative() -> None:
    mining = variant(BASE, "AlterRec_aug").mining
    assert mining.augment and mining.k1 == mining.p == 5


def test_naive_fusion_has_the_width_and_optimizer_of_the_id_network() -> None:
    fused = variant(BASE, "NFRec (concat)").fused
    assert (fused.encoder, fused.operation, fused.dim, fused.dropout) == ("mean", "concat", 6, 0.4)


def test_sasrec_on_a_transformer_base_is_the_id_network_alone() -> None:
    base = dataclasses.replace(BASE, id=dataclasses.replace(BASE.id, encoder="transformer"))
    assert variant(base, "SASRec") == variant(base, "AlterRec_w/o_text")
    assert variant(BASE, "SASRec") != variant(BASE, "AlterRec_w/o_text")


def test_sasrec_on_another_base_learns_as_the_text_transformer_does() -> None:
    base = dataclasses.replace(BASE, text=dataclasses.replace(BASE.text, learning_rate=0.0123, dropout=0.23, layers=3))
    network = variant(base, "SASRec").id
    assert (network.encoder, network.learning_rate, network.dropout, network.layers) == ("transformer", 0.0123, 0.23, 3)
    assert network.dim == BASE.id.dim
    no_text = dataclasses.replace(base, text=dataclasses.replace(base.text, encoder="mean"))
    assert variant(no_text, "SASRec").id.learning_rate == BASE.id.learning_rate


@pytest.mark.parametrize("name", ["k1", "k2"])
def test_a_parameter_of_one_possible_value_is_refused(name: str, dataset: Dataset, tmp_path: pathlib.Path) -> None:
    mining = MiningConfig(k1=0, k2=1) if name == "k1" else MiningConfig(k1=20, k2=23)
    study = Study(dataset, dataclasses.replace(BASE, mining=mining), (0,), tmp_path)
    with pytest.raises(UserError, match=f"mining.k1={mining.k1}, .* and 29 items there is one value alone"):
        importlib.import_module(f"experiments.paper.{name}").runs(study)


def test_every_name_has_a_command_and_its_runs_are_shared(dataset: Dataset, tmp_path: pathlib.Path) -> None:
    flags.FLAGS.mark_as_parsed()  # a figure has a flag of its own
    study = Study(dataset, BASE, (0, 1), tmp_path)
    folders = {}
    for name in NAMES:
        runs = importlib.import_module(f"experiments.paper.{name}").runs(study)
        folders[name] = {run.workdir for run in runs}
    own = {run.workdir for run in study.model("AlterRec")}
    assert len(own) == 2
    for name in ("comparison", "ablation", "components", "alpha", "long_tail", "k1", "k2"):
        assert own <= folders[name], name
    assert folders["alpha"] == own
    assert folders["p"] & folders["k1"] and folders["beta"] & folders["k1"]
    seeds = [run.config.seed for run in study.model("SASRec")]
    assert seeds == [0, 1]
    everything = set(itertools.chain.from_iterable(folders.values()))
    assert len(everything) < sum(map(len, folders.values())) / 1.3
