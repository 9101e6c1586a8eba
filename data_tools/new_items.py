"""Items that were not in training, for a run to place by their text: read, and encoded as its dataset's items were."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from alterrec_jax.data.dataset import Dataset
from alterrec_jax.errors import UserError
from data_tools.encode_text import encode_items, load_encoder_of
from data_tools.item_texts import FIELD, joined, read_items
from data_tools.options import DEFAULT_CACHE_DIR

FEATURE = "text"
"""What they bring, by the name that networks read it under."""


class NewItems(NamedTuple):
    """Of items that were not in training.

    Attributes:
      ids, names: of each.
      vectors: float32 [new item, d_text].
    """

    ids: list[str]
    names: list[str]
    vectors: np.ndarray


def read_new_items(
    path: str,
    dataset: Dataset,
    *,
    item_column: str = "item_id",
    text_columns: Sequence[str] = (),
    name_column: str = "",
    text_model: str = "",
    cache_dir: str = DEFAULT_CACHE_DIR,
) -> NewItems:
    """Reads and encodes them.

    Args:
      path: CSV or Parquet, an item a row.
      dataset: of the run that is to place them.
      item_column: with the item's id.
      text_columns: with its text; by default those that the dataset was made from.
      name_column: to show; by default the first text.
      text_model: folder or name of the text model, where the dataset was prepared with one of the user's own.
      cache_dir: where the vectors of texts are kept.

    Raises:
      UserError: the file or a column is missing, the dataset has no text vectors, an item was in training, or the
        text model is not the dataset's.
    """
    if FEATURE not in dataset.vectors:
        raise UserError(
            f"{path}: new items are recommended by their text, which {dataset.path} holds no vectors of; prepare it "
            "without --text_model=none"
        )
    made_with = dataset.manifest["text_encoder"]
    columns = tuple(text_columns) or tuple(made_with["columns"])
    items = read_items(path, id_column=item_column, text_columns=columns, name_column=name_column or columns[0])
    fields = [FIELD + column for column in columns]
    items = items.with_columns(joined(fields).alias("text"))
    known = set(dataset.items["item_id"].head(dataset.catalogue_size))
    if again := [item for item in items["item_id"] if item in known]:
        raise UserError(f"{path}: item '{again[0]}' was in training and is not new; take its row out")
    encoder = load_encoder_of(made_with, text_model)
    vectors = encode_items(items, fields, made_with["fusion"], encoder, cache_dir)
    return NewItems(items["item_id"].to_list(), items["name"].to_list(), vectors)
