"""Time and memory of a training step as the catalogue grows: each size in a process of its own.

python -m benchmarks.scaling --items=10000,100000,1000000 --output=FILE.json
"""

import json
import pathlib
import subprocess
import sys
import tempfile

from absl import flags

from alterrec_jax.errors import UserError
from alterrec_jax.runtime import command_line, files
from alterrec_jax.runtime.console import progress
from alterrec_jax.runtime.text_table import aligned

_OUTPUT = flags.DEFINE_string("output", None, "JSON file for the result; without it only the table is printed.")
_ITEMS = flags.DEFINE_list("items", ["10000", "100000", "1000000"], "Sizes of the catalogue, separated by commas.")
_BATCH = flags.DEFINE_integer("batch_prefixes", 1024, "Prefixes a step.", lower_bound=1)


def main() -> int:
    """Measures every size by benchmarks.memory, prints the table and writes the JSON."""
    results = [_measure(items) for items in progress(_ITEMS.value, "sizes", unit="sizes")]
    rows = [
        [
            f"{result['items']:,}",
            *(f"{1e6 * result['step_s'][name] / result['items']:.2f}" for name in ("id", "text")),
            f"{result['tables_bytes'] / 1e9:.2f}",
            f"{result['beyond_tables_bytes'] / 1e9:.2f}",
        ]
        for result in results
    ]
    print(
        aligned([["items", "ID step, us an item", "text step, us an item", "tables, GB", "beyond tables, GB"], *rows])
    )
    if _OUTPUT.value:
        files.write_json(_OUTPUT.value, results)
    return 0


def _measure(items: str) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        output = pathlib.Path(folder) / "memory.json"
        sizes = (f"--items={items}", f"--batch_prefixes={_BATCH.value}", f"--output={output}")
        done = subprocess.run([sys.executable, "-m", "benchmarks.memory", *sizes], capture_output=True, text=True)
        if done.returncode:  # negative: the signal that ended it, say for want of memory
            said = (done.stderr.strip().splitlines() or ["nothing"])[-1]
            raise UserError(f"benchmarks.memory --items={items} ended with {done.returncode}, saying: {said}")
        return json.loads(output.read_text(encoding="utf-8"))


if __name__ == "__main__":
    command_line.run(main)
