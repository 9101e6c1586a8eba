"""Fixtures of forward passes of released PyTorch code, and how their parameters become ours.

`tests/fixtures/NAME.npz` holds numbers alone: random weights by their PyTorch names (one by its Keras names), five
prefixes, and what the released class made of them: `queries` [prefix, dim], `scores` [prefix, item], the cross-entropy
over all items and its gradient. Names that end in 64 are the same of the class in float64. `docs/parity.md` says which
code each is from.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from alterrec_jax.contract import Context, Network, Params, SessionBatch
from alterrec_jax.data.packing import Chunks, Plan, fill_rows

FOLDER = pathlib.Path(__file__).parent / "fixtures"


def fixture(name: str) -> dict[str, np.ndarray]:
    """The arrays of a fixture."""
    with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as held:
        return {key: held[key] for key in held}


def batch_of(held: Mapping[str, np.ndarray]) -> tuple[SessionBatch, np.ndarray]:
    """The prefixes one a row, and the flat position at which each ends. Items count from 0 here, from 1 there."""
    lengths, width = held["lengths"], held["items"].shape[1]
    items = np.concatenate([row[:length] for row, length in zip(held["items"], lengths, strict=True)]) - 1
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    rows = np.arange(len(lengths))
    chunks = Chunks(rows, np.zeros_like(rows), lengths.astype(np.int64), lengths.astype(np.int64) - 1)
    batch = fill_rows(items.astype(np.int32), offsets, chunks, Plan(rows, np.zeros_like(rows), len(rows)), width)
    ends = rows * width + lengths - 1
    targets = np.zeros(batch.targets.shape, np.int32)
    targets[ends] = held["targets"] - 1
    return batch._replace(targets=targets, interaction=None), ends


def loss_and_gradient(network: Network, params: Params, context: Context, batch: SessionBatch, ends: np.ndarray) -> Any:
    """((loss, (queries, scores)), gradient) of the prefixes: their mean cross-entropy over the catalogue."""

    def loss(params: Params) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        tables = network.item_tables(params, context)
        queries = network.session_embeddings(params, tables, batch)[ends]
        scores = jnp.matmul(queries, tables.candidates.T, precision="highest")
        chosen = jnp.take_along_axis(jax.nn.log_softmax(scores), batch.targets[ends][:, None], axis=1)
        return -jnp.mean(chosen), (queries, scores)

    return jax.jit(jax.value_and_grad(loss, has_aux=True))(params)


def kernel(held: Mapping[str, np.ndarray], name: str, dtype: Any = np.float32) -> np.ndarray:
    """A linear map: PyTorch stores [out, in]."""
    return jnp.asarray(held[f"{name}.weight"].T, dtype)


def dense(held: Mapping[str, np.ndarray], name: str, dtype: Any = np.float32) -> dict[str, np.ndarray]:
    """A linear layer, with its bias if it has one."""
    found = {"kernel": kernel(held, name, dtype)}
    if f"{name}.bias" in held:
        found["bias"] = jnp.asarray(held[f"{name}.bias"], dtype)
    return found


def norm(held: Mapping[str, np.ndarray], name: str, dtype: Any = np.float32) -> dict[str, np.ndarray]:
    """A LayerNorm."""
    return {
        "scale": jnp.asarray(held[f"{name}.weight"], dtype),
        "bias": jnp.asarray(held[f"{name}.bias"], dtype),
    }


def attention(
    held: Mapping[str, np.ndarray], names: Mapping[str, str], heads: int, dtype: Any = np.float32
) -> dict[str, dict[str, np.ndarray]]:
    """Multi-head attention; `names` gives the four maps query, key, value and out."""
    found: dict[str, dict[str, np.ndarray]] = {}
    for part, name in names.items():
        weights = dense(held, name, dtype)
        width = weights["kernel"].shape[0]
        split = (heads, width // heads)
        shape = (*split, width) if part == "out" else (width, *split)
        found[part] = {"kernel": weights["kernel"].reshape(shape)}
        if "bias" in weights:
            found[part]["bias"] = weights["bias"] if part == "out" else weights["bias"].reshape(split)
    return found
