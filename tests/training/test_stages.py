"""Who trains when, against whom, read as a tape."""

from typing import Any

import pytest

from alterrec_jax.contract import CatalogueInfo, Stage
from alterrec_jax.models.alterrec import AlterRecConfig, MiningConfig
from alterrec_jax.models.core import COREConfig
from alterrec_jax.models.nfrec import NFRecConfig
from alterrec_jax.models.sasrec import SASRecConfig
from alterrec_jax.models.unimodal import IdNetworkConfig, VectorNetworkConfig
from alterrec_jax.stages import alternation, limited, tape

BOTH = ("id", "text")
ID, TEXT = "id:random", "text:random"
ID_WINDOW, TEXT_WINDOW = "id:window(text)", "text:window(id)"
NETWORKS: dict[str, Any] = {
    "id": IdNetworkConfig(),
    "text": VectorNetworkConfig(),
    "image": VectorNetworkConfig(feature="image", weight=2.0),
}


def config_of(epochs: int, names: tuple[str, ...] = BOTH, negatives: str = "peer", **fields: Any) -> AlterRecConfig:
    """AlterRec on such networks."""
    mining = MiningConfig(negatives=negatives, augment=negatives == "peer")
    networks = {name: NETWORKS[name] for name in names}
    return AlterRecConfig(epochs=epochs, networks=networks, mining=mining, **fields).check()


def stages_of(config: Any, *constant: str) -> tuple[Stage, ...]:
    """The stages of its system, on data of which some features are the same for every item."""
    return config.build(CatalogueInfo(30_000, constant=frozenset(constant))).stages


def words(config: Any, *constant: str) -> str:
    """The tape of a configuration."""
    return " ".join(map(str, tape(stages_of(config, *constant))))


def test_tape_of_the_paper() -> None:
    config = config_of(13, warmup_epochs=2, turn_epochs=2)
    assert words(config) == (
        "id:random id:random text:random text:random "
        "id:window(text) id:window(text) text:window(id) text:window(id) "
        "id:window(text) id:window(text) text:window(id) text:window(id) "
        "id:window(text)"
    )
    assert [epoch.within for epoch in tape(stages_of(config))] == [0, 1] * 6 + [0]
    assert [epoch.number for epoch in tape(stages_of(config))] == [n // 2 for n in range(13)]


@pytest.mark.parametrize(
    ("warmup_epochs", "turn_epochs", "epochs", "expected"),
    [
        (0, 1, 4, [ID_WINDOW, TEXT_WINDOW, ID_WINDOW, TEXT_WINDOW]),
        (0, 3, 5, [ID_WINDOW, ID_WINDOW, ID_WINDOW, TEXT_WINDOW, TEXT_WINDOW]),
        (1, 3, 6, [ID, TEXT, ID_WINDOW, ID_WINDOW, ID_WINDOW, TEXT_WINDOW]),
        (3, 1, 8, [ID, ID, ID, TEXT, TEXT, TEXT, ID_WINDOW, TEXT_WINDOW]),
        (3, 2, 4, [ID, ID, ID, TEXT]),
        (5, 2, 1, [ID]),
    ],
)
def test_tape_of_odd_settings(warmup_epochs: int, turn_epochs: int, epochs: int, expected: list[str]) -> None:
    assert words(config_of(epochs, warmup_epochs=warmup_epochs, turn_epochs=turn_epochs)) == " ".join(expected)


@pytest.mark.parametrize(
    ("names", "negatives", "expected"),
    [
        (BOTH, "self", "id:random text:random id:own_window id:own_window text:own_window"),
        (BOTH, "uniform", "id:random text:random id:random id:random text:random"),
        (BOTH, "full", "id:full text:full id:full id:full text:full"),
        (("id",), "self", "id:random id:own_window id:own_window id:own_window id:own_window"),
        (("text",), "uniform", "text:random text:random text:random text:random text:random"),
    ],
)
def test_tape_of_networks_that_learn_apart(names: tuple[str, ...], negatives: str, expected: str) -> None:
    assert words(config_of(5, names, negatives, warmup_epochs=1, turn_epochs=2)) == expected


@pytest.mark.parametrize(
    ("config", "expected"),
    [(NFRecConfig(epochs=3), "fused:full"), (SASRecConfig(epochs=3), "id:full"), (COREConfig(epochs=3), "core:full")],
)
def test_tape_of_one_network_of_its_own(config: Any, expected: str) -> None:
    assert words(config) == " ".join([expected] * 3)


def test_three_networks_take_turns_and_mine_the_next_one_or_the_rest() -> None:
    names = ("id", "text", "image")
    assert words(config_of(8, names, warmup_epochs=1, turn_epochs=1)) == (
        "id:random text:random image:random "
        "id:window(text) text:window(image) image:window(id) id:window(text) text:window(image)"
    )
    networks = {
        "id": IdNetworkConfig(peer="rest"),
        "text": VectorNetworkConfig(peer="id"),
        "image": VectorNetworkConfig(feature="image", weight=3.0, peer="rest"),
    }
    config = AlterRecConfig(epochs=3, warmup_epochs=0, turn_epochs=1, networks=networks).check()
    assert words(config) == "id:window(text+image) text:window(id) image:window(id+text)"
    # The rest weigh as in the fusion: here 1 to 3, and alike.
    assert [dict(stage.peer) for stage in stages_of(config)] == [
        pytest.approx({"text": 0.25, "image": 0.75}),
        {"id": 1.0},
        pytest.approx({"id": 0.5, "text": 0.5}),
    ]


@pytest.mark.parametrize(
    ("names", "negatives", "constant", "expected"),
    [
        (BOTH, "peer", ["text"], "id:random id:random id:random id:random id:random"),
        (BOTH, "self", ["text"], "id:random id:own_window id:own_window id:own_window id:own_window"),
        (BOTH, "full", ["text"], "id:full id:full id:full id:full id:full"),
        (BOTH, "peer", ["image"], "id:random text:random id:window(text) text:window(id) id:window(text)"),
        (
            ("id", "text", "image"),
            "peer",
            ["text"],
            "id:random image:random id:window(image) image:window(id) id:window(image)",
        ),
        (("id", "text", "image"), "peer", ["text", "image"], "id:random id:random id:random id:random id:random"),
    ],
)
def test_a_network_that_ties_all_items_is_neither_trained_nor_mined(
    names: tuple[str, ...], negatives: str, constant: list[str], expected: str
) -> None:
    assert words(config_of(5, names, negatives, warmup_epochs=1, turn_epochs=1), *constant) == expected


def test_whoever_names_such_a_network_its_peer_stays_with_uniform_negatives() -> None:
    networks: dict[str, Any] = {
        "id": IdNetworkConfig(peer="text"),
        "text": VectorNetworkConfig(),
        "image": VectorNetworkConfig(feature="image", peer="rest"),
    }
    config = AlterRecConfig(epochs=4, warmup_epochs=1, turn_epochs=1, networks=networks).check()
    assert words(config, "text") == "id:random image:random id:random image:window(id)"
    (note,) = config.build(CatalogueInfo(30_000, constant=frozenset(["text"]))).notes
    assert note == "note: the network id has no peer that ranks anything: its turns are on uniform negatives"


def test_a_tape_does_not_depend_on_how_long_the_run_is() -> None:
    long = words(config_of(17)).split()
    for epochs in (1, 9, 12):
        assert words(config_of(epochs)).split() == long[:epochs]


def test_turns_by_hand() -> None:
    found = alternation(
        ("a", "b"),
        5,
        warmup_epochs=0,
        turn_epochs=2,
        warmup="random",
        objective="window",
        peers={"a": {"b": 1.0}},
    )
    assert found == (
        Stage(("a",), "window", 2, "a", (("b", 1.0),)),
        Stage(("b",), "window", 2, "b"),
        Stage(("a",), "window", 1, "a", (("b", 1.0),), uncut=2),
    )


def test_stages_are_cut_where_the_run_ends() -> None:
    stages = (Stage(("a", "b"), "full", 3, "all"), Stage(("a",), "full", 0, "a"), Stage(("b",), "full", 3, "b"))
    assert [(stage.trains, stage.epochs) for stage in limited(stages, 4)] == [(("a", "b"), 3), (("b",), 1)]
    assert limited(stages, 0) == ()
    assert " ".join(map(str, tape(limited(stages, 4)))) == "a+b:full a+b:full a+b:full b:full"
