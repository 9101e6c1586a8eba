"""The catalogue of a run, kept beside its checkpoints: which row of its tables is which item, made from which text.

A run can be asked about any dataset that knows these items, whatever numbers it gives them.
"""

import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from alterrec_jax.data.dataset import Dataset
from alterrec_jax.errors import UserError
from alterrec_jax.runtime import files
from alterrec_jax.runtime.polars_errors import panics_as_errors

FILE = "catalogue.parquet"


def write_catalogue(workdir: str | os.PathLike[str], dataset: Dataset) -> None:
    """Writes item_id and text of the items that a run scores, in the order of its tables."""
    with files.replacing(pathlib.Path(workdir) / FILE) as partial:
        dataset.items.head(dataset.catalogue_size).select("item_id", "text").write_parquet(partial)


def encoder_of(dataset: Dataset) -> dict[str, Any]:
    """What text vectors depend on besides the texts: the encoder's hash, and how it treats several columns."""
    made_with = dataset.manifest.get("text_encoder", {})
    return {name: made_with.get(name) for name in ("sha256", "fusion")}


def as_numbered_in(workdir: str | os.PathLike[str], dataset: Dataset, encoder: Mapping[str, Any]) -> Dataset:
    """The dataset with the catalogue of a run: its items in the order of the run's tables, all others behind them.

    Args:
      workdir: where the run was trained.
      dataset: another one than the run was trained on.
      encoder: `encoder_of` the dataset that it was trained on.

    Raises:
      UserError: the dataset lacks an item of the run or has another text for it, or its texts were encoded otherwise.
    """
    path = pathlib.Path(workdir) / FILE
    try:
        with panics_as_errors():
            wanted = pl.read_parquet(path, columns=["item_id", "text"])
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UserError(f"{path} cannot be read ({error}); give no --data_dir, to use the run's own dataset") from None
    if not len(wanted) or wanted["item_id"].is_duplicated().any():
        raise UserError(f"{path} is damaged: it names no item, or one twice; give no --data_dir, to use the run's own")
    if encoder_of(dataset) != encoder:
        raise UserError(
            f"the texts of {dataset.path} were encoded by {encoder_of(dataset)}, those of the run in {workdir} by "
            f"{encoder}; prepare the dataset with that --text_model and --text_fusion"
        )
    found = wanted.join(dataset.items.with_row_index("number"), on="item_id", how="left", maintain_order="left")
    remedy = "give --data_dir a dataset prepared from the same items"
    if len(lacking := found.filter(pl.col("number").is_null())):
        raise UserError(
            f"{dataset.path} lacks {len(lacking):,} of the {len(wanted):,} items that {workdir} was trained on, "
            f"'{lacking['item_id'][0]}' for one; {remedy}"
        )
    if len(changed := found.filter(pl.col("text") != pl.col("text_right"))):
        raise UserError(
            f"{dataset.path} has another text than {workdir} was trained on for {len(changed):,} items, "
            f"'{changed['item_id'][0]}' for one; {remedy}"
        )
    first = found["number"].to_numpy().astype(np.int64)
    others = np.setdiff1d(np.arange(len(dataset.items)), first)
    return dataset.renumbered(np.concatenate([first, others]), len(first))
