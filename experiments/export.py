"""Exports a trained model for serving: StableHLO programs, item vectors with their ids, and an index to search them.

python -m experiments.export --workdir=DIR --out=DIR
"""

import pathlib
import shutil
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from alterrec_jax.config import to_json
from alterrec_jax.data.dataset import Dataset
from alterrec_jax.errors import UserError
from alterrec_jax.evaluation.protocol import protocol_of
from alterrec_jax.numerics import scores_of
from alterrec_jax.runtime import command_line, extras, files
from alterrec_jax.runtime.console import log, progress
from alterrec_jax.runtime.text_table import aligned
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
from alterrec_jax.serving.trained_model import load_trained

if TYPE_CHECKING:
    from usearch.index import Index

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a run of experiments.train.", required=True)
_OUT = flags.DEFINE_string("out", None, "Folder to write; an earlier export there is replaced.", required=True)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Dataset folder; by default the one that the run was trained on.")
_K = flags.DEFINE_integer("k", 20, "How many items the exported program finds for each session.")
_EXCLUDE = flags.DEFINE_bool(
    "exclude_session_items", None, "Whether to leave out what the session holds; the run's own choice by default."
)
_LINKS = flags.DEFINE_integer("index_links", 32, "Neighbours that the index keeps for each item.", lower_bound=2)
_EFFORT = flags.DEFINE_integer(
    "index_effort",
    256,
    "Items that a search of the index looks at: more find more, and take longer. The index does not keep it; whoever "
    "restores it gives it as expansion_search.",
    lower_bound=1,
)

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
_SESSIONS, _TIMED, _AT_ONCE = 1000, 100, 100


def main() -> int:
    """Writes the folder, measures the index against the exact scan, and prints both."""
    extras.require("export", "an export", "flatbuffers", "usearch")
    out = pathlib.Path(_OUT.value)
    _check_target(out)
    trained = load_trained(_WORKDIR.value, _DATA_DIR.value)
    dataset = trained.dataset
    protocol = protocol_of(trained.config.protocol, dataset)
    exclude = protocol.exclude_session_items if _EXCLUDE.value is None else _EXCLUDE.value
    if not trained.finished:
        log(f"note: the run in {_WORKDIR.value} has not come to its end; this is its best epoch so far")
    model, held = served(trained), _sessions(dataset)
    top = exported_top_items(model, dataset.train_counts[: dataset.catalogue_size], _K.value, exclude)
    with files.replacing_directory(out, _NAMES) as folder:
        (folder / "top_items.jax").write_bytes(top)
        np.save(folder / "item_vectors.npy", model.item_vectors, allow_pickle=False)
        if model.item_inputs is not None:
            np.save(folder / "item_inputs.npy", model.item_inputs, allow_pickle=False)
        if model.neighbours is not None:
            np.save(folder / "neighbour_items.npy", model.neighbours.items, allow_pickle=False)
            np.save(folder / "neighbour_weights.npy", model.neighbours.weights, allow_pickle=False)
        files.write_json(folder / "item_ids.json", dataset.items["item_id"].head(dataset.catalogue_size).to_list())
        shutil.copyfile(pathlib.Path(__file__).with_name("serve.py"), folder / "serve.py")
        index = _written_index(model, folder) if model.neighbours is None else None
        measured = _measure(model, held, index, top)
        about = {
            "format": FORMAT,
            "k": _K.value,
            "max_length": model.max_length,
            "items": len(model.item_vectors),
            "dim": model.item_vectors.shape[1],
            "input_dim": model.looked_up.shape[1],
            "exclude_session_items": exclude,
            "platforms": PLATFORMS,
            "jax": jax.__version__,
            "epoch": trained.best["epoch"] + 1,
            "dataset": dataset.fingerprint,
            "config": to_json(trained.config),
            "measured": measured,
            "index": None if index is None else {"links": _LINKS.value, "effort": _EFFORT.value},
        }
        files.write_json(folder / ABOUT, about)
    _print(about, out)
    return 0


def _check_target(out: pathlib.Path) -> None:
    """Refuses to replace what is no export, or a folder that holds more than one, before anything is computed."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    about: Any = files.read_json(out / ABOUT, "export") if (out / ABOUT).is_file() else None
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise UserError(f"--out={out} holds something else than an export, which would be lost; name another folder")
    files.require_ours(out, _NAMES)


def _written_index(model: Served, folder: pathlib.Path) -> "Index":
    """Writes the encoder and an index of the item vectors, which together find what the model ranks first."""
    from usearch.index import Index  # here, for it comes with an extra

    (folder / "session_encoder.jax").write_bytes(exported_encoder(model))
    # In one piece: what usearch writes to a full disk itself, it may lose without a word.
    saved = _index(model.item_vectors).save()
    assert saved is not None
    (folder / "items.usearch").write_bytes(saved)
    # As others find it: the effort is not in the file.
    index = Index.restore(str(folder / "items.usearch"), expansion_search=_EFFORT.value)
    assert index is not None
    return index


def _index(vectors: np.ndarray) -> "Index":
    """Of all items by number, for dot products."""
    from usearch.index import Index

    index = Index(ndim=vectors.shape[1], metric="ip", dtype="f32", connectivity=_LINKS.value)
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


def _measure(model: Served, sessions: list[list[int]], index: "Index | None", program: bytes) -> dict[str, Any]:
    """What a search takes, for one session at a time, and what the index finds of the exact top k, if there is one."""
    rows = rows_of(sessions, model.max_length)
    everywhere = [jnp.asarray(array) for array in arrays_of(model)]
    whole = jax.jit(jax.export.deserialize(bytearray(program)).call)
    measured = {
        "sessions": len(rows),
        "program_ms": _median_ms(lambda r: whole(*everywhere, r[None], *everything(1)), rows),
    }
    return measured if index is None else {**measured, **_measure_index(model, rows, index)}


def _measure_index(model: Served, rows: np.ndarray, index: "Index") -> dict[str, Any]:
    """The index beside an exact scan of the item vectors."""
    table, looked_up = jnp.asarray(model.item_vectors), jnp.asarray(model.looked_up)
    encode = jax.jit(model.encode)
    batches = [encode(looked_up, rows[start : start + _AT_ONCE]) for start in range(0, len(rows), _AT_ONCE)]
    queries = np.concatenate([np.asarray(batch) for batch in batches])
    scan = jax.jit(lambda query, table: jax.lax.top_k(scores_of(query[None], table), _K.value)[1][0])
    found = [np.isin(index.search(query, _K.value).keys, scan(query, table)).sum() / _K.value for query in queries]
    return {
        "recall": float(np.mean(found)),
        "index_ms": _median_ms(lambda query: index.search(query, _K.value), queries),
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


def _print(about: dict[str, Any], out: pathlib.Path) -> None:
    measured, k = about["measured"], about["k"]
    rows = [
        ["one session's vector to its best items", f"recall@{k}", "ms, median"],
        ["top_items.jax, from the items of the session", "exact", f"{measured['program_ms']:.2f}"],
    ]
    if about["index"] is not None:
        rows[1:1] = [
            ["items.usearch", f"{measured['recall']:.4f}", f"{measured['index_ms']:.2f}"],
            ["exact scan of item_vectors.npy", "exact", f"{measured['scan_ms']:.2f}"],
        ]
    print(aligned(rows))
    print(f"{about['items']:,} items, dim {about['dim']}, {measured['sessions']:,} sessions of the validation split")
    if about["index"] is None:
        log("note: the model has neighbours, which no vectors hold: no session_encoder.jax and no index were written")
    log(f"wrote {out}; try: echo '{{\"session\": []}}' | python {out / 'serve.py'} {out}")


if __name__ == "__main__":
    command_line.run(main)
