"""How long a dataset folder takes to open and to make batches of, and how much memory.

python -m benchmarks.loading --data_dir=DIR --steps=100 --output=FILE.json
"""

import itertools
import pathlib
import re
import time

import jax
from absl import flags

from alterrec_jax.data.batches import TrainBatches
from alterrec_jax.data.dataset import load_dataset
from alterrec_jax.runtime import command_line, files
from alterrec_jax.runtime.text_table import aligned

_OUTPUT = flags.DEFINE_string("output", None, "JSON file for the result; without it only the table is printed.")
_DATA = flags.DEFINE_string("data_dir", None, "The dataset folder.", required=True)
_STEPS = flags.DEFINE_integer("steps", 100, "Batches that are made.", lower_bound=1)
_BATCH = flags.DEFINE_integer("batch_prefixes", 4096, "Prefixes of a batch.", lower_bound=1)
_LENGTH = flags.DEFINE_integer("max_length", 50, "Items of a session that an encoder sees.", lower_bound=1)


def main() -> int:
    """Opens the folder, makes the batches, prints the table and writes the JSON."""
    started = time.perf_counter()
    dataset = load_dataset(_DATA.value)
    opened = time.perf_counter()
    held = _status("RssAnon")
    batches = TrainBatches(dataset.splits["train"], _BATCH.value, _LENGTH.value)
    planned = time.perf_counter()
    epoch = batches.epoch(jax.random.key(0))
    next(epoch)
    begun = time.perf_counter()
    made = sum(1 for _ in itertools.islice(epoch, _STEPS.value))
    result = {
        "open_s": opened - started,
        "plan_s": planned - opened,
        "begin_s": begun - planned,
        "batch_s": (time.perf_counter() - begun) / max(made, 1),
        "opened_bytes": held,
        "peak_bytes": _status("VmHWM"),
        "file_bytes": _status("RssFile"),
    }
    head = [
        "opened in, s",
        "planned in, s",
        "epoch begins in, s",
        "a batch, ms",
        "own memory once open, GB",
        "peak, GB",
        "of it files, GB",
    ]
    seconds = [
        f"{result['open_s']:.2f}",
        f"{result['plan_s']:.2f}",
        f"{result['begin_s']:.2f}",
        f"{1e3 * result['batch_s']:.1f}",
    ]
    row = [*seconds, *(f"{result[name] / 1e9:.2f}" for name in ("opened_bytes", "peak_bytes", "file_bytes"))]
    print(aligned([head, row]))
    if _OUTPUT.value:
        files.write_json(_OUTPUT.value, result)
    return 0


def _status(field: str) -> int:
    """Bytes that the system counts for this process: VmHWM at the most, RssAnon and RssFile now."""
    (kilobytes,) = re.findall(rf"{field}:\s+(\d+) kB", pathlib.Path("/proc/self/status").read_text(encoding="utf-8"))
    return 1024 * int(kilobytes)


if __name__ == "__main__":
    command_line.run(main)
