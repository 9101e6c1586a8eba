"""Time and peak memory of preparing a log, and of opening what was prepared and making batches of it, by its size.

    python -m benchmarks.preparation --interactions=1000000,10000000,100000000 --output=FILE.json
    python -m benchmarks.preparation --kind=csv --split=leave_one_out

The log is made: visits that overlap in time, items that follow Zipf's law, a row a click in the order of the clicks.
"""

import dataclasses
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np
import polars as pl
from absl import flags

from alterrec_jax.errors import UserError
from alterrec_jax.runtime import command_line, files
from alterrec_jax.runtime.console import log, progress
from alterrec_jax.runtime.text_table import aligned

_OUTPUT = flags.DEFINE_string("output", None, "JSON file for the result; without it only the table is printed.")
_FOLDER = flags.DEFINE_string(
    "folder", None, "Where logs and datasets are made, and removed; a temporary one if unset."
)
_INTERACTIONS = flags.DEFINE_list("interactions", ["1000000", "10000000", "100000000"], "Rows of each log.")
_ITEMS = flags.DEFINE_integer("items", 500_000, "Items that there are.", lower_bound=100)
_FILES = flags.DEFINE_integer("files", 10, "Files that a log is in.", lower_bound=1)
_KIND = flags.DEFINE_enum("kind", "parquet", ["parquet", "csv"], "What the files of the log are.")
_SPLIT = flags.DEFINE_enum("split", "temporal", ["temporal", "leave_one_out", "ratio"], "As of data_tools.prepare.")
_STEPS = flags.DEFINE_integer("steps", 100, "Batches that are made of each dataset.", lower_bound=1)
_BLOCK = 2_000_000  # rows that are made at a time
_SHORTEST, _LONGEST, _MEAN = 2, 50, 9
_FIRST_DAY, _DAYS = 1_700_000_000, 90


@dataclasses.dataclass(frozen=True)
class Spent:
    """What a command took: seconds, and bytes that it held at the most."""

    seconds: float
    bytes: int


def main() -> int:
    """Makes each log, prepares and opens it, prints the table and writes the JSON."""
    results = []
    for given in _INTERACTIONS.value:
        if not given.isdigit() or int(given) < 1000:
            raise UserError(f"--interactions has '{given}'; name whole numbers from 1000 on, with commas between")
        with tempfile.TemporaryDirectory(dir=_FOLDER.value) as folder:
            results.append(_measure(int(given), pathlib.Path(folder)))
    head = ["interactions", "log, GB", "prepared in, s", "at the peak, GB", "opened in, s", "an epoch begins after, s"]
    head += ["a batch, ms", "at the peak, GB", "of it files, GB"]
    rows = [
        [
            f"{result['interactions']:,}",
            f"{result['log_bytes'] / 1e9:.2f}",
            f"{result['prepare_s']:.0f}",
            f"{result['prepare_peak_bytes'] / 1e9:.2f}",
            f"{result['open_s']:.1f}",
            f"{result['plan_s'] + result['begin_s']:.1f}",
            f"{1e3 * result['batch_s']:.1f}",
            f"{result['peak_bytes'] / 1e9:.2f}",
            f"{result['file_bytes'] / 1e9:.2f}",
        ]
        for result in results
    ]
    print(aligned([head, *rows]))
    if _OUTPUT.value:
        files.write_json(_OUTPUT.value, {"kind": _KIND.value, "split": _SPLIT.value, "sizes": results})
    return 0


def _measure(interactions: int, folder: pathlib.Path) -> dict[str, float]:
    logs, items, dataset, report = (folder / name for name in ("logs", "items.csv", "dataset", "report.json"))
    logs.mkdir()
    write_log(logs, items, interactions)
    size = sum(file.stat().st_size for file in logs.iterdir())
    arguments = [f"--interactions={logs}", f"--items={items}", "--order_column=time", f"--split={_SPLIT.value}"]
    arguments += ["--source=tabular", "--item_column=item_id", "--duplicates=keep", "--text_model=none"]
    prepared = run("data_tools.prepare", *arguments, f"--out={dataset}")
    log(f"{interactions:,} interactions: {prepared.seconds:.0f} s, {prepared.bytes / 1e9:.2f} GB at the peak")
    run("benchmarks.loading", f"--data_dir={dataset}", f"--steps={_STEPS.value}", f"--output={report}")
    return {
        "interactions": interactions,
        "log_bytes": size,
        "prepare_s": prepared.seconds,
        "prepare_peak_bytes": prepared.bytes,
        **files.read_json(report, "report"),
    }


def run(module: str, *arguments: str) -> Spent:
    """Runs a command of this project in a process of its own.

    Raises:
      UserError: it failed; its last line says why.
    """
    started = time.perf_counter()
    with tempfile.TemporaryFile("w+", encoding="utf-8") as said:
        process = subprocess.Popen([sys.executable, "-m", module, *arguments], stdout=said, stderr=said)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        if process.returncode:
            raise UserError(f"{module} ended with {process.returncode}: {said.read().strip().splitlines()[-1]}")
    return Spent(time.perf_counter() - started, 1024 * usage.ru_maxrss)


def write_log(logs: pathlib.Path, items: pathlib.Path, interactions: int) -> None:
    """Writes a made log, a file after another, in bounded memory: columns session_id, item_id and time."""
    numbers = pl.int_range(_ITEMS.value, eager=True).cast(pl.String)
    pl.DataFrame({"item_id": "item-" + numbers, "title": "product " + numbers}).write_csv(items)
    random, sessions, day = np.random.default_rng(0), 0, _DAYS * 86_400 / _FILES.value
    for file in progress(range(_FILES.value), "making the log", unit="files"):
        borders = [interactions * part // _FILES.value for part in (file, file + 1)]
        rows = borders[1] - borders[0]
        blocks = max(-(-rows // _BLOCK), 1)
        some = []
        for block in range(blocks):
            size = rows * (block + 1) // blocks - rows * block // blocks
            start = _FIRST_DAY + day * (file + block / blocks)
            frame, sessions = _clicks(random, size, sessions, start, day / blocks)
            part = logs / f".{file}-{block}"
            frame.write_parquet(part)
            some.append(part)
        table = pl.scan_parquet(some, glob=False)
        if _KIND.value == "csv":
            table.sink_csv(logs / f"{file:04}.csv")
        else:
            table.sink_parquet(logs / f"{file:04}.parquet")
        for part in some:
            part.unlink()


def _clicks(
    random: np.random.Generator, rows: int, first: int, start: float, seconds: float
) -> tuple[pl.DataFrame, int]:
    """So many clicks of visits that begin within a span of time, by time; and how many visits there are so far."""
    lengths = np.clip(random.geometric(1 / (_MEAN - 1), rows // _SHORTEST + 1) + 1, _SHORTEST, _LONGEST)
    visits = int(np.searchsorted(np.cumsum(lengths), rows)) + 1
    visit = np.repeat(np.arange(visits), lengths[:visits])[:rows]
    pauses = random.exponential(40, rows)
    pauses[np.diff(visit, prepend=-1) != 0] = 0
    since = np.cumsum(pauses)
    since -= since[np.searchsorted(visit, visit)]  # of the first click of the visit
    when = start + random.uniform(0, seconds, visits)[visit] + since
    item = np.floor(np.exp(random.uniform(0, np.log(_ITEMS.value), rows))).astype(np.int64) - 1
    name = (first + visit + 1) * 61_897_001 % 999_999_999_989  # looks like chance, and is one to one: that is a prime
    order = np.argsort(when, kind="stable")
    text = pl.Series(name[order]).cast(pl.String).str.zfill(12)
    frame = pl.DataFrame({"session_id": "v" + text, "time": when[order].astype(np.int64)})
    return frame.insert_column(1, ("item-" + pl.Series(item[order]).cast(pl.String)).alias("item_id")), first + visits


if __name__ == "__main__":
    command_line.run(main)
