"""The folder of an export: StableHLO programs, item vectors with their ids, and an index to search them."""

import dataclasses
import pathlib
import shutil
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from alterrec_jax.config import to_json
from alterrec_jax.data.dataset import Dataset
from alterrec_jax.errors import UserError
from alterrec_jax.numerics import scores_of
from alterrec_jax.runtime import extras, files
from alterrec_jax.runtime.console import log, progress
from alterrec_jax.serving.export import (
    PLATFORMS,
    Served,
    arrays_of,
    everything,
    exported_encoder,
    exported_top_items,
    rows_of,
    served,
)
from alterrec_jax.serving.index_settings import IndexSettings
from alterrec_jax.serving.trained_model import TrainedModel

if TYPE_CHECKING:
    from usearch.index import Index

FORMAT = "alterrec_jax export"
ABOUT = "export.json"
_NAMES = (
    ABOUT,
    "top_items.jax",
    "session_encoder.jax",
    "item_vectors.npy",
    "item_inputs.npy",
    "neighbour_items.npy",
    "neighbour_weights.npy",
    "item_ids.json",
    "items.usearch",
    "serve.py",
)  # what an export consists of: only this gives way to another
_SERVE = pathlib.Path(__file__).parents[2] / "experiments" / "serve.py"
_SESSIONS, _TIMED, _AT_ONCE = 1000, 100, 100


def write_export(
    trained: TrainedModel, out: pathlib.Path, k: int, exclude_session_items: bool, index: IndexSettings
) -> dict[str, Any]:
    """Writes the folder, and measures the index against the exact scan.

    Args:
      trained: what is exported, by its main view.
      out: the folder; an earlier export there is replaced.
      k: how many items the exported program finds for each session.
      exclude_session_items: whether it leaves out what the session holds.
      index: how items are searched.

    Returns:
      The content of export.json.

    Raises:
      UserError: something else lies in `out`, there are no k items, the extra `export` is not installed, or the dataset
        has no validation session to measure with.
    """
    extras.require("export", "an export", "flatbuffers", "usearch")
    require_replaceable(out)
    dataset = trained.dataset
    if not trained.finished:
        log("note: the run has not come to its end; this is its best epoch so far")
    model, sessions = served(trained), _sessions(dataset)
    top = exported_top_items(model, dataset.train_counts[: dataset.catalogue_size], k, exclude_session_items)
    with files.replacing_directory(out, _NAMES) as folder:
        (folder / "top_items.jax").write_bytes(top)
        np.save(folder / "item_vectors.npy", model.item_vectors, allow_pickle=False)
        if model.item_inputs is not None:
            np.save(folder / "item_inputs.npy", model.item_inputs, allow_pickle=False)
        if model.neighbours is not None:
            np.save(folder / "neighbour_items.npy", model.neighbours.items, allow_pickle=False)
            np.save(folder / "neighbour_weights.npy", model.neighbours.weights, allow_pickle=False)
        files.write_json(folder / "item_ids.json", dataset.items["item_id"].head(dataset.catalogue_size).to_list())
        shutil.copyfile(_SERVE, folder / "serve.py")
        written = _written_index(model, folder, index) if model.neighbours is None else None
        about = {
            "format": FORMAT,
            "k": k,
            "max_length": model.max_length,
            "items": len(model.item_vectors),
            "dim": model.item_vectors.shape[1],
            "input_dim": model.looked_up.shape[1],
            "exclude_session_items": exclude_session_items,
            "platforms": list(PLATFORMS),
            "jax": jax.__version__,
            "epoch": trained.best["epoch"] + 1,
            "dataset": dataset.fingerprint,
            "config": to_json(trained.config),
            "measured": _measure(model, sessions, written, top, k),
            "index": None if written is None else dataclasses.asdict(index),
        }
        files.write_json(folder / ABOUT, about)
    return about


def require_replaceable(out: pathlib.Path) -> None:
    """Refuses to replace what is no export, or a folder that holds more than one, before anything is computed.

    Raises:
      UserError: names the folder.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    about: Any = files.read_json(out / ABOUT, "export") if (out / ABOUT).is_file() else None
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise UserError(f"--out={out} holds something else than an export, which would be lost; name another folder")
    files.require_ours(out, _NAMES)


def _written_index(model: Served, folder: pathlib.Path, settings: IndexSettings) -> "Index":
    """Writes the encoder and an index of the item vectors, which together find what the model ranks first."""
    from usearch.index import Index  # here, for it comes with an extra

    (folder / "session_encoder.jax").write_bytes(exported_encoder(model))
    # In one piece: what usearch writes to a full disk itself, it may lose without a word.
    saved = _index(model.item_vectors, settings.links).save()
    assert saved is not None
    (folder / "items.usearch").write_bytes(saved)
    # As others find it: the effort is not in the file.
    index = Index.restore(str(folder / "items.usearch"), expansion_search=settings.effort)
    assert index is not None
    return index


def _index(vectors: np.ndarray, links: int) -> "Index":
    """Of all items by number, for dot products."""
    from usearch.index import Index

    index = Index(ndim=vectors.shape[1], metric="ip", dtype="f32", connectivity=links)
    for start in progress(range(0, len(vectors), 1000), "index", unit="thousand items"):
        some = vectors[start : start + 1000]
        index.add(np.arange(start, start + len(some), dtype=np.uint64), some)
    return index


def _sessions(dataset: Dataset) -> list[list[int]]:
    """Sessions to measure with: some of the validation split, without their last item.

    Raises:
      UserError: there are none.
    """
    sessions = dataset.splits["validation"]
    drawn = np.random.default_rng(0).permutation(len(sessions))[:_SESSIONS]
    held = [[item for item in sessions[row].tolist()[:-1] if item < dataset.catalogue_size] for row in drawn]
    if not any(held):
        raise UserError(
            f"{dataset.path} has no validation session to measure the index with; give --data_dir a dataset of the "
            "same items that has some"
        )
    return [session for session in held if session]


def _measure(model: Served, sessions: list[list[int]], index: "Index | None", program: bytes, k: int) -> dict[str, Any]:
    """What a search takes, for one session at a time, and what the index finds of the exact top k, if there is one."""
    rows = rows_of(sessions, model.max_length)
    everywhere = [jnp.asarray(array) for array in arrays_of(model)]
    whole = jax.jit(jax.export.deserialize(bytearray(program)).call)
    measured = {
        "sessions": len(rows),
        "program_ms": _median_ms(lambda r: whole(*everywhere, r[None], *everything(1)), rows),
    }
    return measured if index is None else {**measured, **_measure_index(model, rows, index, k)}


def _measure_index(model: Served, rows: np.ndarray, index: "Index", k: int) -> dict[str, Any]:
    """The index beside an exact scan of the item vectors."""
    table, looked_up = jnp.asarray(model.item_vectors), jnp.asarray(model.looked_up)
    encode = jax.jit(model.encode)
    batches = [encode(looked_up, rows[start : start + _AT_ONCE]) for start in range(0, len(rows), _AT_ONCE)]
    queries = np.concatenate([np.asarray(batch) for batch in batches])
    scan = jax.jit(lambda query, table: jax.lax.top_k(scores_of(query[None], table), k)[1][0])
    found = [np.isin(index.search(query, k).keys, scan(query, table)).sum() / k for query in queries]
    return {
        "recall": float(np.mean(found)),
        "index_ms": _median_ms(lambda query: index.search(query, k), queries),
        "scan_ms": _median_ms(lambda query: scan(query, table), queries),
    }


def _median_ms(search: Callable[[np.ndarray], Any], sessions: np.ndarray) -> float:
    """Of a search for each of some sessions, one after another."""
    jax.block_until_ready(search(sessions[0]))  # may compile
    taken = []
    for session in sessions[:_TIMED]:
        started = time.perf_counter()
        jax.block_until_ready(search(session))
        taken.append(1e3 * (time.perf_counter() - started))
    return float(np.median(taken))
