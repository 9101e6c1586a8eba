"""The space of a sweep: what a file may hold, which combinations it makes, and which configurations they are."""

import json
import pathlib
import re
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from alterrec_jax.config import AlterRecConfig
from alterrec_jax.errors import UserError
from experiments.space import applied, chosen, combinations, flat, read_space

BASE = AlterRecConfig()
PAPER = pathlib.Path(__file__).parents[2] / "experiments/spaces/paper.json"


def write(folder: pathlib.Path, content: Any) -> str:
    path = folder / "space.json"
    path.write_text(json.dumps(content))
    return str(path)


def test_the_paper_s_grid() -> None:
    found = combinations(read_space(str(PAPER), BASE))
    assert len(found) == 6
    configs = [applied(BASE, values) for values in found]
    pairs = [(config.id.learning_rate, config.id.dropout) for config in configs]
    assert sorted(pairs) == [(rate, dropout) for rate in (0.001, 0.01) for dropout in (0.1, 0.3, 0.5)]
    assert [(config.text.learning_rate, config.text.dropout) for config in configs] == pairs


def test_each_kind_of_field(tmp_path: pathlib.Path) -> None:
    content = {
        "id.encoder": ["mean", "transformer"],
        "text.mlp_hidden": [[], [17, 5]],
        "mining.augment": [True, False],
        "id.dim": {"low": 8, "high": 32, "log": True},
        "id.dropout, text.dropout": {"low": 0, "high": 0.5},
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
        assert config.text.mlp_hidden in ((), (17, 5))
        assert config.id.dropout == config.text.dropout == values["id.dropout, text.dropout"]
        there = {name for name, value in flat(config).items() if value != flat(BASE)[name]}
        assert there <= {field for key in content for field in key.split(", ")}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([], ("must hold fields",)),
        ({"id.dropuot": [0.1]}, ("configuration.id has no field 'dropuot'", "'dropout'")),
        ({"id.dropout,text.dropuot": [0.1]}, ("configuration.text", "dropuot")),
        ({"di.dropout": [0.1]}, ("'di'", "'id'")),
        ({"seed.x": [1]}, ("seed", "int")),
        ({"id": [0.1]}, ("id must hold fields",)),
        ({"id": [{"dim": 3}]}, ("'id' holds fields",)),
        ({"id.dropout": ["much"]}, ("id.dropout", "float", "much")),
        ({"id.dropout": []}, ("id.dropout", "list of values")),
        ({"id.dropout": 0.1}, ("id.dropout", "list of values")),
        ({"id.dropout": [0.1, 0.1]}, ("id.dropout", "twice")),
        ({"id.dropout": [0.1], "text.dim,id.dropout": [1]}, ("id.dropout is there 2 times",)),
        ({"id.dropout": {"low": 0.1}}, ("no 'high'",)),
        ({"id.dropout": {"low": 0.1, "hihg": 0.2}}, ("'hihg'", "'high'")),
        ({"id.dropout": {"low": 0.2, "high": 0.1}}, ("0.2 to 0.1", "below")),
        ({"id.dropout": {"low": 0, "high": 0.1, "log": True}}, ("above 0",)),
        ({"id.dropout": {"low": 0, "high": 0.1, "log": "yes"}}, ("'yes'", "true or false")),
        ({"id.dim": {"low": 1.5, "high": 3}}, ("id.dim", "int", "1.5")),
        ({"id.encoder": {"low": "a", "high": "b"}}, ("id.encoder", "no number")),
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
