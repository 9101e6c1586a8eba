"""Every file of experiments/configs is a valid configuration that builds networks which take a step."""

import dataclasses
import importlib
import pathlib
import re

import jax
import numpy as np
import pytest
from alterrec_jax.training.stages import Turn

from alterrec_jax.config import AlterRecConfig, from_mapping
from alterrec_jax.contract import PackedRows
from alterrec_jax.models.alterrec import build_networks
from alterrec_jax.training import steps

NAMES = sorted(
    path.stem
    for path in (pathlib.Path(__file__).parents[2] / "experiments/configs").glob("*.py")
    if path.stem not in ("__init__", "base")
)


def load(name: str) -> AlterRecConfig:
    values = importlib.import_module(f"experiments.configs.{name}").get_config().to_dict()
    return from_mapping(AlterRecConfig, values).check()


@pytest.mark.parametrize("name", NAMES)
def test_says_what_it_is_for_its_command_and_its_score(name: str) -> None:
    told = importlib.import_module(f"experiments.configs.{name}").__doc__ or ""
    assert f"--config=experiments/configs/{name}.py" in told
    assert re.search(r"Measured on 20\d\d-\d\d-\d\d", told) or re.search(r"Not measured[^:]*: \w+", told)


@pytest.mark.parametrize("name", NAMES)
def test_builds_and_takes_a_step_of_each_kind(name: str) -> None:
    config = load(name)
    items, row_length, d_text = 23, 7, 11
    config = dataclasses.replace(
        config,
        max_length=row_length,
        id=dataclasses.replace(config.id, dim=6, heads=2, layers=1),
        text=dataclasses.replace(config.text, dim=6, heads=2, layers=1, mlp_hidden=(5,) * len(config.text.mlp_hidden)),
        mining=dataclasses.replace(config.mining, k1=min(config.mining.k1, 6), k2=min(config.mining.k2, items)),
    ).check()
    draw = np.random.default_rng(0)
    vectors = draw.normal(size=(items, d_text)).astype(np.float32)
    place = np.tile(np.arange(row_length, dtype=np.int32), (2, 1))
    rows = PackedRows(
        items=draw.integers(0, items, place.shape).astype(np.int32),
        targets=draw.integers(0, items, place.shape).astype(np.int32),
        positions=place,
        segments=np.zeros_like(place),
        where=np.ones(place.shape, bool),
    )
    networks = build_networks(config, items)
    features = {"id": None, "text": vectors}
    window = (config.mining.k1, config.mining.k2)
    for network, peer in (("id", "text"), ("text", "id")):
        optimizer = steps.make_optimizer(getattr(config, network), 3)
        state = steps.init_state(networks[network], optimizer, features[network], jax.random.key(0))
        peer_params = networks[peer].init(jax.random.key(1), features[peer])
        frozen = steps.FrozenPeer.of(networks[peer], peer_params, features[peer])
        random_step, window_step = (
            steps.compiled(steps.make_step(turn, networks, optimizer, config.mining, window))
            for turn in (Turn(network, "random"), Turn(network, "window", peer))
        )
        state = random_step(state, None, features[network], rows, jax.random.key(2))
        state = window_step(state, frozen, features[network], rows, jax.random.key(3))
        assert float(state.totals.steps) == 2
        assert np.isfinite(float(state.totals.loss)) and float(state.totals.loss) > 0
