"""How long a command takes from its start to its end, in a process of its own, and where that time goes.

python -m benchmarks.start --workdir=RUN --output=FILE.json

RUN is a finished run of experiments.train whose dataset is still there. `recommend` answers one session of three items.
Programs that XLA compiled are first not kept at all, then found in a folder that a run before has filled. Imports are
all that import statements take; compiling is XLA's part of it alone, or what reading a kept program takes. Both are of
a start of their own, for counting them takes time.
"""

import json
import pathlib
import statistics
import tempfile
from collections.abc import Mapping, Sequence

import polars as pl
from absl import flags

from alterrec_jax.data import catalogue
from alterrec_jax.errors import UserError
from alterrec_jax.runtime import command_line, files
from alterrec_jax.runtime.console import progress
from alterrec_jax.runtime.text_table import aligned
from benchmarks.started import once

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a run of experiments.train.", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "JSON file for the result; without it only the table is printed.")
_ROUNDS = flags.DEFINE_integer("rounds", 5, "How often each command is started; the median counts.", lower_bound=1)


def main() -> int:
    """Starts the commands, prints the table and writes the JSON."""
    run = pathlib.Path(_WORKDIR.value)
    if not (run / catalogue.FILE).exists():
        raise UserError(f"{run} is no run of experiments.train; train one and name its --workdir")
    session = pl.read_parquet(run / catalogue.FILE)["item_id"].head(3).to_list()
    of_run = f"--workdir={run}"
    with tempfile.TemporaryDirectory() as folder:
        request = pathlib.Path(folder) / "request.jsonl"
        request.write_text(json.dumps({"session": session}) + "\n", encoding="utf-8")
        kept = {"JAX_COMPILATION_CACHE_DIR": f"{folder}/programs", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
        none = {"JAX_ENABLE_COMPILATION_CACHE": "false"}
        helps = [(f"{name} --help", [f"experiments.{name}", "--help"], none) for name in ("train", "recommend")]
        working = {
            "recommend": ["experiments.recommend", of_run, f"--input={request}"],
            "evaluate": ["experiments.evaluate", of_run],
        }
        commands = list(helps)
        for name, command in working.items():
            commands += [(name, command, none), (f"{name}, programs kept", command, kept)]
        found = {}
        for name, command, environment in progress(commands, "commands", unit="commands"):
            found[name] = _median(command, environment, pathlib.Path(folder) / "taken.json")
    rows = [["command", "seconds", "imports", "compiling"]]
    rows += [[name, *(f"{value:.2f}" for value in taken.values())] for name, taken in found.items()]
    print(aligned(rows))
    if _OUTPUT.value:
        files.write_json(_OUTPUT.value, {"commands": found})
    return 0


def _median(command: Sequence[str], environment: Mapping[str, str], path: pathlib.Path) -> dict[str, float]:
    """The median time, and the parts of a start before, which followed one that filled the folder and the caches."""
    parts = [once(command, environment, path) for _ in range(2)][1]
    return parts | {"seconds": statistics.median(once(command, environment)["seconds"] for _ in range(_ROUNDS.value))}


if __name__ == "__main__":
    command_line.run(main)
