"""What a sweep leaves: its best configuration as a file, of whatever family."""

import pathlib

import optuna
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.trial import TrialState

from alterrec_jax.config import RunConfig
from alterrec_jax.contract import CatalogueInfo, Stage
from alterrec_jax.models.alterrec import AlterRecConfig, MiningConfig
from alterrec_jax.models.registry import families, read_run_config
from alterrec_jax.models.unimodal import AttributeNetworkConfig, IdNetworkConfig, VectorNetworkConfig
from experiments import config_flag
from experiments.sweep_report import write_best
from experiments.sweep_study import epochs_before_pruning

THREE = {"id": IdNetworkConfig(dim=6), "image": VectorNetworkConfig(feature="image"), "kind": AttributeNetworkConfig()}
BASES = {
    **{family.name: family.config() for family in families().values() if issubclass(family.config, RunConfig)},
    "three networks": AlterRecConfig(networks=THREE, mining=MiningConfig(k1=1, augment=False)),
}


@pytest.mark.parametrize("name", BASES)
def test_the_best_is_a_file_that_makes_the_configuration(name: str, tmp_path: pathlib.Path) -> None:
    base = BASES[name]
    trial = optuna.trial.create_trial(
        state=TrialState.COMPLETE,
        value=0.2,
        params={"seed": 3},
        distributions={"seed": CategoricalDistribution([3])},
        intermediate_values={0: 0.2},
    )
    write_best(tmp_path, base, trial, "hits@20", 'made by "this" \\ that')
    found = config_flag._ConfigFile().parse(str(tmp_path / "best.py")).to_dict()
    config = read_run_config(found)
    assert type(config) is type(base) and config.seed == 3
    assert read_run_config(found | {"seed": base.seed}) == base


def test_pruning_waits_until_all_that_trains_has_been_trained() -> None:
    def epochs(**fields: int) -> int:
        return epochs_before_pruning(AlterRecConfig(**fields).build(CatalogueInfo(50_000)).stages)

    # id id text text | id id id text text text | id ...
    assert epochs(warmup_epochs=2, turn_epochs=3) == 10
    assert epochs(warmup_epochs=0, turn_epochs=1) == 2
    assert epochs(warmup_epochs=2, turn_epochs=3, epochs=6) == 5, "one epoch of the last stage at least"
    whole = Stage(("id",), "full", 9, "id")
    assert epochs_before_pruning([whole]) == 1
    assert epochs_before_pruning([whole._replace(objective="pretraining", epochs=4), whole]) == 5
