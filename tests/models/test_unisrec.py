"""UniSRec against the released forward pass, in fine-tuning and pretraining, and what its equations promise."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alterrec_jax.contract import CatalogueInfo, Context, SessionBatch
from alterrec_jax.data.dataset import Dataset
from alterrec_jax.data.packing import Chunks, Plan, fill_rows
from alterrec_jax.errors import UserError
from alterrec_jax.losses.contrastive import CONTRASTIVE, Contrast, InBatch, augment, contrastive, in_batch_losses
from alterrec_jax.models.unisrec import (
    INDUCTIVE,
    NAME,
    TRANSDUCTIVE,
    Built,
    PretrainingConfig,
    UniSRecConfig,
    UniSRecNetworkConfig,
    build_network,
)
from alterrec_jax.nn.moe_adaptor import MoEAdaptor, adapted_items
from alterrec_jax.nn.vectors import unit
from alterrec_jax.serving.recommend import Recommender
from experiments.unisrec_checkpoint import params_of, settings_of
from tests.conftest import CATALOGUE
from tests.examples import random_model
from tests.oracles import unisrec as oracle
from tests.parity import batch_of, fixture

HELD = fixture("unisrec")
ITEMS, DIM = HELD["table_gradient"].shape
LENGTH, HEADS, TAU, WEIGHT = HELD["items"].shape[1], 2, 0.2, 0.5
CONFIG = dataclasses.replace(settings_of(HELD)[0], heads=HEADS, temperature=TAU)


def parameters(dtype: str, learns_ids: bool) -> dict:
    """The fixture's parameters as ours."""
    held = {
        **params_of(HELD, CONFIG),
        **({"items": {"table": HELD["item_embedding.weight"][1:]}} if learns_ids else {}),
    }
    return jax.tree.map(lambda array: jnp.asarray(array, dtype), held)


def context(dtype: str) -> Context:
    """The fixture's vectors."""
    return Context(
        {"text": jnp.asarray(HELD["text"], dtype), "text_dropped": jnp.asarray(HELD["text_dropped"], dtype)}, {}
    )


def built(dtype: str, learns_ids: bool) -> Built:
    return build_network(CONFIG, ITEMS, LENGTH, dtype, learns_ids)


def compare(gradient: dict, tag: str, digits: str, near: float) -> None:
    """Gradients of the parameters of which the fixture holds one."""
    adaptor = gradient["adaptor"]
    experts = adaptor["kernel"].reshape(-1, CONFIG.experts, DIM)
    found = {
        "gate_gradient": adaptor["gate"],
        "expert_gradient": experts[:, 1].T,
        "position_gradient": gradient["encoder"]["positions"]["embedding"],
    }
    found |= {"table_gradient": gradient["items"]["table"]} if "items" in gradient else {}
    for name, ours in found.items():
        np.testing.assert_allclose(ours, HELD[tag + name + digits], rtol=near, atol=near / 10, err_msg=name)


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("learns_ids", [True, False])
def test_queries_scores_and_gradients_are_those_of_the_released_code(precision: str, learns_ids: bool) -> None:
    """Without its item 0, which is a candidate there."""
    digits, near = ("64", 1e-9) if precision == "float64" else ("", 2e-5)
    tag = "" if learns_ids else "inductive_"
    with jax.enable_x64(bool(digits)):
        network, (batch, ends) = built(precision, learns_ids).network, batch_of(HELD)
        known = context(precision)

        def loss(params: dict) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
            tables = network.item_tables(params, known)
            queries = network.session_embeddings(params, tables, batch)[ends]
            scores = jnp.matmul(queries, tables.candidates.T, precision="highest")
            chosen = jnp.take_along_axis(jax.nn.log_softmax(scores), batch.targets[ends][:, None], axis=1)
            return -jnp.mean(chosen), (queries * TAU, scores)

        (value, (queries, scores)), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(
            parameters(precision, learns_ids)
        )
        for name, ours in {"queries": queries, "scores": scores, "loss": value}.items():
            assert ours.dtype == precision
            np.testing.assert_allclose(ours, HELD[tag + name + digits], rtol=near, atol=near, err_msg=name)
        compare(gradient, tag, digits, near)


@functools.cache
def pretraining() -> Callable[..., Any]:
    """The loss and its gradient, compiled, of parameters, a batch of five rows, a key, and the shares of items that
    change and of item drop; nothing else is random."""
    functions, known = built("float32", False), context("float32")

    def loss(params: dict, batch: SessionBatch, key: jax.Array, rate: float, item_drop: float) -> jax.Array:
        objective = contrastive(
            NAME,
            lambda params, vectors, key: functions.adapt(params, vectors, None),
            lambda params, inputs, batch, key: functions.encode(params, inputs, batch, None),
            Contrast("text", "text_dropped", TAU, WEIGHT, rate, item_drop, "float32"),
        )
        terms = objective.loss({NAME: params}, known, batch, key, None)
        return sum(terms.values()) / jnp.sum(batch.is_target)

    return jax.jit(jax.value_and_grad(loss))


@pytest.mark.parametrize(
    ("tag", "item_drop", "targets"),
    [("items_", 1.0, "targets"), ("words_", 0.0, "targets"), ("equal_", 1.0, "equal_targets")],
)
def test_pretraining_is_that_of_the_released_code(tag: str, item_drop: float, targets: str) -> None:
    """Every item that may change does. Where targets are equal, the released code has minus infinity for its logit of
    0 here."""
    batch, ends = batch_of(HELD)
    wanted = np.zeros(batch.targets.size, np.int32)
    wanted[ends] = HELD[targets] - 1
    batch = batch._replace(targets=wanted, is_target=np.isin(np.arange(len(wanted)), ends))
    value, gradient = pretraining()(parameters("float32", False), batch, jax.random.key(0), 1.0, item_drop)
    np.testing.assert_allclose(value, HELD[f"{tag}loss"], rtol=2e-6)
    compare(gradient, tag, "", 2e-5)


ROWS = [
    [[3, 5, 3, 8, 1], [4, 9, 2]],
    [[7, 7, 7, 0, 2, 6, 11, 5]],
    [[1, 2]],
    [[10, 12, 10], [13, 14, 15, 16], [8, 9]],
    [[6, 5], [20, 21, 22, 8], [11, 3]],
]
"""Whole sessions of the rows of a batch: of two items and of a row's eight, with repeats, immediate ones and targets
that are the same."""


def packed() -> SessionBatch:
    """Of each session all items but the last, and what follows each."""
    lengths = np.array([len(session) for row in ROWS for session in row])
    row = np.repeat(np.arange(len(ROWS)), [len(sessions) for sessions in ROWS])
    offset = np.concatenate([np.cumsum([0, *(len(session) - 1 for session in sessions[:-1])]) for sessions in ROWS])
    items = np.concatenate([session for sessions in ROWS for session in sessions]).astype(np.int32)
    zeros = np.zeros_like(lengths)
    chunks = Chunks(np.arange(len(lengths)), zeros, lengths - 1, zeros)
    batch = fill_rows(items, np.cumsum([0, *lengths]), chunks, Plan(row, offset, len(ROWS)), LENGTH)
    return batch._replace(interaction=None)


@pytest.mark.parametrize(("seed", "item_drop"), [(1, 1.0), (2, 1.0), (3, 0.0)])
def test_pretraining_is_that_of_the_equations(seed: int, item_drop: float) -> None:
    """Dropped items are gone there: prefixes are encoded from what is left."""
    batch, params, rate = packed(), parameters("float32", False), 0.4
    changed = augment(jax.random.split(jax.random.key(seed), 3)[0], jax.tree.map(jnp.asarray, batch), rate, item_drop)
    kept, reworded = (np.asarray(part) for part in (changed.batch.segments >= 0, changed.reworded))
    sessions = []
    for row, of_row in enumerate(ROWS):
        start = 0
        for session in of_row:
            places = slice(start, start + len(session) - 1)
            left, other = kept[row, places].tolist(), reworded[row, places].tolist()
            sessions.append(oracle.Augmented(session[:-1], session[1:], left, other))
            start = places.stop
    assert all(session.kept[0] for session in sessions)
    assert all(map(all, (session.kept for session in sessions))) == (item_drop == 0)
    expected = oracle.pretraining(params, sessions, HELD["text"], HELD["text_dropped"], TAU, WEIGHT)
    value, _ = pretraining()(params, batch, jax.random.key(seed), rate, item_drop)
    np.testing.assert_allclose(value, expected, rtol=2e-5)


def test_two_items_of_equal_target_leave_the_loss_of_a_third_prefix_unchanged() -> None:
    """Neither is a negative of the other, and to a third prefix each counts as any other."""
    rows, queries = (unit(jax.random.normal(jax.random.key(seed), (3, DIM))) / 0.1 for seed in range(2))

    def losses(targets: list[int], sessions: list[int]) -> np.ndarray:
        of_rows = jnp.stack([jnp.asarray(targets), jnp.asarray(sessions)], axis=1)
        return np.asarray(in_batch_losses(queries, rows, InBatch(*of_rows.T, of_rows)))

    equal, different = losses([4, 4, 9], [0, 1, 2]), losses([4, 5, 9], [0, 1, 2])
    np.testing.assert_array_equal(equal[2], different[2])
    np.testing.assert_allclose(equal[:2], [losses([4, 4, 9], [0, -1, 2])[0], losses([4, 4, 9], [-1, 1, 2])[1]])
    np.testing.assert_array_equal(losses([4, 4, 4], [0, 1, 2]), 0)
    np.testing.assert_array_equal(losses([4, 5, 6], [0, 0, 0]), 0)


def test_scores_are_those_of_the_equations() -> None:
    """Of sessions packed several a row, with an item table and vectors of length 1."""
    config = dataclasses.replace(CONFIG, unit_variance=True)
    network = build_network(config, ITEMS, LENGTH, "float32", learns_ids=True).network
    params, batch, text = parameters("float32", True), jax.tree.map(jnp.asarray, packed()), HELD["text"]
    known = Context({"text": jnp.asarray(text / np.linalg.norm(text, axis=1, keepdims=True))}, {})

    @jax.jit
    def scored(params: dict) -> jax.Array:
        tables = network.item_tables(params, known)
        queries = network.session_embeddings(params, tables, batch)
        return jnp.matmul(queries, tables.candidates.T, precision="highest").reshape(*batch.items.shape, -1)

    found, scaled = scored(params), np.asarray(known.features["text"], np.float64) * np.sqrt(text.shape[1])
    texts = [oracle.adapted(params["adaptor"], vector) for vector in scaled]
    table = np.array(texts) + HELD["item_embedding.weight"][1:]
    candidates = np.array([oracle.unit(row) for row in table])
    for row, of_row in enumerate(ROWS):
        start = 0
        for session in of_row:
            for end in range(len(session) - 1):
                query = oracle.session_vector(params["encoder"], table[session[: end + 1]])
                expected = candidates @ query / TAU
                np.testing.assert_allclose(found[row, start + end], expected, rtol=2e-5, atol=2e-5)
            start += len(session) - 1


def test_gates_start_uniform_and_noise_is_of_training_alone() -> None:
    functions, known = built("float32", False), context("float32")
    params = functions.network.init(jax.random.key(0), known)
    kernel = params["adaptor"]["kernel"].reshape(-1, CONFIG.experts, DIM)
    quiet = functions.adapt(params, known.features["text"], None)
    np.testing.assert_allclose(quiet, known.features["text"] @ kernel.mean(axis=1), rtol=1e-4, atol=1e-6)
    noisy = functions.adapt(params, known.features["text"], jax.random.key(1))
    assert not np.allclose(noisy, quiet, rtol=1e-2)


def test_a_table_in_blocks_is_the_table() -> None:
    adaptor, known, key = MoEAdaptor(DIM, CONFIG.experts, "float32", False), context("float32"), jax.random.key(3)
    params = parameters("float32", False)["adaptor"]
    tables = [adapted_items("text", adaptor, 0.2, rows)[0].embed(params, known, key) for rows in (7, ITEMS)]
    np.testing.assert_allclose(*tables, rtol=1e-5, atol=1e-6)


def test_an_item_that_was_not_in_training_is_recommended(dataset: Dataset) -> None:
    """Here one with the text of an item that the shop has, and therefore with its score."""
    config = UniSRecConfig(
        mode=INDUCTIVE, max_length=LENGTH, network=UniSRecNetworkConfig(dim=6, experts=2, layers=1, inner=5)
    )
    trained = random_model(config.check(), dataset)
    ((best, *_),) = Recommender(trained, False)([[3, 7, 3]], 3)
    new = {"text": np.asarray(dataset.text_vectors[[best.item]])}
    ((first, second, *_),) = Recommender(trained, False, new)([[3, 7, 3]], 3)
    assert {first.item, second.item} == {best.item, CATALOGUE}
    np.testing.assert_allclose([first.score, second.score], best.score, rtol=1e-5)
    with_rows = random_model(dataclasses.replace(config, mode=TRANSDUCTIVE), dataset)
    with pytest.raises(UserError, match="cannot place new items"):
        Recommender(with_rows, False, new)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"freeze_encoder": True}, "freeze_encoder is True; .* for nothing was pretrained"),
        ({"pretrain_epochs": 30}, "mode is transductive; it must be inductive where pretraining is all of a run"),
        ({"network": UniSRecNetworkConfig(heads=7)}, "network.heads is 7"),
        ({"pretraining": PretrainingConfig(item_drop=1.1)}, "pretraining.item_drop is 1.1"),
    ],
)
def test_settings_that_do_not_fit_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        UniSRecConfig(**fields).check()


def test_pretraining_comes_first_and_what_it_does_not_read_is_frozen() -> None:
    config = UniSRecConfig(pretrain_epochs=2, epochs=5, freeze_encoder=True).check()
    first, second = config.build(CatalogueInfo(ITEMS)).stages
    assert (first.objective, first.epochs, first.chooses, first.frozen) == (CONTRASTIVE, 2, False, ("unisrec/items",))
    assert (second.objective, second.epochs, second.chooses) == ("full", 3, True)
    assert second.frozen == tuple(f"unisrec/encoder/{part}" for part in ("positions", "block_0", "block_1"))
    cut = dataclasses.replace(config, epochs=2, mode="inductive").check().build(CatalogueInfo(ITEMS)).stages[1]
    assert (cut.epochs, cut.frozen) == (0, second.frozen), "so that a longer run goes on with the same optimizer"
    (only,) = UniSRecConfig(epochs=5).check().build(CatalogueInfo(ITEMS)).stages
    assert (only.objective, only.frozen) == ("full", ())
