"""Items that were not in training, for a run to place by their vectors: read, and encoded as its dataset's were."""

import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from alterrec_jax.data.dataset import Dataset
from alterrec_jax.data.dataset_files import TEXT
from alterrec_jax.errors import UserError
from data_tools.encode_text import encode_items, load_encoder_of
from data_tools.further_vectors import read_given
from data_tools.item_texts import FIELD, joined, read_items
from data_tools.options import DEFAULT_CACHE_DIR


class NewItems(NamedTuple):
    """Of items that were not in training.

    Attributes:
      ids, names: of each.
      vectors: by the name of the feature, float32 [new item, width].
    """

    ids: list[str]
    names: list[str]
    vectors: dict[str, np.ndarray]


def read_new_items(
    path: str,
    dataset: Dataset,
    features: Collection[str],
    *,
    vectors: Mapping[str, str | os.PathLike[str]] | None = None,
    item_column: str = "item_id",
    text_columns: Sequence[str] = (),
    name_column: str = "",
    text_model: str = "",
    cache_dir: str = DEFAULT_CACHE_DIR,
) -> NewItems:
    """Reads them, and encodes their texts for each feature whose vectors are not given.

    Args:
      path: CSV or Parquet, an item a row.
      dataset: of the run that is to place them.
      features: what they must bring, as `serving.recommend.new_item_features` says.
      vectors: by feature, a .npy file with a row for each row of `path`.
      item_column: with the item's id.
      text_columns: with its text; by default those that the dataset was made from.
      name_column: to show; by default the first text, or else the id.
      text_model: folder or name of the text model, where the dataset was prepared with one of the user's own.
      cache_dir: where the vectors of texts are kept.

    Raises:
      UserError: a file or a column is missing, vectors are neither given nor made of texts, or do not fit, an item was
        in training, or the text model is not the dataset's.
    """
    vectors = vectors or {}
    if unread := sorted(vectors.keys() - set(features)):
        read = " and ".join(features)
        raise UserError(f"--vectors={unread[0]}: new items are placed by {read} alone; leave these vectors out")
    encoders = {feature: _encoder_of(dataset, feature, path) for feature in features if feature not in vectors}
    made_of = next((encoder["columns"] for encoder in encoders.values()), ())
    columns = tuple(text_columns) or tuple(made_of)
    shown = name_column or next(iter(columns), item_column)
    items = read_items(path, id_column=item_column, text_columns=columns, name_column=shown)
    known = set(dataset.items["item_id"].head(dataset.catalogue_size))
    if again := [item for item in items["item_id"] if item in known]:
        raise UserError(f"{path}: item '{again[0]}' was in training and is not new; take its row out")
    found = {feature: _given(dataset, feature, file, len(items)) for feature, file in vectors.items()}
    fields = [FIELD + column for column in columns]
    items = items.with_columns(joined(fields).alias("text"))
    for feature, made_with in encoders.items():
        encoder = load_encoder_of(made_with, text_model)
        found[feature] = encode_items(items, fields, made_with["fusion"], encoder, cache_dir)
    return NewItems(items["item_id"].to_list(), items["name"].to_list(), found)


def _encoder_of(dataset: Dataset, feature: str, path: str) -> Mapping[str, Any]:
    """What made the vectors of a feature, if it can make those of new items too."""
    made_with = dataset.text_encoders.get(feature)
    if made_with is None or made_with.get("given"):
        how = "take the place of a text model's" if feature == TEXT else "were given, and not made of texts"
        if "made_with" in dataset.manifest.get("vectors", {}).get(feature, {}):
            how = "were made of images"
        raise UserError(
            f"{path}: new items are placed by their {feature} vectors, which in {dataset.path} {how}; bring those of "
            f"the new items by --vectors={feature}=FILE.npy (in Python by new_vectors)"
        )
    return made_with


def _given(dataset: Dataset, feature: str, file: str | os.PathLike[str], items: int) -> np.ndarray:
    """The vectors of a file, of the width that the feature has."""
    rows = np.asarray(read_given(file, items, f"vectors={feature}", order="--new_items"), np.float32)
    width = dataset.vectors[feature].shape[1]
    if rows.shape[1] != width:
        raise UserError(
            f"--vectors={feature}: {file} has width {rows.shape[1]}, the {feature} vectors of {dataset.path} have "
            f"{width}; make both with one encoder"
        )
    return rows
