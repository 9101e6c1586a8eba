"""Each configuration file is valid: what trains has steps of each kind of its stages, what counts ranks."""

import dataclasses
import functools
import importlib
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import polars as pl
import pytest

from alterrec_jax.config import FamilyConfig, RunConfig
from alterrec_jax.data.batches import TrainBatches
from alterrec_jax.data.dataset import Dataset
from alterrec_jax.data.features import catalogue_info, make_context
from alterrec_jax.data.targets import select_targets
from alterrec_jax.models.counting import CountedConfig
from alterrec_jax.models.registry import read_config
from alterrec_jax.scoring.frozen import freeze
from alterrec_jax.training import steps
from alterrec_jax.training.loop import TrainLoop

NAMES = sorted(
    path.stem
    for path in (pathlib.Path(__file__).parents[2] / "experiments/configs").glob("*.py")
    if path.stem != "__init__"
)
TINY = {
    "dim": 4,
    "state": 5,
    "heads": 2,
    "layers": 1,
    "levels": 2,
    "inner": 7,
    "steps": 1,
    "max_length": 7,
    "batch_prefixes": 500,
    "k1": 3,
    "k2": 23,
    "p": 2,
}
"""Values of whatever fields have these names."""


def load(name: str) -> FamilyConfig:
    values = importlib.import_module(f"experiments.configs.{name}").get_config().to_dict()
    return read_config(values).check()


def shrunk(record: Any) -> Any:
    """The record, and those in it, with tiny values and as many hidden layers, of five each."""
    if isinstance(record, Mapping):
        return {name: shrunk(part) for name, part in record.items()}
    if not dataclasses.is_dataclass(record):
        return record
    values = {name: TINY.get(name, shrunk(part)) for name, part in vars(record).items()}
    if "mlp_hidden" in values:
        values["mlp_hidden"] = (5,) * len(values["mlp_hidden"])
    return dataclasses.replace(record, **values)  # type: ignore[type-var]


@pytest.fixture
def known(dataset: Dataset) -> Dataset:
    """The small dataset with all that a configuration asks for: text, image, category and brand."""
    numbers = range(len(dataset.items))
    brands = pl.Series([f"brand {number % 7}" if number % 5 else None for number in numbers], dtype=pl.String)
    category = pl.Series([f"kind {number % 3}" for number in numbers])
    vectors = {**dataset.vectors, "image": dataset.text_vectors[:, ::-1]}
    items = dataset.items.with_columns(category=category, brand=brands)
    return dataclasses.replace(dataset, items=items, vectors=vectors)


@pytest.mark.parametrize("name", NAMES)
def test_says_what_it_is_for_its_command_and_its_score(name: str) -> None:
    told = importlib.import_module(f"experiments.configs.{name}").__doc__ or ""
    assert f"--config={name} " in told
    if isinstance(load(name), RunConfig):
        assert re.search(r"Measured on 20\d\d-\d\d-\d\d", told) or re.search(r"Not measured[^:]*: \w+", told)


@pytest.mark.parametrize("name", NAMES)
def test_steps_of_each_kind_can_be_made_or_it_ranks(name: str, known: Dataset) -> None:
    """Steps are traced, not compiled; `tests/models/test_contract.py` makes those of every family."""
    config = load(name)
    if isinstance(config, CountedConfig):
        targets = select_targets(known.splits["test"], "last")
        rows = config.rows(known, known.splits["test"], targets)(0, 3)
        assert rows.shape == (3, known.catalogue_size) and np.isfinite(rows).all() and (rows > 0).any()
        return
    assert isinstance(config, RunConfig)
    config = shrunk(config).check()
    system = config.build(catalogue_info(known))
    train, reads = known.splits["train"], system.reads
    batches = TrainBatches(train, config.batch_prefixes, config.max_length, system.layout, reads.users)
    context = make_context(known, reads, config.precision)
    arrays = TrainLoop(system, context, batches, len(train.items), config.seed).shapes()
    batch, key = next(batches.epoch(jax.random.key(0))), jax.random.key(0)
    for stage in dict.fromkeys(stage._replace(epochs=1) for stage in system.stages):
        optimizer = steps.make_optimizer(system.optimizers[stage.optimizer], batches.steps_per_epoch, stage.frozen)
        step = steps.make_step(system.objectives[stage.objective](stage), optimizer)
        peer = None
        if stage.peer:
            of_peer = functools.partial(freeze, system.components, dict(stage.peer))
            peer = jax.eval_shape(of_peer, arrays.params, context)
        trained = {name: arrays.params[name] for name in stage.trains}
        state = steps.StageState(trained, arrays.opt_states[stage.optimizer], arrays.totals, arrays.windows)
        after = jax.eval_shape(step, state, peer, context, batch, key)
        assert jax.tree.map(_shape, after) == jax.tree.map(_shape, state)
    trained_ones = {name for stage in system.stages for name in stage.trains}
    assert trained_ones == {name for name, network in system.networks.items() if network.fit is None}


def _shape(array: Any) -> tuple[tuple[int, ...], Any]:
    return array.shape, array.dtype
