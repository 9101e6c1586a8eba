"""Where each target of an evaluation stands, as a Parquet file of one row a target."""

import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import polars as pl
from polars.io.plugins import register_io_source

from alterrec_jax.data.dataset import Dataset
from alterrec_jax.data.targets import Targets
from alterrec_jax.errors import UserError
from alterrec_jax.evaluation.best_items import NO_ITEM
from alterrec_jax.evaluation.rank_counts import MISS
from alterrec_jax.evaluation.ranking import Ranks
from alterrec_jax.runtime import files
from alterrec_jax.runtime.polars_errors import panics_as_errors


def write_per_target(
    path: str | os.PathLike[str],
    dataset: Dataset,
    split: str,
    targets: Targets,
    ranks: Mapping[str, Ranks],
    items: Mapping[str, np.ndarray],
    rows_at_once: int = 2**16,
) -> None:
    """Writes the file, whole or not at all, some rows at a time.

    Its columns are session_id; position, the target's place in its session, from 0; item_id; in_catalogue; and of each
    ranking NAME_rank, from 1, in expectation under a random order of what ties, null where the target is no candidate;
    NAME_tied, how many candidates share it, the target among them; and, where lists were kept, NAME_items, the ids of
    the best items, the best first.

    Args:
      path: the file.
      dataset, split, targets: what was ranked.
      ranks: of each ranking.
      items: of some rankings, int32 [targets, k], as of `recommended.Recommended.items`.
      rows_at_once: how many are held as text.

    Raises:
      UserError: the file cannot be written.
    """

    def batches(columns: Any, predicate: Any, rows: Any, batch_size: Any) -> Iterator[pl.DataFrame]:
        del columns, predicate, rows, batch_size  # everything is written
        for start in range(0, max(len(targets), 1), rows_at_once):
            yield _table(dataset, split, targets, ranks, items, slice(start, start + rows_at_once))

    schema = _table(dataset, split, targets, ranks, items, slice(0, 0)).schema
    try:
        with panics_as_errors(), files.replacing(path) as partial:
            register_io_source(batches, schema=schema).sink_parquet(partial)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UserError(f"{path} cannot be written ({error}); is the disk full, or the folder not yours?") from None


def _table(
    dataset: Dataset,
    split: str,
    targets: Targets,
    ranks: Mapping[str, Ranks],
    items: Mapping[str, np.ndarray],
    rows: slice,
) -> pl.DataFrame:
    part, ids = targets[rows], dataset.items["item_id"]
    columns = {
        "session_id": dataset.splits[split].session_ids.gather(part.session),
        "position": pl.Series(part.position, dtype=pl.Int32),
        "item_id": ids.gather(part.item),
        "in_catalogue": pl.Series(part.item < dataset.catalogue_size, dtype=pl.Boolean),
    }
    for name, rank in ranks.items():
        above, equal = rank.above[rows], rank.equal[rows]
        candidate = pl.Series(above != MISS)
        columns[f"{name}_rank"] = pl.Series(above + (equal.astype(np.float64) + 1) / 2).set(~candidate, None)
        columns[f"{name}_tied"] = pl.Series(equal, dtype=pl.Int32).set(~candidate, None)
        if name in items:
            columns[f"{name}_items"] = _id_lists(items[name][rows], ids)
    return pl.DataFrame(columns)


def _id_lists(items: np.ndarray, ids: pl.Series) -> pl.Series:
    """The ids of each row's items, int32 [row, k], as lists of text."""
    numbers = pl.Series(items.reshape(-1), dtype=pl.Int32)
    flat = ids.gather(numbers.set(numbers == NO_ITEM, None))
    lists = flat.reshape((len(items), items.shape[1])) if len(items) else pl.Series([], dtype=pl.List(pl.String))
    return lists.cast(pl.List(pl.String)).list.drop_nulls()
