"""How long training stands still for a checkpoint, against how long it takes to write one.

python -m benchmarks.saving --items=1000000 --dim=64
"""

import functools
import pathlib
import statistics
import tempfile

import jax
import jax.numpy as jnp
from absl import flags

from alterrec_jax.runtime import command_line, files
from alterrec_jax.runtime.console import progress
from alterrec_jax.runtime.host_memory import keep_freed_memory
from alterrec_jax.runtime.text_table import aligned
from alterrec_jax.training.checkpoint import Checkpoint, CheckpointStore
from benchmarks.timing import seconds

_OUTPUT = flags.DEFINE_string("output", None, "JSON file for the result; without it only the table is printed.")
_FOLDER = flags.DEFINE_string("folder", None, "Where checkpoints are written; a temporary folder by default.")
_ITEMS = flags.DEFINE_integer("items", 1_000_000, "Items of the catalogue.", lower_bound=1)
_DIM = flags.DEFINE_integer("dim", 64, "Width of the tables of both networks.", lower_bound=1)
_ROUNDS = flags.DEFINE_integer("rounds", 5, "Checkpoints; the first is left out, times are medians.", lower_bound=2)


def main() -> int:
    """Saves tables with Adam's moments and the best so far, prints the table and writes the JSON."""
    keep_freed_memory()
    state = {name: _network(seed) for seed, name in enumerate(("id", "text"))}
    best = {name: jnp.copy(network["table"]) for name, network in state.items()}
    still, whole = [], []
    with tempfile.TemporaryDirectory(dir=_FOLDER.value) as folder:
        store = CheckpointStore(pathlib.Path(folder), kept=1)
        try:
            for number in progress(range(_ROUNDS.value), "checkpoints", unit="checkpoints"):
                still.append(seconds(functools.partial(store.save, number, Checkpoint(state, best, {}))))
                whole.append(still[-1] + seconds(store.wait))
                state = jax.block_until_ready(jax.tree.map(lambda array: 1.001 * array, state))
        finally:
            store.close()
    size = sum(array.nbytes for array in jax.tree.leaves((state, best)))
    result = {
        "bytes": size,
        "still_s": statistics.median(still[1:]),
        "whole_s": statistics.median(whole[1:]),
        "share": statistics.median(a / b for a, b in zip(still[1:], whole[1:], strict=True)),
    }
    row = [
        f"{_ITEMS.value:,}",
        f"{size / 1e9:.2f}",
        *(f"{result[name]:.2f}" for name in ("still_s", "whole_s", "share")),
    ]
    print(aligned([["items", "GB", "training stands still, s", "until it is written, s", "share"], row]))
    if _OUTPUT.value:
        files.write_json(_OUTPUT.value, result)
    return 0


def _network(seed: int) -> dict[str, jax.Array]:
    table = jax.random.normal(jax.random.key(seed), (_ITEMS.value, _DIM.value))
    return {"table": table, "mu": 0.1 * table, "nu": table**2}


if __name__ == "__main__":
    command_line.run(main)
