"""The time from a session of item ids to its top 20, one session at a time, by a model read from its checkpoint.

python -m benchmarks.latency --output=FILE.json
"""

import pathlib
import tempfile
import time

import numpy as np
import polars as pl
from absl import flags

from alterrec_jax.data.dataset import load_dataset, write_dataset
from alterrec_jax.models.alterrec import AlterRecConfig, MiningConfig
from alterrec_jax.models.unimodal import IdNetworkConfig, VectorNetworkConfig
from alterrec_jax.runtime import command_line, files
from alterrec_jax.runtime.console import progress
from alterrec_jax.runtime.host_memory import keep_freed_memory
from alterrec_jax.runtime.text_table import aligned
from alterrec_jax.serving.recommend import Recommender
from alterrec_jax.serving.trained_model import load_trained
from alterrec_jax.training.trainer import Trainer

_OUTPUT = flags.DEFINE_string("output", None, "JSON file for the result; without it only the table is printed.")
_ITEMS = flags.DEFINE_integer("items", 40_000, "Items of the catalogue.", lower_bound=100)
_DIM = flags.DEFINE_integer("dim", 300, "Width of both networks.", lower_bound=1)
_REQUESTS = flags.DEFINE_integer("requests", 300, "Sessions to recommend for, one after another.", lower_bound=10)
_TEXT_WIDTH, _SESSION, _K = 384, 10, 20


def main() -> int:
    """Makes a checkpoint on made data, times requests to it, prints the table and writes the JSON."""
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        recommender = _recommender(pathlib.Path(folder))
    random = np.random.default_rng(1)
    taken = []
    for _ in progress(range(_REQUESTS.value + 10), "requests", unit="requests"):
        session = random.integers(0, _ITEMS.value, _SESSION).tolist()
        started = time.perf_counter()
        (best,) = recommender([session], _K)
        taken.append(time.perf_counter() - started)
        assert len(best) == _K
    milliseconds = 1e3 * np.asarray(taken[10:])  # the first ones compile
    result = {f"p{share}_ms": float(np.percentile(milliseconds, share)) for share in (50, 99)}
    row = [f"{_ITEMS.value:,}", *(f"{result[name]:.1f}" for name in ("p50_ms", "p99_ms"))]
    print(aligned([["items", "p50, ms", "p99, ms"], row]))
    if _OUTPUT.value:
        files.write_json(_OUTPUT.value, result)
    return 0


def _recommender(folder: pathlib.Path) -> Recommender:
    """A model of two short epochs on random sessions, read back from its workdir."""
    random, items = np.random.default_rng(0), _ITEMS.value
    ids = [f"item {number}" for number in range(items)]
    splits = ["train"] * 50 + ["validation"] * 5 + ["test"] * 5
    sessions = pl.DataFrame(
        {
            "split": splits,
            "session_id": [f"session {number}" for number in range(len(splits))],
            "user_id": [None] * len(splits),
            "items": [random.integers(0, items, _SESSION).tolist() for _ in splits],
            "first_target": [1] * len(splits),
        },
        schema_overrides={"user_id": pl.String, "items": pl.List(pl.Int32), "first_target": pl.Int32},
    )
    write_dataset(
        folder / "data",
        items=pl.DataFrame({"item_id": ids, "name": ids, "text": ids}),
        sessions=sessions,
        text_vectors=random.normal(size=(items, _TEXT_WIDTH)).astype(np.float32),
        catalogue_size=items,
        provenance={"source": "random numbers"},
    )
    config = AlterRecConfig(
        batch_prefixes=500,
        networks={
            "id": IdNetworkConfig(dim=_DIM.value, layers=2),
            "text": VectorNetworkConfig(dim=_DIM.value, layers=2),
        },
        mining=MiningConfig(k1=1, k2=20, augment=False),
        warmup_epochs=1,
        epochs=2,
    )
    Trainer(config, load_dataset(folder / "data"), folder / "run").run()
    return Recommender(load_trained(folder / "run"), exclude_session_items=False)


if __name__ == "__main__":
    command_line.run(main)
