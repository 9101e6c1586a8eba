"""Small sessions and datasets, made in memory."""

import pathlib
from collections.abc import Sequence

import numpy as np
import polars as pl

from alterrec_jax.contract import View
from alterrec_jax.data.dataset import Dataset, Sessions


def make_sessions(
    lists: Sequence[Sequence[int]],
    first_target: Sequence[int] | int = 1,
    alone: Sequence[Sequence[bool]] | None = None,
) -> Sessions:
    lengths = [len(items) for items in lists]
    names = pl.Series([f"s{i}" for i in range(len(lists))], dtype=pl.String)
    return Sessions(
        items=np.array([item for items in lists for item in items], np.int32),
        offsets=np.concatenate([np.zeros(1, np.int64), np.cumsum(np.array(lengths, np.int64))]),
        first_target=np.broadcast_to(np.array(first_target, np.int32), (len(lists),)),
        session_ids=names,
        user_ids=names,
        alone=None if alone is None else np.array([one for session in alone for one in session], bool),
    )


def random_sessions(rng: np.random.Generator, sessions: int, items: int, longest: int = 9) -> Sessions:
    return make_sessions([rng.integers(0, items, rng.integers(0, longest + 1)).tolist() for _ in range(sessions)])


def make_dataset(train: Sessions, test: Sessions, items: int, catalogue: int) -> Dataset:
    table = pl.DataFrame({"item_id": [str(i) for i in range(items)], "name": "", "text": ""})
    return Dataset(
        path=pathlib.Path("memory"),
        manifest={"counts": {"items": items, "catalogue": catalogue}, "fingerprint": "f"},
        items=table,
        vectors={"text": np.zeros((items, 3), np.float32)},
        splits={"train": train, "validation": test, "test": test},
    )


def fusion(weight: float) -> dict[str, View]:
    """Two components fused, the first with a weight (alpha), and each alone."""
    return {"fused": {"id": weight, "text": 1 - weight}, "id": {"id": 1.0}, "text": {"text": 1.0}}
