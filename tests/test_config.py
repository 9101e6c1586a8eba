"""The configuration refuses what makes no sense, by name, and survives its way through JSON."""

import dataclasses
import json
from typing import Any

import pytest

from alterrec_jax.config import (
    MODELS,
    NEGATIVES,
    AlterRecConfig,
    FusedNetworkConfig,
    MiningConfig,
    NetworkConfig,
    TextNetworkConfig,
    from_mapping,
)
from alterrec_jax.errors import UserError

NAN, INFINITY = float("nan"), float("inf")


def changed(config: Any, path: str, value: Any) -> Any:
    """A copy of a record with one field, named by its path, set to a value."""
    name, _, rest = path.partition(".")
    return dataclasses.replace(config, **{name: changed(getattr(config, name), rest, value) if rest else value})


def test_defaults_make_sense() -> None:
    config = AlterRecConfig()
    assert config.check() is config


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id.encoder", "gru"),
        ("text.encoder", ""),
        ("id.init", "zeros"),
        ("id.dim", 0),
        ("text.layers", 0),
        ("id.heads", 0),
        ("id.heads", 7),
        ("text.dropout", 1.0),
        ("id.dropout", -0.1),
        ("id.dropout", NAN),
        ("text.temperature", 0.0),
        ("id.temperature", INFINITY),
        ("text.temperature", NAN),
        ("id.learning_rate", 0.0),
        ("id.learning_rate", NAN),
        ("text.learning_rate", INFINITY),
        ("text.weight_decay", -1e-6),
        ("id.weight_decay", NAN),
        ("id.weight_decay", INFINITY),
        ("id.decay_every", -1),
        ("text.decay_factor", 0.0),
        ("text.decay_factor", 1.5),
        ("id.decay_factor", NAN),
        ("text.mlp_hidden", (7, 0)),
        ("text.item_dropout", 1.0),
        ("mining.k1", -1),
        ("mining.k1", 20_000),
        ("mining.k2", 20),
        ("mining.p", 21),
        ("mining.p", -1),
        ("mining.beta", -0.5),
        ("mining.beta", NAN),
        ("mining.beta", INFINITY),
        ("mining.hard_fraction", 0.0),
        ("mining.hard_fraction", 1.1),
        ("schedule.m_random", -1),
        ("schedule.m_gap", 0),
        ("schedule.m_max", 0),
        ("schedule.patience", -1),
        ("protocol.alpha", 1.01),
        ("protocol.alpha", -0.01),
        ("protocol.alpha", NAN),
        ("protocol.targets", "first"),
        ("protocol.select_on", "hits@10"),
        ("model", "gru4rec"),
        ("mining.negatives", "hard"),
        ("fused.encoder", "gru"),
        ("fused.operation", "product"),
        ("fused.dim", 0),
        ("fused.temperature", NAN),
        ("seed", -1),
        ("seed", 2**32),
        ("max_length", 0),
        ("batch_prefixes", 0),
        ("checkpoint_seconds", 0),
        ("checkpoint_steps", -1),
        ("keep_checkpoints", 0),
    ],
)
def test_senseless_values_are_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(UserError) as caught:
        changed(AlterRecConfig(), field, value).check()
    message = str(caught.value)
    # A window of no ranks is told by its first border, whichever of the two was set.
    assert field in message and (f"is {value}" in message or f"is '{value}'" in message or f"({value})" in message)
    assert "\n" not in message


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("seed", 2**32 - 1),
        ("mining.k1", 0),
        ("mining.p", 20),
        ("mining.hard_fraction", 1.0),
        ("text.mlp_hidden", ()),
        ("protocol.alpha", 0.0),
    ],
)
def test_borders_are_allowed(field: str, value: Any) -> None:
    config = changed(AlterRecConfig(), field, value)
    if field == "mining.k1":
        config = changed(config, "mining.p", 0)
    assert config.check() is config


def test_positives_are_not_limited_where_they_are_not_used() -> None:
    mining = MiningConfig(k1=3, p=5, augment=False)
    assert changed(AlterRecConfig(), "mining", mining).check().mining.p == 5


def combined(model: str, negatives: str, augment: bool) -> AlterRecConfig:
    """The defaults, with these choices."""
    return AlterRecConfig(model=model, mining=MiningConfig(negatives=negatives, augment=augment))


@pytest.mark.parametrize("augment", [False, True])
@pytest.mark.parametrize("negatives", NEGATIVES)
@pytest.mark.parametrize("model", MODELS)
def test_a_peer_needs_two_networks_and_augmentation_needs_a_peer(model: str, negatives: str, augment: bool) -> None:
    config = combined(model, negatives, augment)
    if model != "alterrec" and negatives == "peer":
        with pytest.raises(UserError, match=f"mining.negatives is peer.*'full', for model={model} has no peer"):
            config.check()
    elif negatives != "peer" and augment:
        with pytest.raises(UserError, match="mining.augment is True; it must be False where the negatives are not"):
            config.check()
    else:
        assert config.check() is config


@pytest.mark.parametrize(
    ("operation", "dim", "heads", "width"),
    [("concat", 7, 2, 14), ("concat", 7, 3, 14), ("sum", 7, 2, 7), ("sum", 6, 3, 6), ("concat", 3, 6, 6)],
)
def test_heads_divide_the_width_of_what_was_fused(operation: str, dim: int, heads: int, width: int) -> None:
    fused = FusedNetworkConfig(encoder="transformer", dim=dim, heads=heads, operation=operation)
    config = dataclasses.replace(AlterRecConfig(), fused=fused)
    if width % heads:
        message = rf"fused.heads is {heads}; it must be a divisor of the width of its embeddings \({width}\)"
        with pytest.raises(UserError, match=message):
            config.check()
    else:
        assert config.check() is config


def test_heads_do_not_matter_to_a_mean_encoder() -> None:
    assert changed(AlterRecConfig(), "id", NetworkConfig(encoder="mean", dim=7)).check().id.dim == 7


@pytest.mark.parametrize("values", [{"seed": 3}, {"text": {"mlp_hidden": [7, 5]}, "mining": {"beta": 1}}, {}])
def test_configuration_survives_json(values: dict[str, Any]) -> None:
    config = from_mapping(AlterRecConfig, values)
    plain = json.loads(json.dumps(dataclasses.asdict(config)))
    again = from_mapping(AlterRecConfig, plain)
    assert again == config
    assert type(again.fused) is FusedNetworkConfig
    assert type(again.text) is TextNetworkConfig and type(again.text.mlp_hidden) is tuple
    assert type(again.mining.beta) is float


def test_whole_numbers_become_floats() -> None:
    network = from_mapping(NetworkConfig, {"temperature": 2, "dropout": 0})
    assert (network.temperature, network.dropout) == (2.0, 0.0)
    assert type(network.temperature) is type(network.dropout) is float


@pytest.mark.parametrize(
    ("values", "parts"),
    [
        ({"sed": 1}, ("'sed'", "'seed'")),
        ({"id": {"droput": 0.1}}, ("configuration.id", "'droput'", "'dropout'")),
        ({"text": {"mlp_widths": [1]}}, ("configuration.text", "'mlp_widths'")),
        ({"mining": {"zzzz": 1}}, ("'zzzz'", "known:", "hard_fraction")),
    ],
)
def test_unknown_fields_suggest_the_nearest(values: dict[str, Any], parts: tuple[str, ...]) -> None:
    with pytest.raises(UserError) as caught:
        from_mapping(AlterRecConfig, values)
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"seed": 1.5}, "configuration.seed"),
        ({"seed": "1"}, "configuration.seed"),
        ({"seed": True}, "configuration.seed"),
        ({"mining": {"beta": "0.5"}}, "configuration.mining.beta"),
        ({"mining": {"beta": True}}, "configuration.mining.beta"),
        ({"mining": {"augment": 1}}, "configuration.mining.augment"),
        ({"id": {"encoder": 3}}, "configuration.id.encoder"),
        ({"id": {"encoder": None}}, "configuration.id.encoder"),
        ({"text": {"mlp_hidden": [1.5]}}, "configuration.text.mlp_hidden"),
        ({"text": {"mlp_hidden": 300}}, "configuration.text.mlp_hidden"),
        ({"text": {"mlp_hidden": "300"}}, "configuration.text.mlp_hidden"),
        ({"text": "transformer"}, "configuration.text"),
    ],
)
def test_values_of_another_type_are_refused_by_name(values: dict[str, Any], field: str) -> None:
    with pytest.raises(UserError, match=field):
        from_mapping(AlterRecConfig, values)
