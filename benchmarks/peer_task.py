"""What SASRec of each library is asked for by `benchmarks.peers`, and how its times are taken: the same way for all.

It imports nothing of ours, for it runs in the environments of the others too.
"""

import itertools
import json
import math
import pathlib
import re
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

KS = (10, 20)
"""Cut-offs of the metrics: hits, NDCG and MRR at each. A recommendation is of the last of them."""

WARM = 10
"""Requests that do not count, for the first of them compile."""

_SECONDS_BETWEEN_LINES = 10.0


class Task(NamedTuple):
    """Sizes that all have in common, and the data.

    Attributes:
      sessions: a .npz file: items int32 of the training sessions one after another, and offsets, where each begins;
        test_items, test_offsets likewise of what stands before each test target, and test_targets int32; requests
        int32 [request, item]. All of these items occur in training.
      data_dir: the dataset folder that they are from, for whoever reads it.
      dim, blocks, heads, dropout, max_length: of the network.
      batch_sessions, batch_prefixes: rows of a step where a row is a session, and as many training targets.
      epochs: how many whole ones are trained.
      steps: instead of them, so many steps; 0: whole epochs.
      rounds: how often everything is ranked, the first time not counted.
    """

    sessions: str
    data_dir: str
    dim: int
    blocks: int
    heads: int
    dropout: float
    max_length: int
    batch_sessions: int
    batch_prefixes: int
    epochs: int
    steps: int
    rounds: int

    def arrays(self) -> dict[str, np.ndarray]:
        """The content of `sessions`."""
        with np.load(self.sessions) as held:
            return dict(held)


def run(measure: Callable[[Task], dict[str, Any]]) -> None:
    """Reads the task from the file that the command line names, and writes what was measured.

    The peak memory is that at the end, unless `measure` says what it was before it did more than the others.
    """
    task = Task(**json.loads(pathlib.Path(sys.argv[1]).read_text(encoding="utf-8")))
    found = measure(task)
    found.setdefault("peak_bytes", peak_bytes())
    pathlib.Path(sys.argv[2]).write_text(json.dumps(found), encoding="utf-8")


def training(seconds: Sequence[float], steps_per_epoch: int, targets_per_epoch: int) -> dict[str, float]:
    """The times of training, from those of its steps, the first one first.

    Returns:
      first_step_s; epoch_s, the median of whole epochs, or where there is none the median step times their number, the
      first step counting as the median one; epochs, how many were trained; and the two that were given.
    """
    usual = statistics.median(seconds[1:] or seconds)
    without_start = [usual, *seconds[1:]]
    firsts = range(0, len(seconds) - steps_per_epoch + 1, steps_per_epoch)
    whole = [sum(without_start[first : first + steps_per_epoch]) for first in firsts]
    return {
        "first_step_s": seconds[0],
        "epoch_s": statistics.median(whole) if whole else usual * steps_per_epoch,
        "epochs": len(seconds) / steps_per_epoch,
        "steps_per_epoch": steps_per_epoch,
        "targets_per_epoch": targets_per_epoch,
    }


def evaluation(rank_all: Callable[[], dict[str, float]], targets: int, rounds: int) -> dict[str, Any]:
    """The times of ranking the catalogue for each target, the first time apart, and the metrics it returns.

    The metrics are "hits@10" and so on; they are the same each time.
    """
    spent = []
    for number in range(rounds + 1):
        report(f"ranks everything, {number + 1} of {rounds + 1}")
        started = time.perf_counter()
        metrics = rank_all()
        spent.append(time.perf_counter() - started)
    seconds = statistics.median(spent[1:])
    return {
        "first_evaluation_s": spent[0],
        "evaluation_s": seconds,
        "targets": targets,
        "targets_per_s": targets / seconds,
        "metrics": {name: float(value) for name, value in metrics.items()},
    }


def latency(recommend: Callable[[list[int]], Sequence[int]], requests: np.ndarray) -> dict[str, float]:
    """The time from a session to its best items, by their numbers, one session after another.

    Args:
      recommend: given the items of a session, the latest last, returns the best `KS[-1]` items, the best first.
      requests: int32 [request, item]; the first `WARM` of them do not count.
    """
    taken = []
    for session in requests.tolist():
        started = time.perf_counter()
        best = recommend(session)
        taken.append(time.perf_counter() - started)
        if len({*best}) != KS[-1]:
            raise ValueError(f"a recommendation has {len({*best})} items, not {KS[-1]}")
    milliseconds = 1e3 * np.asarray(taken[WARM:])
    return {f"p{share}_ms": float(np.percentile(milliseconds, share)) for share in (50, 99)}


class Steps:
    """Collects the seconds and losses of steps, and says now and then how far training is."""

    def __init__(self, total: int):
        self._total, self._said = total, time.monotonic()
        self.seconds: list[float] = []
        self._losses: list[float] = []

    def add(self, seconds: float, loss: float = math.nan) -> None:
        """One more step."""
        self.seconds.append(seconds)
        self._losses.append(loss)
        if time.monotonic() - self._said >= _SECONDS_BETWEEN_LINES:
            self._said = time.monotonic()
            report(f"step {len(self.seconds):,} of {self._total:,}")

    def collect(self, steps: Iterable[tuple[float, float]]) -> None:
        """So many steps, seconds and loss of each, from what makes them as it is asked."""
        for seconds, loss in itertools.islice(steps, self._total):
            self.add(seconds, loss)

    def loss(self, steps_per_epoch: int) -> float:
        """The mean of the last epoch's steps, or of as many as there are."""
        return statistics.fmean(self._losses[-steps_per_epoch:])


def last_items(items: np.ndarray, offsets: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """The last items of each list, at most `width` of them.

    Args:
      items: of all lists, one after another.
      offsets: where each begins, and where the last one ends.
      width: of a row.

    Returns:
      int64 [list, width], the items from the first column on and zeros behind them; int64 [list], how many there are.
    """
    lengths = np.minimum(np.diff(offsets), width)
    rows, columns = np.zeros((len(lengths), width), np.int64), np.arange(width)
    filled = columns < lengths[:, None]
    rows[filled] = items[((offsets[1:] - lengths)[:, None] + columns)[filled]]
    return rows, lengths


def report(message: str) -> None:
    """Says how far it is."""
    print(f"  {message}", flush=True)


def peak_bytes() -> int:
    """The most memory that this process has had, where the system counts it; else 0."""
    status = pathlib.Path("/proc/self/status")
    found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text(encoding="utf-8")) if status.exists() else None
    return 1024 * int(found[1]) if found else 0
