"""The co-occurrence loss by hand, and which items it compares with."""

import jax
import jax.numpy as jnp
import numpy as np

from alterrec_jax.data.cooccurrence import companions
from alterrec_jax.losses.cooccurrence import cooccurrence_losses, never_met
from tests.evaluation.examples import make_sessions

LOSSES = jax.jit(cooccurrence_losses, static_argnums=(3, 4))


def test_three_items_by_hand() -> None:
    # 0 and 1 met; 2 met nobody. So 0 and 1 are compared with 2 ten times, which is all that they never met.
    known = jax.tree.map(jnp.asarray, companions(make_sessions([[0, 1], [1, 0], [2]]), 3))
    table = jnp.asarray([[3.0, 0.0], [3.0, 4.0], [0.0, -2.0]])
    losses, counts = LOSSES(jax.random.key(0), table, known, 3, 512)
    near, far = 0.6, np.array([0.0, -0.8])
    np.testing.assert_allclose(losses[:2], np.log(np.exp(near) + 10 * np.exp(far)) - near, rtol=1e-6)
    assert counts.tolist() == [True, True, False] and losses[2] == 0


def test_frequent_companions_weigh_more() -> None:
    known = jax.tree.map(jnp.asarray, companions(make_sessions([[0, 1], [0, 1], [0, 1], [0, 2], [1, 2]]), 3))
    table = jnp.asarray([[1.0, 0.0], [2.0, 0.0], [0.0, 8.0]])
    losses, _ = LOSSES(jax.random.key(0), table, known, 3, 3)
    # Item 0 met all: nothing to be compared with, log(e^c) - c is 0.
    np.testing.assert_allclose(losses, 0, atol=1e-6)
    known = jax.tree.map(jnp.asarray, companions(make_sessions([[0, 1], [0, 1], [0, 1], [0, 2], [3]]), 4))
    table = jnp.concatenate([table, jnp.asarray([[0.0, 1.0]])])
    losses, _ = LOSSES(jax.random.key(0), table, known, 4, 4)
    near = 6 / np.hypot(6, 8)  # of [1, 0] and (3 [2, 0] + [0, 8]) / 4
    np.testing.assert_allclose(losses[0], np.log(np.exp(near) + 10) - near, rtol=1e-6)


def test_items_never_met_are_uniform() -> None:
    rng = np.random.default_rng(0)
    lists = [rng.integers(0, 23, 5).tolist() for _ in range(25)]
    items = 24
    known = companions(make_sessions(lists), items)
    drawn = jnp.arange(items)
    found, has_others = never_met(jax.random.key(1), jax.tree.map(jnp.asarray, known), drawn, items, 20_000)
    assert has_others.all()
    for item, others in enumerate(np.asarray(found)):
        met = known.items[known.offsets[item] : known.offsets[item + 1]]
        counts = np.bincount(others, minlength=items)
        assert not counts[met].any()
        free = np.delete(counts, met)
        np.testing.assert_allclose(free, 20_000 / len(free), rtol=0.15)


def test_gradients_are_finite_where_nobody_met_and_where_all_did() -> None:
    for lists in ([[0], [1], [2]], [[0, 1, 2]]):
        known = jax.tree.map(jnp.asarray, companions(make_sessions(lists), 3))

        def total(table: jax.Array, known: object = known) -> jax.Array:
            return jnp.sum(cooccurrence_losses(jax.random.key(0), table, known, 3, 2)[0])  # type: ignore[arg-type]

        assert np.isfinite(jax.jit(jax.grad(total))(jnp.ones((3, 4)).at[1].set(0))).all()
