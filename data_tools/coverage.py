"""Of how many items something is known: for the manifest, and as a table."""

from typing import Any

import numpy as np
import polars as pl

from alterrec_jax.data.dataset import Dataset
from alterrec_jax.data.dataset_files import ATTRIBUTE_COLUMNS, TEXT


def known(column: pl.Series | np.ndarray) -> np.ndarray:
    """bool [items], of which items a column or a table of vectors says something.

    Args:
      column: of a table: null, an empty text and an empty list say nothing. Of vectors [items, width]: zeros do.
    """
    if isinstance(column, np.ndarray):
        return np.asarray(np.any(column, axis=1))
    if column.dtype == pl.List:
        return (column.list.len() > 0).fill_null(False).to_numpy()
    if column.dtype == pl.String:
        return (column != "").fill_null(False).to_numpy()
    return column.is_not_null().to_numpy()


def coverage_of(column: pl.Series | np.ndarray, catalogue_size: int) -> dict[str, Any]:
    """The shares of all items and of the catalogue (the first `catalogue_size`) of which `column` says something."""
    items = known(column)
    return {"coverage": _share(items), "catalogue_coverage": _share(items[:catalogue_size])}


def coverage_table(dataset: Dataset) -> list[tuple[str, float, float]]:
    """Of each text, attribute and table of vectors: its name, and the shares that `known` finds.

    Returns:
      rows of the name, the share of the catalogue, and the share of the training interactions, whose items have it.
    """
    columns: dict[str, pl.Series | np.ndarray] = {"text": dataset.items["text"]}
    columns |= {name: dataset.items[name] for name in ATTRIBUTE_COLUMNS if name in dataset.items.columns}
    columns.pop("image_sha256", None)
    given = dataset.text_encoders.get(TEXT, {}).get("given")  # else the texts tell
    columns |= {f"{name} vectors": rows for name, rows in dataset.vectors.items() if name != TEXT or given}
    size, clicked = dataset.catalogue_size, dataset.splits["train"].items
    return [
        (name, _share(items[:size]), _share(items[clicked]))
        for name, items in ((name, known(column)) for name, column in columns.items())
    ]


def _share(items: np.ndarray) -> float:
    return float(items.mean()) if len(items) else 0.0
