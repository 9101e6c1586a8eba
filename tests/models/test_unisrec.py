"""UniSRec against the released forward pass, in fine-tuning and pretraining, and what its equations promise."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alterrec_jax.contract import Context, SessionBatch
from alterrec_jax.losses.contrastive import Contrast, contrastive
from alterrec_jax.models.unisrec import DROPPED, NAME, Built, build_network
from experiments.unisrec_checkpoint import params_of, settings_of
from tests.parity import batch_of, fixture

HELD = fixture("unisrec")
ITEMS, DIM = HELD["table_gradient"].shape
LENGTH, HEADS, TAU, WEIGHT = HELD["items"].shape[1], 2, 0.2, 0.5
CONFIG = settings_of(HELD, HEADS)[0]
CONFIG = CONFIG.__class__(**{**vars(CONFIG), "temperature": TAU})


def parameters(dtype: str, learns_ids: bool) -> dict:
    """The fixture's parameters as ours."""
    held = {**params_of(HELD, CONFIG), **({"items": {"table": HELD["item_embedding.weight"][1:]}} if learns_ids else {})}
    return jax.tree.map(lambda array: jnp.asarray(array, dtype), held)


def context(dtype: str) -> Context:
    """The fixture's vectors."""
    return Context({"text": jnp.asarray(HELD["text"], dtype), DROPPED: jnp.asarray(HELD["text_dropped"], dtype)}, {})


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
def pretraining() -> Any:
    """A compiled function of the share of item drop and int32 [prefix] targets: the loss on the fixture's prefixes, and
    its gradient. Every item that may change does, and nothing else is random."""
    functions, known = built("float32", False), context("float32")
    batch, ends = batch_of(HELD)
    is_target = jnp.isin(jnp.arange(batch.targets.size), ends)

    def loss(params: dict, item_drop: jax.Array, targets: jax.Array) -> jax.Array:
        objective = contrastive(
            NAME,
            lambda params, vectors, key: functions.adapt(params, vectors, None),
            lambda params, inputs, batch, key: functions.encode(params, inputs, batch, None),
            Contrast("text", DROPPED, TAU, WEIGHT, 1.0, item_drop, "float32"),
        )
        wanted = jnp.zeros(is_target.shape, jnp.int32).at[ends].set(targets - 1)
        of_batch = batch._replace(targets=wanted, is_target=is_target)
        terms = objective.loss({NAME: params}, known, of_batch, jax.random.key(0), None)
        return sum(terms.values()) / len(ends)

    return functools.partial(jax.jit(jax.value_and_grad(loss)), parameters("float32", False))


@pytest.mark.parametrize(
    ("tag", "item_drop", "targets"),
    [("items_", 1.0, "targets"), ("words_", 0.0, "targets"), ("equal_", 1.0, "equal_targets")],
)
def test_pretraining_is_that_of_the_released_code(tag: str, item_drop: float, targets: str) -> None:
    """Where targets are equal, of the released code with minus infinity in place of its logit of 0."""
    value, gradient = pretraining()(item_drop, HELD[targets])
    np.testing.assert_allclose(value, HELD[f"{tag}loss"], rtol=2e-6)
    compare(gradient, tag, "", 2e-5)


def test_two_items_of_equal_target_leave_the_loss_of_a_third_prefix_unchanged() -> None:
    """A prefix more of another's target adds nothing to the loss of that other, and all else stays."""
