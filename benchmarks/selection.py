"""What finding the rank window costs by each selection, against the product that makes the scores.

python -m benchmarks.selection --output=FILE.json
"""

import functools
import statistics

import jax
from absl import flags

from alterrec_jax.errors import UserError
from alterrec_jax.hard_negatives.rank_window import rank_window
from alterrec_jax.hard_negatives.search import SELECTIONS
from alterrec_jax.numerics import scores_of
from alterrec_jax.runtime import command_line, files
from alterrec_jax.runtime.host_memory import keep_freed_memory
from alterrec_jax.runtime.text_table import aligned
from benchmarks.timing import seconds

_OUTPUT = flags.DEFINE_string("output", None, "JSON file for the result; without it only the table is printed.")
_ITEMS = flags.DEFINE_integer("items", 12_000, "Items of the catalogue.", lower_bound=2)
_DIM = flags.DEFINE_integer("dim", 300, "Width of the networks.", lower_bound=1)
_PREFIXES = flags.DEFINE_integer("prefixes", 500, "Prefixes to mine for.", lower_bound=1)
_K1 = flags.DEFINE_integer("k1", 20, "First rank of the window.", lower_bound=0)
_K2 = flags.DEFINE_integer("k2", 6000, "One past its last rank.", lower_bound=1)
_ROUNDS = flags.DEFINE_integer("rounds", 5, "All are timed in turn so often; ratios are medians.", lower_bound=1)


def main() -> int:
    """Times, prints the table and writes the JSON."""
    if not _K1.value < _K2.value <= _ITEMS.value:
        raise UserError(f"--k1={_K1.value} --k2={_K2.value}: ranks must satisfy k1 < k2 <= --items={_ITEMS.value}")
    keep_freed_memory()
    keys = jax.random.split(jax.random.key(0))
    shapes = ((_PREFIXES.value, _DIM.value), (_ITEMS.value, _DIM.value))
    queries, items = (jax.random.normal(key, shape) for key, shape in zip(keys, shapes, strict=True))
    multiply = jax.jit(scores_of)
    scores = jax.block_until_ready(multiply(queries, items))
    select = jax.jit(rank_window, static_argnums=(1, 2, 3, 4))
    calls = {"product": functools.partial(multiply, queries, items)}
    for selection in SELECTIONS:
        calls[selection] = functools.partial(select, scores, _K1.value, _K2.value, min(5, _K1.value), selection)
    times: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(_ROUNDS.value + 1):
        for name, call in calls.items():
            spent = min(seconds(call) for _ in range(3))
            if number:  # the first round compiles
                times[name].append(spent)
    result = {
        name: {
            "ms": 1e3 * statistics.median(spent),
            "products": statistics.median(a / b for a, b in zip(spent, times["product"], strict=True)),
        }
        for name, spent in times.items()
    }
    rows = [[n, f"{r['ms']:.1f}", f"{r['products']:.2f}"] for n, r in result.items()]
    print(aligned([["", "ms", "products"], *rows]))
    if _OUTPUT.value:
        files.write_json(_OUTPUT.value, result)
    return 0


if __name__ == "__main__":
    command_line.run(main)
