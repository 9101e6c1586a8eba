"""The configuration refuses what makes no sense, by name, and survives its way through JSON."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import pytest

from alterrec_jax.config import OptimizerConfig, ProtocolConfig, flat, from_mapping, to_json
from alterrec_jax.contract import CatalogueInfo
from alterrec_jax.errors import UserError
from alterrec_jax.models.alterrec import NEGATIVES, AlterRecConfig, MiningConfig
from alterrec_jax.models.nfrec import FusedNetworkConfig, NFRecConfig
from alterrec_jax.models.registry import families, read_config, read_run_config
from alterrec_jax.models.unimodal import AttributeNetworkConfig, IdNetworkConfig, VectorNetworkConfig

NAN, INFINITY = float("nan"), float("inf")


def changed(config: Any, path: str, value: Any) -> Any:
    """A copy of a record with one field, named by its path, set to a value."""
    name, _, rest = path.partition(".")
    if isinstance(config, Mapping):
        return {**config, name: changed(config[name], rest, value) if rest else value}
    return dataclasses.replace(config, **{name: changed(getattr(config, name), rest, value) if rest else value})


def test_defaults_make_sense() -> None:
    for family in families().values():
        config = family.config()
        assert config.check() is config


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("networks.id.encoder", "gru"),
        ("networks.text.encoder", ""),
        ("networks.id.init", "zeros"),
        ("networks.id.dim", 0),
        ("networks.text.layers", 0),
        ("networks.id.heads", 0),
        ("networks.id.heads", 7),
        ("networks.text.dropout", 1.0),
        ("networks.id.dropout", -0.1),
        ("networks.id.dropout", NAN),
        ("networks.text.temperature", 0.0),
        ("networks.id.temperature", INFINITY),
        ("networks.text.temperature", NAN),
        ("networks.id.learning_rate", 0.0),
        ("networks.id.learning_rate", NAN),
        ("networks.text.learning_rate", INFINITY),
        ("networks.text.weight_decay", -1e-6),
        ("networks.id.weight_decay", NAN),
        ("networks.id.weight_decay", INFINITY),
        ("networks.id.decay_every", -1),
        ("networks.text.decay_factor", 0.0),
        ("networks.text.decay_factor", 1.5),
        ("networks.id.decay_factor", NAN),
        ("networks.text.mlp_hidden", (7, 0)),
        ("networks.text.item_dropout", 1.0),
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
        ("warmup_epochs", -1),
        ("turn_epochs", 0),
        ("epochs", 0),
        ("patience", -1),
        ("networks.id.weight", -0.01),
        ("networks.text.weight", NAN),
        ("networks.id.peer", "id"),
        ("networks.text.peer", "fused"),
        ("networks.id.l2", -1.0),
        ("protocol.exclude_session_items", "maybe"),
        ("protocol.targets", "first"),
        ("protocol.select_on", "hits@10"),
        ("precision", "float16"),
        ("mining.negatives", "hard"),
        ("mining.beta_per", "item"),
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
        ("networks.text.mlp_hidden", ()),
        ("networks.text.weight", 0.0),
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


@pytest.mark.parametrize(
    ("field", "value"), [("encoder", "gru"), ("operation", "product"), ("dim", 0), ("temperature", NAN)]
)
def test_senseless_values_of_another_family_are_refused_too(field: str, value: Any) -> None:
    with pytest.raises(UserError, match=f"network.{field} is"):
        changed(NFRecConfig(), f"network.{field}", value).check()


def combined(names: tuple[str, ...], negatives: str, augment: bool) -> AlterRecConfig:
    """The defaults, with these choices."""
    networks = {name: AlterRecConfig().networks[name] for name in names}
    return AlterRecConfig(networks=networks, mining=MiningConfig(negatives=negatives, augment=augment))


@pytest.mark.parametrize("augment", [False, True])
@pytest.mark.parametrize("negatives", NEGATIVES)
@pytest.mark.parametrize("names", [("id", "text"), ("id",), ("text",)])
def test_a_peer_needs_two_networks_and_augmentation_needs_a_peer(
    names: tuple[str, ...], negatives: str, augment: bool
) -> None:
    config = combined(names, negatives, augment)
    if len(names) == 1 and negatives in ("peer", "weighted"):
        message = f"mining.negatives is {negatives}.*'full', for the network {names[0]} alone has no peer"
        with pytest.raises(UserError, match=message):
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
    config = NFRecConfig(network=fused)
    if width % heads:
        message = rf"network.heads is {heads}; it must be a divisor of the width of its embeddings \({width}\)"
        with pytest.raises(UserError, match=message):
            config.check()
    else:
        assert config.check() is config


def test_heads_do_not_matter_to_a_mean_encoder() -> None:
    config = changed(AlterRecConfig(), "networks.id", IdNetworkConfig(encoder="mean", dim=7)).check()
    assert config.networks["id"].dim == 7


def test_networks_need_names_and_a_weight() -> None:
    for name in ("fused", "next", "rest", "self", "two words", ""):
        with pytest.raises(UserError, match=f"a network is called '{name}'"):
            AlterRecConfig(networks={name: IdNetworkConfig(), "text": VectorNetworkConfig()}).check()
    with pytest.raises(UserError, match="at least one network"):
        AlterRecConfig(networks={}).check()
    networks = {"id": IdNetworkConfig(weight=0.0), "text": VectorNetworkConfig(weight=0.0)}
    with pytest.raises(UserError, match="weight is 0; it must be above 0 for one network"):
        AlterRecConfig(networks=networks).check()
    with pytest.raises(UserError, match="networks.id.peer is 'txt'; did you mean 'text'?"):
        changed(AlterRecConfig(), "networks.id.peer", "txt").check()


def test_a_window_that_begins_behind_the_catalogue_is_refused_and_a_long_one_clipped() -> None:
    with pytest.raises(UserError, match="mining.k1 is 20, but the catalogue has 20 items"):
        AlterRecConfig().build(CatalogueInfo(20))
    system = AlterRecConfig().build(CatalogueInfo(21))
    assert system.notes == ("mining.k2 (20000) exceeds the catalogue (21 items): clipped to 21",)
    assert AlterRecConfig().build(CatalogueInfo(20_000)).notes == ()


@pytest.mark.parametrize(
    "values",
    [
        {"seed": 3},
        {"networks": {"text": {"kind": "vectors", "mlp_hidden": [7, 5]}, "id": {"kind": "ids"}}, "mining": {"beta": 1}},
        {"networks": {"a": {"kind": "attributes", "attributes": ["brand"]}, "b": {"dim": 3}}},
        {},
    ],
)
def test_configuration_survives_json(values: dict[str, Any]) -> None:
    config = read_config({"model": "alterrec", **values})
    plain = json.loads(json.dumps(to_json(config)))
    again = read_config(plain)
    assert again == config and isinstance(again, AlterRecConfig)
    for name, network in again.networks.items():
        assert type(network) is type(config.networks[name])
    assert list(again.networks) == list(config.networks), "their order is that of their turns"
    assert type(again.mining.beta) is float
    assert flat(plain)["model"] == "alterrec" and flat(plain)["mining.k1"] == 20


def test_a_field_of_several_networks_is_read_by_kind() -> None:
    values = {"a": {"kind": "attributes"}, "b": {"kind": "vectors", "feature": "image"}, "c": {}}
    config = from_mapping(AlterRecConfig, {"networks": values})
    kinds = [type(network) for network in config.networks.values()]
    assert kinds == [AttributeNetworkConfig, VectorNetworkConfig, IdNetworkConfig], "the first kind where none is named"
    assert type(from_mapping(VectorNetworkConfig, {"mlp_hidden": [7]}).mlp_hidden) is tuple


def test_whole_numbers_become_floats() -> None:
    network = from_mapping(IdNetworkConfig, {"temperature": 2, "dropout": 0})
    assert (network.temperature, network.dropout) == (2.0, 0.0)
    assert type(network.temperature) is type(network.dropout) is float


@pytest.mark.parametrize(
    ("values", "parts"),
    [
        ({"sed": 1}, ("'sed'", "'seed'")),
        ({"networks": {"id": {"droput": 0.1}}}, ("configuration.networks.id", "'droput'", "'dropout'")),
        (
            {"networks": {"text": {"kind": "vectors", "mlp_widths": [1]}}},
            ("configuration.networks.text", "'mlp_widths'"),
        ),
        ({"networks": {"id": {"kind": "id"}}}, ("configuration.networks.id.kind", "'id'", "did you mean 'ids'")),
        (
            {"networks": {"id": {"kind": 3}}},
            ("configuration.networks.id.kind", "known: attributes, ids, neighbours, vectors"),
        ),
        ({"mining": {"zzzz": 1}}, ("'zzzz'", "known:", "hard_fraction")),
    ],
)
def test_unknown_fields_and_kinds_suggest_the_nearest(values: dict[str, Any], parts: tuple[str, ...]) -> None:
    with pytest.raises(UserError) as caught:
        from_mapping(AlterRecConfig, values)
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model": "bm25"}, "no model is called 'bm25'; known: alterrec, "),
        ({"model": "alterec"}, "did you mean 'alterrec'?"),
        ({}, "the file names no model; write one of alterrec, "),
        ({"model": "nfrec", "mining": {}}, "the file has no field 'mining'"),
    ],
)
def test_unknown_families_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        read_config(values, "the file")
    assert message in str(caught.value)


def test_a_family_that_counts_has_nothing_to_train() -> None:
    counting = [family for family in families().values() if family.kind == "counted"]
    for family in counting:
        with pytest.raises(UserError, match=f"{family.name} only counts, so there is nothing to train"):
            read_run_config({"model": family.name})
        assert read_config({"model": family.name}) == family.config()


def test_whether_session_items_are_candidates_is_the_datasets_word_unless_overruled() -> None:
    excludes = {
        word: [ProtocolConfig(exclude_session_items=word).excludes_session_items(known) for known in (False, True)]
        for word in ("dataset", "yes", "no")
    }
    assert excludes == {"dataset": [False, True], "yes": [True, True], "no": [False, False]}


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"seed": 1.5}, "configuration.seed"),
        ({"seed": "1"}, "configuration.seed"),
        ({"seed": True}, "configuration.seed"),
        ({"mining": {"beta": "0.5"}}, "configuration.mining.beta"),
        ({"mining": {"beta": True}}, "configuration.mining.beta"),
        ({"mining": {"augment": 1}}, "configuration.mining.augment"),
        ({"networks": {"id": {"encoder": 3}}}, "configuration.networks.id.encoder"),
        ({"networks": {"id": {"encoder": None}}}, "configuration.networks.id.encoder"),
        ({"networks": {"text": {"kind": "vectors", "mlp_hidden": [1.5]}}}, "configuration.networks.text.mlp_hidden"),
        ({"networks": {"text": {"kind": "vectors", "mlp_hidden": 300}}}, "configuration.networks.text.mlp_hidden"),
        ({"networks": {"text": {"kind": "vectors", "mlp_hidden": "300"}}}, "configuration.networks.text.mlp_hidden"),
        ({"networks": {"text": "transformer"}}, "configuration.networks.text"),
        ({"networks": ["id"]}, "configuration.networks"),
        ({"mining": 3}, "configuration.mining"),
    ],
)
def test_values_of_another_type_are_refused_by_name(values: dict[str, Any], field: str) -> None:
    with pytest.raises(UserError, match=field):
        from_mapping(AlterRecConfig, values)


def test_every_field_is_explained() -> None:
    def fields_of(record: Any) -> list[dataclasses.Field[Any]]:
        own = [
            field for field in dataclasses.fields(record) if not dataclasses.is_dataclass(getattr(record, field.name))
        ]
        nested = [getattr(record, field.name) for field in dataclasses.fields(record) if field not in own]
        return own + [field for part in nested for field in fields_of(part)]

    records = [family.config() for family in families().values()]
    for record in (*records, OptimizerConfig(), IdNetworkConfig(), VectorNetworkConfig(), AttributeNetworkConfig()):
        for field in fields_of(record):
            assert field.metadata.get("help"), f"{type(record).__name__}.{field.name}"
