"""How the benchmarks take their times."""

import time
from collections.abc import Callable
from typing import Any

import jax


def seconds(call: Callable[[], Any]) -> float:
    """The time until everything that the call returns has been computed."""
    started = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - started
