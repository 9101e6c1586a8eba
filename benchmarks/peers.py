"""SASRec of this library beside RecTools' and RecBole's: an epoch, ranking all test targets, one recommendation.

python -m benchmarks.peers --data_dir=DIR --output=FILE.json
taskset -c 0 python -m benchmarks.peers --data_dir=DIR --peer_steps=0 --epochs=3

Each runs in a process of its own, one after another, on the CPU, with as many threads as the process may use cores; the
other two in an environment that is made once. What is compared, and how that is made fair:

- The same training sessions, targets, histories and candidates (no item is left out, whether seen or not). An epoch
  learns every target of these sessions once; RecTools, which reads the last `max_length` + 1 items of a session, misses
  those before. The table says how many each learns, and targets a second are compared.
- The same width, blocks, heads, dropout, loss (softmax over the catalogue) and Adam; feed-forward layers are four times
  as wide as the embedding, in RecTools as wide. Where a row is a session (RecTools), a step has `batch_sessions` of
  them; where it is a prefix (RecBole), or several sessions (ours), a step has as many targets as these sessions hold on
  average. So all make about as many steps an epoch.
- The others' epochs are by default the median of some steps times their number, which leaves out what they do between
  epochs; ours are always whole. The first step, which compiles, has a column of its own, as has the first ranking.
- Evaluation is what each offers: ranking all items for all targets, then hits, NDCG and MRR at 10 and 20. A
  recommendation goes from ten item ids to the ids of the best 20, by a model in memory.
"""

import pathlib
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
from absl import flags

from alterrec_jax.data.dataset import Dataset, load_dataset
from alterrec_jax.errors import UserError, nearest
from alterrec_jax.runtime import command_line, files
from alterrec_jax.runtime.console import log
from alterrec_jax.runtime.text_table import aligned
from benchmarks import peer_environment
from benchmarks.peer_alterrec import task_arrays

_DATA_DIR = flags.DEFINE_string("data_dir", None, "Dataset folder written by data_tools.prepare.", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "JSON file for the result; without it only the table is printed.")
_PEERS = flags.DEFINE_string(
    "peers",
    "runs/peers",
    "Folder of an environment with RecTools, RecBole and PyTorch, made where it is not there yet (1.8 GB, from the "
    "package index).",
)
_OTHERS = flags.DEFINE_list("others", ["rectools", "recbole"], "Which libraries to time beside this one.")
_DIM = flags.DEFINE_integer("dim", 64, "Width of item and session embeddings; two heads divide it.", lower_bound=2)
_MAX_LENGTH = flags.DEFINE_integer("max_length", 50, "Items of a session that an encoder sees.", lower_bound=10)
_BATCH = flags.DEFINE_integer("batch_sessions", 256, "Sessions of a step.", lower_bound=1)
_EPOCHS = flags.DEFINE_integer("epochs", 3, "Whole epochs that are trained and timed.", lower_bound=1)
_PEER_STEPS = flags.DEFINE_integer(
    "peer_steps", 20, "Instead, the others make so many steps, and an epoch is estimated; 0: whole ones.", lower_bound=0
)
_ROUNDS = flags.DEFINE_integer("rounds", 2, "How often everything is ranked, after a first time.", lower_bound=1)
_REQUESTS = flags.DEFINE_integer("requests", 300, "Sessions to recommend for, one after another.", lower_bound=10)
_OURS = "alterrec"
_KNOWN = ("rectools", "recbole")
_COLUMNS = (
    ("epoch, s", "epoch_s", ".1f"),
    ("targets learned", "targets_per_epoch", ","),
    ("steps", "steps_per_epoch", ","),
    ("first step, s", "first_step_s", ".1f"),
    ("epochs", "epochs", ".2f"),
    ("loss", "loss", ".3f"),
    ("evaluation, s", "evaluation_s", ".2f"),
    ("the first, s", "first_evaluation_s", ".2f"),
    ("targets/s", "targets_per_s", ",.0f"),
    ("p50, ms", "p50_ms", ".1f"),
    ("p99, ms", "p99_ms", ".1f"),
)
"""Title, name in a result, and format."""


def main() -> int:
    """Times each library, prints the tables and writes the JSON."""
    for name in _OTHERS.value:
        if name not in _KNOWN:
            raise UserError(f"--others={name}: {nearest(name, _KNOWN)}")
    dataset = load_dataset(_DATA_DIR.value)
    pythons = {_OURS: pathlib.Path(sys.executable)}
    if _OTHERS.value:
        pythons |= dict.fromkeys(_OTHERS.value, peer_environment.python_of(pathlib.Path(_PEERS.value).resolve()))
    arrays, settings = task_arrays(dataset, _REQUESTS.value), _settings(dataset)
    found = {}
    for name, python in pythons.items():
        log(f"{name}: training, ranking and recommending")
        own = {"steps": 0 if name == _OURS else _PEER_STEPS.value}
        found[name] = peer_environment.run(python, f"peer_{name}", settings | own, arrays)
    times = {name: times_ours(found[_OURS], other) for name, other in found.items() if name != _OURS}
    print(table(found))
    if times:
        print(ratio_table(times))
    cores = peer_environment.cores()
    print(
        f"SASRec, {dataset.catalogue_size:,} items, width {_DIM.value}, one block, sessions of up to "
        f"{_MAX_LENGTH.value} items, {_BATCH.value} sessions a step, cores: {cores}; "
        f"the whole report of experiments.evaluate takes {found[_OURS]['report_s']:.1f} s"
    )
    if _OUTPUT.value:
        files.write_json(_OUTPUT.value, {"libraries": found, "times_ours": times, "cores": cores, "settings": settings})
    return 0


def _settings(dataset: Dataset) -> dict[str, Any]:
    """The sizes of `peer_task.Task`, without the data and the number of steps."""
    train = dataset.splits["train"]
    prefixes = int(np.sum(train.lengths - 1)) / len(train)
    return {
        "data_dir": str(pathlib.Path(_DATA_DIR.value).resolve()),
        "dim": _DIM.value,
        "blocks": 1,
        "heads": 2,
        "dropout": 0.3,
        "max_length": _MAX_LENGTH.value,
        "batch_sessions": _BATCH.value,
        "batch_prefixes": max(round(_BATCH.value * prefixes), 1),
        "epochs": _EPOCHS.value,
        "rounds": _ROUNDS.value,
    }


def times_ours(ours: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, float]:
    """How many times as long, or as much, as ours another library takes; targets a second are compared in training."""
    rate = {name: one["targets_per_epoch"] / one["epoch_s"] for name, one in (("ours", ours), ("other", other))}
    return {
        "training": rate["ours"] / rate["other"],
        "evaluation": other["evaluation_s"] / ours["evaluation_s"],
        "recommendation": other["p50_ms"] / ours["p50_ms"],
        "memory": other["peak_bytes"] / ours["peak_bytes"],
    }


def table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """A row a library."""
    rows = [["library", *(title for title, _, _ in _COLUMNS), "peak, GB", "hits@10"]]
    for one in found.values():
        cells = [format(one[name], spec) for _, name, spec in _COLUMNS]
        rows.append(
            [
                f"{one['library']} {one['version']}",
                *cells,
                f"{one['peak_bytes'] / 1e9:.2f}",
                f"{one['metrics']['hits@10']:.4f}",
            ]
        )
    return aligned(rows)


def ratio_table(times: Mapping[str, Mapping[str, float]]) -> str:
    """How many times ours each other library takes."""
    names = list(next(iter(times.values())))
    rows = [["times ours", *names]]
    rows += [[library, *(f"{one[name]:.1f}" for name in names)] for library, one in times.items()]
    return aligned(rows)


if __name__ == "__main__":
    command_line.run(main)
