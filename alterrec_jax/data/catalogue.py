"""The catalogue of a run, kept beside its checkpoints: which row of its tables is which item, made from which text.

A run can be asked about any dataset that knows these items, whatever numbers it gives them. Prices and other
attributes stay those that the run was trained with: they may come from counts over its training sessions.
"""

import dataclasses
import os
import pathlib
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import polars as pl

from alterrec_jax.data.dataset import Dataset
from alterrec_jax.data.dataset_files import IMAGE_FEATURES, TEXT
from alterrec_jax.errors import UserError
from alterrec_jax.runtime import files
from alterrec_jax.runtime.polars_errors import panics_as_errors

FILE = "catalogue.parquet"
_COMPARED = {"text": "another text", "image_words": "other image words"}  # what vectors are made from
_DATASET = "dataset_fingerprint"
_KEPT = ("price", "category", "brand", "attributes")
_DEPENDED_ON = ("sha256", "fusion")  # what vectors of texts depend on: the encoder, and how it treats several columns


def write_catalogue(workdir: str | os.PathLike[str], dataset: Dataset) -> None:
    """Writes ids, texts and attributes of the items that a run scores, in the order of its tables.

    The file's own metadata name the dataset, so that a run's files can be compared with each other.
    """
    columns = [name for name in ("item_id", *_COMPARED, *_KEPT) if name in dataset.items.columns]
    with files.replacing(pathlib.Path(workdir) / FILE) as partial:
        dataset.items.head(dataset.catalogue_size).select(columns).write_parquet(
            partial, metadata={_DATASET: dataset.fingerprint}
        )


def catalogue_dataset(workdir: str | os.PathLike[str]) -> str | None:
    """The fingerprint of the dataset that a workdir's catalogue is of; None where no file there tells it."""
    try:
        with panics_as_errors():
            return pl.read_parquet_metadata(pathlib.Path(workdir) / FILE).get(_DATASET)
    except (pl.exceptions.PolarsError, OSError):
        return None


def encoders_of(dataset: Dataset) -> dict[str, dict[str, Any]]:
    """By feature, what its vectors depend on besides texts and images, and its name: of the record of a run."""
    notes = dataset.manifest.get("vectors", {}).items()
    of_images = {name: note["made_with"] for name, note in notes if "made_with" in note}
    return {
        feature: {name: made_with.get(name) for name in (*_DEPENDED_ON, "model", "given")}
        for feature, made_with in {**of_images, **dataset.text_encoders}.items()
    }


def require_encoders(whose: str, features: Collection[str], record: Mapping[str, Any], dataset: Dataset) -> None:
    """Refuses a dataset whose texts were encoded otherwise than those that a run was trained on.

    Args:
      whose: the beginning of the sentence that refuses; it goes on with the feature.
      features: those that are read.
      record: of the dataset that the run was trained on, as of `run_state.run_of`.
      dataset: the other one.

    Raises:
      UserError: names both encoders.
    """
    there, here = record.get("text_encoders", {TEXT: record.get("text_encoder", {})}), encoders_of(dataset)
    for feature in features:
        before, now = (one.get(feature, {}) for one in (there, here))
        if encoded_alike(before, now):
            continue
        flag = "--text_model" if feature == TEXT else f"--text_models={feature}=MODEL"
        remedy = f"prepare the dataset with that {flag} and --text_fusion"
        if feature in IMAGE_FEATURES:
            remedy = "make them as there, by data_tools.label_images or --vectors"
        if before.get("given") or now.get("given"):
            remedy = (
                "vectors that were given are known by their file alone: give the same --text_vectors, or train anew"
            )
        raise UserError(
            f"{whose} {feature} vectors {described(before)}, those of {dataset.path} are {described(now)}; {remedy}"
        )


def encoded_alike(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether equal texts have equal vectors by two encoders, as a manifest or the record of a run has them."""
    return all(one.get(name) == other.get(name) for name in _DEPENDED_ON)


def described(encoder: Mapping[str, Any]) -> str:
    """What made the vectors of a feature, for a sentence."""
    if not encoder.get("sha256"):
        return "not made of texts, or not there"
    fusion = f", {encoder['fusion']}" if encoder.get("fusion") else ""
    return f"of {encoder.get('model') or 'a model'} (sha256 {encoder['sha256']}{fusion})"


def as_numbered_in(workdir: str | os.PathLike[str], dataset: Dataset) -> Dataset:
    """The dataset with the catalogue of a run: its items in the order of the run's tables, all others behind them.

    Args:
      workdir: where the run was trained.
      dataset: another one than the run was trained on.

    Returns:
      the dataset, renumbered, its vectors of all features with it. The run's items have the price, category, brand
      and attributes that the run was trained with.

    Raises:
      UserError: the dataset lacks an item of the run, or has another text or other image words for it.
    """
    wanted = read_catalogue(workdir, "give no --data_dir, to use the run's own dataset")
    found = wanted.join(dataset.items.with_row_index("number"), on="item_id", how="left", maintain_order="left")
    remedy = "give --data_dir a dataset prepared from the same items"
    if len(lacking := found.filter(pl.col("number").is_null())):
        raise UserError(
            f"{dataset.path} lacks {len(lacking):,} of the {len(wanted):,} items that {workdir} was trained on, "
            f"'{lacking['item_id'][0]}' for one; {remedy}"
        )
    for column, other in _COMPARED.items():
        if column not in wanted.columns:
            continue
        if column not in dataset.items.columns:
            raise UserError(f"{dataset.path} has no {column}, which {workdir} was trained with; {remedy}")
        if len(changed := found.filter(pl.col(column).ne_missing(pl.col(column + "_right")))):
            raise UserError(
                f"{dataset.path} has {other} than {workdir} was trained on for {len(changed):,} items, "
                f"'{changed['item_id'][0]}' for one; {remedy}"
            )
    first = found["number"].to_numpy().astype(np.int64)
    others = np.setdiff1d(np.arange(len(dataset.items)), first)
    renumbered = dataset.renumbered(np.concatenate([first, others]), len(first))
    return dataclasses.replace(renumbered, items=_with_attributes(renumbered.items, wanted))


def read_catalogue(workdir: str | os.PathLike[str], remedy: str) -> pl.DataFrame:
    """The items of a run, in the order of its tables, as `write_catalogue` wrote them.

    Raises:
      UserError: the file is missing or damaged; it ends with the remedy.
    """
    path = pathlib.Path(workdir) / FILE
    try:
        with panics_as_errors():
            wanted = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UserError(f"{path} cannot be read ({error}); {remedy}") from None
    if missing := [name for name in ("item_id", "text") if name not in wanted.columns]:
        raise UserError(f"{path} is damaged: it lacks the column '{missing[0]}'; {remedy}")
    if not len(wanted) or wanted["item_id"].is_duplicated().any():
        raise UserError(f"{path} is damaged: it names no item, or one twice; {remedy}")
    return wanted


def _with_attributes(items: pl.DataFrame, wanted: pl.DataFrame) -> pl.DataFrame:
    """The items, the first of which have the attributes of the rows of `wanted`; the others keep theirs, or null."""
    for column in _KEPT:
        if column in wanted.columns:
            dtype = wanted[column].dtype
            rest = items[column] if column in items.columns else pl.Series(column, [None] * len(items), dtype)
            items = items.with_columns(pl.concat([wanted[column], rest[len(wanted) :]]).alias(column))
    return items
