"""Recommends items for sessions: JSON lines in, JSON lines out.

echo '{"session": ["item id", "item id"]}' | python -m experiments.recommend --workdir=DIR --k=20
"""

import json
import pathlib
import sys
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from absl import flags

from alterrec_jax.data.dataset import Dataset
from alterrec_jax.errors import UserError
from alterrec_jax.evaluation.protocol import protocol_of
from alterrec_jax.runtime import command_line, files, processes
from alterrec_jax.serving.recommend import Recommender
from alterrec_jax.serving.trained_model import load_trained
from data_tools.encode_text import encode_items, load_encoder_of
from data_tools.item_texts import FIELD, joined, read_items, text_columns_of
from data_tools.options import CACHE_DIR_HELP, DEFAULT_CACHE_DIR
from experiments import devices

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a run of experiments.train.", required=True)
_K = flags.DEFINE_integer("k", 20, "How many items to recommend for each session.")
_INPUT = flags.DEFINE_string("input", "-", 'File of JSON lines {"session": ["item id", ...]}; - is standard input.')
_OUTPUT = flags.DEFINE_string("output", "-", "File for the JSON lines that come out; - is standard output.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Dataset folder; by default the one that the run was trained on.")
_NEW_ITEMS = flags.DEFINE_string(
    "new_items", None, "CSV or Parquet of items that were not in training: recommended by their text alone."
)
_ITEM_COLUMN = flags.DEFINE_string("item_column", "item_id", "Column of --new_items with the item's id.")
_TEXT_COLUMNS = flags.DEFINE_string(
    "text_columns",
    None,
    "Columns of --new_items with its text, with commas between; by default those the dataset was made from.",
)
_NAME_COLUMN = flags.DEFINE_string("name_column", None, "Column of --new_items to show; by default the first text.")
_TEXT_MODEL = flags.DEFINE_string(
    "text_model", None, "Folder or name of the text model, where the dataset was prepared with one of your own."
)
_CACHE_DIR = flags.DEFINE_string("cache_dir", DEFAULT_CACHE_DIR, CACHE_DIR_HELP)
_EXCLUDE = flags.DEFINE_bool(
    "exclude_session_items", None, "Whether to leave out what the session holds; the run's own choice by default."
)
devices.define()

TEXT = "text"
"""The feature that --new_items brings."""


def main() -> int:
    """Reads sessions, writes recommendations in the same order."""
    with devices.used():
        _recommend()
    return 0


def _recommend() -> None:
    trained = load_trained(_WORKDIR.value, _DATA_DIR.value)
    dataset = trained.dataset
    new_ids, new_names, vectors = _new_items(dataset)
    catalogue = dataset.items.head(dataset.catalogue_size)
    ids, names = [*catalogue["item_id"], *new_ids], [*catalogue["name"], *new_names]
    number = {item: row for row, item in enumerate(ids)}
    protocol = protocol_of(trained.config.protocol, dataset)
    exclude = protocol.exclude_session_items if _EXCLUDE.value is None else _EXCLUDE.value
    sessions = list(_read_sessions(number.keys() | set(dataset.items["item_id"])))
    recommender = Recommender(trained, exclude, {TEXT: vectors} if len(vectors) else {})
    known = [[number[item] for item in session if item in number] for session in sessions]
    lines = []
    for session, found in zip(sessions, recommender(known, _K.value), strict=True):
        best = [{"id": ids[r.item], "score": r.score, "name": names[r.item], "by": r.by} for r in found]
        lines.append(json.dumps({"session": session, "recommendations": best}, ensure_ascii=False))
    text = "".join(line + "\n" for line in lines)
    if not processes.is_main_process():
        return
    if _OUTPUT.value == "-":
        sys.stdout.write(text)
    else:
        files.write_text(_OUTPUT.value, text)


def _read_sessions(known: set[str]) -> Iterator[list[str]]:
    if _INPUT.value == "-" and jax.process_count() > 1:
        raise UserError("several processes cannot share standard input; name a file by --input")
    name = "standard input" if _INPUT.value == "-" else _INPUT.value
    try:
        text = sys.stdin.read() if _INPUT.value == "-" else pathlib.Path(_INPUT.value).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"--input file {name} does not exist") from None
    except UnicodeDecodeError:
        raise UserError(f"{name} is not UTF-8 text; convert it first") from None
    # splitlines() would also cut at U+2028 and its like, which JSON allows inside of strings.
    for count, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield _session(line, f"{name}, line {count}", known)


def _session(line: str, where: str, known: set[str]) -> list[str]:
    try:
        value: Any = json.loads(line)
    except (ValueError, RecursionError) as error:  # also for numbers of thousands of digits, and lists too deep
        raise UserError(f'{where}: not JSON ({error}); write {{"session": ["item id", ...]}}') from None
    session = value.get("session") if isinstance(value, dict) else None
    if not isinstance(session, list) or not all(isinstance(item, str) for item in session):
        raise UserError(f'{where}: no list of item ids under "session"; write {{"session": ["item id", ...]}}')
    if unknown := [item for item in session if item not in known]:
        raise UserError(
            f"{where}: item '{unknown[0]}' is not in the dataset; correct it, or give its text by --new_items"
        )
    return session


def _new_items(dataset: Dataset) -> tuple[list[str], list[str], np.ndarray]:
    """Ids, names and float32 [new item, d_text] text vectors of --new_items, encoded as the dataset's items were."""
    made_with = dataset.manifest["text_encoder"]
    if not _NEW_ITEMS.value:
        return [], [], np.zeros((0, dataset.text_vectors.shape[1]), np.float32)
    columns = text_columns_of(_TEXT_COLUMNS.value) if _TEXT_COLUMNS.value else made_with["columns"]
    items = read_items(
        _NEW_ITEMS.value,
        id_column=_ITEM_COLUMN.value,
        text_columns=columns,
        name_column=_NAME_COLUMN.value or columns[0],
    )
    fields = [FIELD + column for column in columns]
    items = items.with_columns(joined(fields).alias("text"))
    known = set(dataset.items["item_id"].head(dataset.catalogue_size))
    if again := [item for item in items["item_id"] if item in known]:
        raise UserError(f"{_NEW_ITEMS.value}: item '{again[0]}' was in training and is not new; take its row out")
    encoder = load_encoder_of(made_with, _TEXT_MODEL.value or "")
    vectors = encode_items(items, fields, made_with["fusion"], encoder, _CACHE_DIR.value)
    return items["item_id"].to_list(), items["name"].to_list(), vectors


if __name__ == "__main__":
    command_line.run(main)
