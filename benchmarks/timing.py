"""How the benchmarks take their times, and print them."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import jax


def seconds(call: Callable[[], Any]) -> float:
    """The time until everything that the call returns has been computed."""
    started = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - started


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Aligned columns, the first to the left and the others to the right."""
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    lines = ("  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in [head, *rows])
    return "\n".join(line.rstrip() for line in lines)
