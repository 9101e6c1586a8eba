"""Ranking speed, against the products of queries with the item tables alone.

python -m benchmarks.evaluation --output=FILE.json
"""

import statistics

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from alterrec_jax.data.targets import Targets
from alterrec_jax.evaluation.batching import default_batch_size
from alterrec_jax.evaluation.ranking import component_scores, rank_targets
from alterrec_jax.runtime import command_line, files
from alterrec_jax.runtime.host_memory import keep_freed_memory
from alterrec_jax.runtime.text_table import aligned
from alterrec_jax.sharding.item_shards import ItemShards
from benchmarks.timing import seconds

_OUTPUT = flags.DEFINE_string("output", None, "JSON file for the result; without it only the table is printed.")
_ITEMS = flags.DEFINE_integer("items", 40_000, "Items of the catalogue.", lower_bound=1)
_DIM = flags.DEFINE_integer("dim", 300, "Width of both networks.", lower_bound=1)
_TARGETS = flags.DEFINE_integer("targets", 2_000, "Targets to rank.", lower_bound=1)
_VIEWS = {"fused": {"id": 0.5, "text": 0.5}, "id": {"id": 1.0}, "text": {"text": 1.0}}
_ROUNDS = flags.DEFINE_integer("rounds", 5, "Both are timed in turn so often; ratios are medians.", lower_bound=1)


def main() -> int:
    """Times, prints the table and writes the JSON."""
    keep_freed_memory()
    random = np.random.default_rng(0)
    items, dim, count = _ITEMS.value, _DIM.value, _TARGETS.value
    tables = {name: jnp.asarray(random.normal(size=(items, dim)), jnp.float32) for name in ("id", "text")}
    queries = {name: random.normal(size=(count, dim)).astype(np.float32) for name in tables}
    targets = Targets(np.arange(count), np.ones(count, np.int32), random.integers(0, items, count).astype(np.int32))
    size, shards = default_batch_size(items), ItemShards.of(items, 1)

    def products() -> None:
        for start in range(0, count, size):
            for name, array in queries.items():
                jax.block_until_ready(component_scores(array[start : start + size], tables[name], shards))

    def ranked() -> None:
        rank_targets([queries], tables, _VIEWS, targets)

    alone, whole = [], []
    for number in range(_ROUNDS.value + 1):
        part = seconds(products)
        if number:  # the first round compiles
            alone.append(part)
            whole.append(seconds(ranked))
        else:
            ranked()
    result = {
        "targets_per_s": count / statistics.median(whole),
        "products_ms": 1e3 * statistics.median(alone),
        "ranking_ms": 1e3 * statistics.median(whole),
        "floor_ratio": statistics.median(a / b for a, b in zip(whole, alone, strict=True)),
    }
    head = ["items", "targets/s", "products, ms", "ranking, ms", "ranking / products"]
    speed, *spent = (f"{result[name]:,.0f}" for name in ("targets_per_s", "products_ms", "ranking_ms"))
    print(aligned([head, [f"{items:,}", speed, *spent, f"{result['floor_ratio']:.2f}"]]))
    print("(fused, ID and text at once: two products a target, three countings)")
    if _OUTPUT.value:
        files.write_json(_OUTPUT.value, result)
    return 0


if __name__ == "__main__":
    command_line.run(main)
