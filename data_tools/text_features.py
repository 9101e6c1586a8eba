"""The features that are vectors of the items' texts: by which encoder each is made, or that it was given."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from alterrec_jax.data.dataset_files import TEXT, vectors_file
from alterrec_jax.errors import UserError
from alterrec_jax.runtime import files
from data_tools import encode_text, item_texts
from data_tools.coverage import coverage_of
from data_tools.further_vectors import named_values
from data_tools.options import NO_TEXT_MODEL, Options

GIVEN = "a file that was given"
"""What stands in the manifest where the name of a model would."""


def models_of(options: Options) -> dict[str, str]:
    """By feature, "text" first: the model that is to encode the texts, "" for the packaged one.

    Raises:
      UserError: a value of --text_models is of another form, or its name is another feature's.
    """
    encodes = options.text_model != NO_TEXT_MODEL and not options.text_vectors
    further = named_values(options.text_models, "text_models", "MODEL")
    if again := sorted(further.keys() & named_values(options.vectors, "vectors", "FILE.npy").keys()):
        raise UserError(f"--text_models and --vectors both make '{again[0]}'; choose another name for one of them")
    return {**({TEXT: options.text_model} if encodes else {}), **further}


def check(options: Options) -> None:
    """Refuses what contradicts itself.

    Raises:
      UserError: names the flags.
    """
    models = models_of(options)
    if options.text_vectors and options.text_model:
        raise UserError("--text_vectors take the place of what --text_model makes; leave one of them out")
    if not models and options.text_fusion != "concat":
        flag = "--text_vectors" if options.text_vectors else f"--text_model={NO_TEXT_MODEL}"
        raise UserError(f"--text_fusion says how texts are encoded, and with {flag} none are; leave it out")


def encode(
    items: pl.DataFrame,
    text_columns: Sequence[str],
    encoders: Mapping[str, encode_text.Encoder],
    options: Options,
) -> tuple[dict[str, np.ndarray], dict[str, dict[str, Any]]]:
    """The vectors of each encoder: float32 [items, width]; and what the manifest says of it.

    Args:
      items: as `encode_text.encode_items` reads them.
      text_columns: those of `items` that are text.
      encoders: by feature.
      options: how several columns are joined, and where vectors are kept.
    """
    tables, notes = {}, {}
    for feature, encoder in encoders.items():
        tables[feature] = encode_text.encode_items(items, text_columns, options.text_fusion, encoder, options.cache_dir)
        notes[feature] = {
            "model": encoder.name,
            "sha256": encoder.sha256,
            "dim": int(tables[feature].shape[1]),
            "fusion": options.text_fusion,
            "columns": [column.removeprefix(item_texts.FIELD) for column in text_columns],
        }
    return tables, notes


def note_of_given(path: str | os.PathLike[str], width: int) -> dict[str, Any]:
    """What the manifest says of text vectors that were given: their file's hash stands where a model's would."""
    return {"model": GIVEN, "given": True, "sha256": files.sha256_file(path), "dim": width, "fusion": None}


def coverage_note(feature: str, table: np.ndarray, catalogue_size: int, made_with: Mapping[str, Any]) -> dict[str, Any]:
    """What the manifest says of a feature's vectors: encoded as `made_with` says, or given."""
    rule = "in the order of the items file; zeros where an item has none"
    if made_with and not made_with.get("given"):
        rule = f"of the text columns, by {made_with['model']}; zeros where an item has no text"
    return {"file": vectors_file(feature), "width": table.shape[1], "rule": rule, **coverage_of(table, catalogue_size)}
