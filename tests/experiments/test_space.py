"""The space of a sweep: what a file may hold, which combinations it makes, and which configurations they are."""

import json
import pathlib
import re
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from alterrec_jax.config import RunConfig, flat, to_mapping
from alterrec_jax.errors import UserError
from alterrec_jax.models.alterrec import AlterRecConfig
from alterrec_jax.models.core import COREConfig, CORENetworkConfig
from experiments.space import applied, chosen, combinations, read_space

BASE = AlterRecConfig()
PAPER = pathlib.Path(__file__).parents[2] / "experiments/spaces/paper.json"


def write(folder: pathlib.Path, content: Any) -> str:
    path = folder / "space.json"
    path.write_text(json.dumps(content))
    return str(path)


def network(config: RunConfig, name: str) -> Any:
    assert isinstance(config, AlterRecConfig)
    return config.networks[name]


def fields(config: RunConfig) -> dict[str, Any]:
    return flat(to_mapping(config))


def test_the_paper_s_grid() -> None:
    found = combinations(read_space(str(PAPER), BASE))
    assert len(found) == 6
    configs = [applied(BASE, values) for values in found]
    pairs = [(network(config, "id").learning_rate, network(config, "id").dropout) for config in configs]
    assert sorted(pairs) == [(rate, dropout) for rate in (0.001, 0.01) for dropout in (0.1, 0.3, 0.5)]
    assert [(network(c, "text").learning_rate, network(c, "text").dropout) for c in configs] == pairs


def test_each_kind_of_field(tmp_path: pathlib.Path) -> None:
    content = {
        "networks.id.encoder": ["mean", "transformer"],
        "networks.text.mlp_hidden": [[], [17, 5]],
        "mining.augment": [True, False],
        "networks.id.dim": {"low": 8, "high": 32, "log": True},
        "networks.id.dropout, networks.text.dropout": {"low": 0, "high": 0.5},
    }
    space = read_space(write(tmp_path, content), BASE)
    assert list(space.values()) == [
        CategoricalDistribution(["mean", "transformer"]),
        CategoricalDistribution(["[]", "[17, 5]"]),
        CategoricalDistribution([True, False]),
        IntDistribution(8, 32, log=True),
        FloatDistribution(0.0, 0.5),
    ]
    assert combinations(space) == []
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(5):
        values = chosen(study.ask(), space)
        config = applied(BASE, values)
        assert network(config, "text").mlp_hidden in ((), (17, 5))
        drawn = values["networks.id.dropout, networks.text.dropout"]
        assert network(config, "id").dropout == network(config, "text").dropout == drawn
        there = {name for name, value in fields(config).items() if value != fields(BASE)[name]}
        assert there <= {field for key in content for field in key.split(", ")}


def test_another_family_has_other_fields(tmp_path: pathlib.Path) -> None:
    base, path = COREConfig(network=CORENetworkConfig(dim=6)), write(tmp_path, {"network.weights": ["mean"]})
    (values,) = combinations(read_space(path, base))
    assert applied(base, values) == COREConfig(network=CORENetworkConfig(dim=6, weights="mean"))
    with pytest.raises(UserError, match="has no field 'networks'; did you mean 'network'?"):
        read_space(str(PAPER), base)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([], ("must hold fields",)),
        ({"networks.id.dropuot": [0.1]}, ("configuration.networks.id has no field 'dropuot'", "'dropout'")),
        ({"networks.id.dropout,networks.text.dropuot": [0.1]}, ("configuration.networks.text", "dropuot")),
        ({"networks.di.dropout": [0.1]}, ("configuration.networks has no field 'di'", "'id'")),
        ({"netwroks.id.dropout": [0.1]}, ("'netwroks'", "'networks'")),
        ({"seed.x": [1]}, ("configuration.seed is a value", "'x'")),
        ({"networks.id": [0.1]}, ("id must hold fields",)),
        ({"networks.id": [{"dim": 3}]}, ("id' holds fields",)),
        ({"networks.id.dropout": ["much"]}, ("networks.id.dropout", "float", "much")),
        ({"networks.id.dropout": []}, ("networks.id.dropout", "list of values")),
        ({"networks.id.dropout": 0.1}, ("networks.id.dropout", "list of values")),
        ({"networks.id.dropout": [0.1, 0.1]}, ("networks.id.dropout", "twice")),
        ({"networks.id.dim": [1], "networks.text.dim,networks.id.dim": [1]}, ("networks.id.dim is there 2 times",)),
        ({"networks.id.dropout": {"low": 0.1}}, ("no 'high'",)),
        ({"networks.id.dropout": {"low": 0.1, "hihg": 0.2}}, ("'hihg'", "'high'")),
        ({"networks.id.dropout": {"low": 0.2, "high": 0.1}}, ("0.2 to 0.1", "below")),
        ({"networks.id.dropout": {"low": 0, "high": 0.1, "log": True}}, ("above 0",)),
        ({"networks.id.dropout": {"low": 0, "high": 0.1, "log": "yes"}}, ("'yes'", "true or false")),
        ({"networks.id.dim": {"low": 1.5, "high": 3}}, ("networks.id.dim", "int", "1.5")),
        ({"networks.id.encoder": {"low": "a", "high": "b"}}, ("networks.id.encoder", "no number")),
        ({"mining.augment": {"low": False, "high": True}}, ("mining.augment", "no number")),
        ({"protocol.select_on": ["hits@20"]}, ("--config.protocol.select_on",)),
    ],
)
def test_what_is_no_space(tmp_path: pathlib.Path, content: Any, words: tuple[str, ...]) -> None:
    path = write(tmp_path, content)
    with pytest.raises(UserError, match=re.escape(path)) as caught:
        read_space(path, BASE)
    for word in words:
        assert word in str(caught.value)
