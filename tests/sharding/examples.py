"""Meshes of eight virtual devices, and what the small networks read and are made of on them."""

import re
from contextlib import AbstractContextManager
from typing import Any

import jax
import numpy as np

from alterrec_jax.contract import Context, Network, SessionBatch
from alterrec_jax.sharding import mesh
from alterrec_jax.sharding.per_item import is_per_item
from alterrec_jax.training import steps
from tests.training.examples import ITEMS, vectors

ONE, MESHES = "data:1", ("data:8", "model:8", "data:4,model:2")
PER_ITEM = ("items/table", "items/id/table")
"""What of the parameters of the small networks holds a row an item."""


def on_mesh(words: str) -> AbstractContextManager[Any]:
    """Uses a mesh of all eight devices, or of a single one."""
    return mesh.used(mesh.make_mesh(words, jax.devices()[: 1 if words == ONE else 8]))


def padded_rows(batch: SessionBatch) -> SessionBatch:
    """A packed batch on the devices, behind its rows as many empty ones as it takes to share them."""
    rows, length = batch.items.shape
    of_rows = jax.tree.map(lambda column: column.reshape(rows, length), batch)
    on_devices = jax.tree.map(lambda column: mesh.put_rows(column, column.dtype, mesh.DATA), of_rows)
    flat = {name: getattr(on_devices, name).reshape(-1) for name in ("targets", "is_target", "interaction")}
    return on_devices._replace(**flat)


def context_on_mesh() -> Context:
    """As of `tests.training.examples`."""
    return Context(
        {"text": mesh.put_rows(vectors(), np.float32), "image": mesh.put_rows(vectors(10, 4), np.float32)}, {}
    )


def params_on_mesh(network: Network, context: Context, seed: int) -> Any:
    """Parameters of ordinary size, the same on every mesh, on its devices."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(network.init, jax.random.key(0), context)

    def drawn(path: tuple[Any, ...], leaf: Any) -> jax.Array:
        if is_per_item(network.per_item, path):
            return mesh.put_rows(rng.normal(size=(ITEMS, *leaf.shape[1:])), np.float32)
        return mesh.put(rng.normal(size=leaf.shape).astype(np.float32))

    return jax.tree_util.tree_map_with_path(drawn, shapes)


def assert_alike(found: steps.StageState, whole: steps.StageState) -> None:
    """Sums and parameters, those of padding left out, which must be zeros."""
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), found.totals, whole.totals)
    assert_params_alike(found.params, whole.params)


def assert_params_alike(found: Any, whole: Any) -> None:
    """The parameters of networks, by name."""

    def alike(path: tuple[Any, ...], leaf: np.ndarray, wanted: np.ndarray) -> None:
        if is_per_item(PER_ITEM, path):
            assert not leaf[ITEMS:].any()
            leaf = leaf[:ITEMS]
        np.testing.assert_allclose(leaf, wanted, rtol=1e-4, atol=1e-5, err_msg=jax.tree_util.keystr(path))

    jax.tree_util.tree_map_with_path(alike, found, whole)


_COLLECTIVE = re.compile(
    r" = (?P<results>.*?) (?P<kind>all-reduce|all-gather|reduce-scatter|(?:ragged-)?all-to-all|collective-[a-z]+)"
    r"(?:-start)?\("
)


def collectives(text: str) -> list[tuple[str, tuple[int, ...]]]:
    """The kind and the shape of everything that devices send one another in a program, by the text of its HLO."""
    return [
        (match["kind"], tuple(int(size) for size in dimensions.split(",") if size))
        for match in _COLLECTIVE.finditer(text)
        for dimensions in re.findall(r"[a-z]\w*\[([\d,]*)\]", match["results"])
    ]
