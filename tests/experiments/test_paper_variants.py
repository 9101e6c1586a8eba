"""The models that the study compares: what each changes, and what they share."""

import dataclasses
import importlib
import itertools
import pathlib
from typing import Any, TypeVar

import pytest
from absl import flags

from alterrec_jax.config import RunConfig
from alterrec_jax.contract import CatalogueInfo
from alterrec_jax.data.dataset import Dataset
from alterrec_jax.errors import UserError
from alterrec_jax.models.alterrec import AlterRecConfig, MiningConfig
from alterrec_jax.models.core import COREConfig
from alterrec_jax.models.nfrec import NFRecConfig
from alterrec_jax.models.sasrec import SASRecConfig
from alterrec_jax.models.unimodal import IdNetworkConfig, VectorNetworkConfig
from alterrec_jax.training.trainer import Trainer
from experiments.paper.names import NAMES
from experiments.paper.variants import VARIANTS, Study, alone, own_epochs, paper_base
from tests.conftest import CLOCKS

Config = TypeVar("Config", bound=RunConfig)

BASE = AlterRecConfig(
    networks={
        "id": IdNetworkConfig(encoder="mean", dim=6, heads=2, dropout=0.4),
        "text": VectorNetworkConfig(dim=8, mlp_hidden=(17,)),
    },
    mining=MiningConfig(k1=2, k2=23),
    warmup_epochs=1,
    turn_epochs=2,
    epochs=9,
)


def with_network(base: AlterRecConfig, name: str, **fields: Any) -> AlterRecConfig:
    """The configuration with other fields of a network."""
    changed = dataclasses.replace(base.networks[name], **fields)
    return dataclasses.replace(base, networks={**base.networks, name: changed})


def of(kind: type[Config], config: RunConfig) -> Config:
    """The configuration as one of a family, which it is."""
    assert isinstance(config, kind)
    return config


@pytest.mark.parametrize("name", VARIANTS)
def test_every_model_can_be_built(name: str) -> None:
    config = VARIANTS[name](BASE)
    assert config.check() == config
    assert (config.protocol, config.seed, config.batch_prefixes) == (BASE.protocol, BASE.seed, BASE.batch_prefixes)
    system = config.build(CatalogueInfo(29))
    assert sum(stage.epochs for stage in system.stages) == config.epochs


def test_a_network_alone_has_the_epochs_it_has_in_alterrec() -> None:
    # id text | id id text text id id text
    assert (own_epochs(BASE, "id"), own_epochs(BASE, "text")) == (5, 4)
    assert VARIANTS["AlterRec_w/o_text"](BASE).epochs == VARIANTS["SASRec"](BASE).epochs == 5
    assert VARIANTS["AlterRec_w/o_ID"](BASE).epochs == 4
    assert VARIANTS["NFRec (sum)"](BASE).epochs == 5


def test_the_control_differs_from_alterrec_in_its_negatives_alone() -> None:
    alternating, independent = (of(AlterRecConfig, VARIANTS[name](BASE)) for name in ("AlterRec", "Independent, fused"))
    assert dataclasses.replace(independent, mining=alternating.mining, keep_epochs=True) == alternating
    assert (alternating.mining.negatives, independent.mining.negatives) == ("peer", "full")


def test_no_positive_of_augmentation_is_a_negative() -> None:
    mining = of(AlterRecConfig, VARIANTS["AlterRec_aug"](BASE)).mining
    assert mining.augment and mining.k1 == mining.p == 5


def test_naive_fusion_has_the_width_and_optimizer_of_the_id_network() -> None:
    config = of(NFRecConfig, VARIANTS["NFRec (concat)"](BASE))
    fused = config.network
    assert (fused.encoder, fused.operation, fused.dim, fused.dropout) == ("mean", "concat", 6, 0.4)
    assert config.text.mlp_hidden == (17,)


def test_sasrec_on_a_transformer_base_is_the_id_network_alone(dataset: Dataset, tmp_path: pathlib.Path) -> None:
    base = with_network(BASE, "id", encoder="transformer", layers=1, weight=0.0, peer="text")
    base = dataclasses.replace(base, epochs=3, batch_prefixes=100, max_length=7)
    histories = []
    for config in (VARIANTS["SASRec"](base), VARIANTS["AlterRec_w/o_text"](base)):
        history: list[dict[str, Any]] = []
        Trainer(config, dataset, tmp_path / config.family).run(lambda record, of=history: of.append(dict(record)))
        histories.append([{k: v for k, v in record.items() if k not in CLOCKS} for record in history])
    assert len(histories[0]) == 2 and histories[0] == histories[1]
    assert VARIANTS["AlterRec_w/o_text"](BASE) == alone(BASE, "id") != alone(BASE, "id", encoder="transformer")


def test_sasrec_on_another_base_learns_as_the_text_transformer_does() -> None:
    base = with_network(BASE, "text", learning_rate=0.0123, dropout=0.23, layers=3)
    network = of(SASRecConfig, VARIANTS["SASRec"](base)).network
    assert (network.encoder, network.learning_rate, network.dropout, network.layers) == ("transformer", 0.0123, 0.23, 3)
    assert network.dim == BASE.networks["id"].dim
    no_text = of(SASRecConfig, VARIANTS["SASRec"](with_network(base, "text", encoder="mean")))
    assert no_text.network.learning_rate == BASE.networks["id"].learning_rate


def test_the_study_starts_from_the_paper_s_networks_alone() -> None:
    fixed = dataclasses.replace(BASE, fusion_weights="fixed")
    assert paper_base(BASE) == fixed and paper_base(fixed) == fixed, "the paper varies the weights"
    with pytest.raises(UserError, match="model=core with others; name a configuration whose networks are id and text"):
        paper_base(COREConfig())
    three = dataclasses.replace(BASE, networks={**BASE.networks, "image": VectorNetworkConfig(feature="image")})
    with pytest.raises(UserError, match="model=alterrec with id, text, image"):
        paper_base(three)
    turned = dataclasses.replace(BASE, networks={"id": BASE.networks["text"], "text": BASE.networks["id"]})
    with pytest.raises(UserError, match=r"networks\.id\.kind to be ids, not vectors"):
        paper_base(turned)


@pytest.mark.parametrize("name", ["k1", "k2"])
def test_a_parameter_of_one_possible_value_is_refused(name: str, dataset: Dataset, tmp_path: pathlib.Path) -> None:
    mining = MiningConfig(k1=0, k2=1) if name == "k1" else MiningConfig(k1=20, k2=23)
    study = Study(dataset, dataclasses.replace(BASE, mining=mining), VARIANTS, (0,), tmp_path)
    with pytest.raises(
        UserError, match="29 items allow 2?[03] alone, and .* nothing to compare; set another mining.k1"
    ):
        importlib.import_module(f"experiments.paper.{name}").runs(study)


def test_every_name_has_a_command_and_its_runs_are_shared(dataset: Dataset, tmp_path: pathlib.Path) -> None:
    flags.FLAGS.mark_as_parsed()  # a figure has a flag of its own
    study = Study(dataset, BASE, VARIANTS, (0, 1), tmp_path)
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
