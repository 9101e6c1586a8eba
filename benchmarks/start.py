"""How long a command takes from its start to its end, in a process of its own, and where that time goes.

python -m benchmarks.start --workdir=RUN --output=FILE.json

RUN is a finished run of experiments.train whose dataset is still there. `recommend` answers one session of three items.
Programs that XLA compiled are first not kept at all, then found in a folder that a run before has filled. Imports are
all that import statements take; compiling is XLA's part of it alone, or what reading a kept program takes.
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence

import polars as pl
from absl import flags

from alterrec_jax.data import catalogue
from alterrec_jax.errors import UserError
from alterrec_jax.runtime import command_line, files
from alterrec_jax.runtime.console import progress
from alterrec_jax.runtime.text_table import aligned

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a run of experiments.train.", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "JSON file for the result; without it only the table is printed.")
_ROUNDS = flags.DEFINE_integer("rounds", 5, "How often each command is started; the median counts.", lower_bound=1)

# Runs a command as `python -m` does, and leaves in a file what imports and compiling took.
_CHILD = """
import builtins, json, runpy, sys, time
path, module, *arguments = sys.argv[1:]
taken, depth, original = {"imports_s": 0.0, "compiling_s": 0.0}, 0, builtins.__import__

def timed(*given, **named):
    global depth
    depth, started = depth + 1, time.perf_counter()
    try:
        return original(*given, **named)
    finally:
        depth -= 1
        if not depth:
            taken["imports_s"] += time.perf_counter() - started

def listen(event, seconds, **named):
    if event.endswith("backend_compile_duration"):
        taken["compiling_s"] += seconds

builtins.__import__ = timed
if "--help" not in arguments:
    import jax
    jax.monitoring.register_event_duration_secs_listener(listen)
sys.argv = [module, *arguments]
try:
    runpy.run_module(module, run_name="__main__", alter_sys=True)
finally:
    with open(path, "w") as file:
        json.dump(taken, file)
"""


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
    """The round of the median time, after one that fills the folder of kept programs and the system's caches."""
    rounds = [once(command, environment, path) for _ in range(_ROUNDS.value + 1)][1:]
    middle = statistics.median_low(taken["seconds"] for taken in rounds)
    return next(taken for taken in rounds if taken["seconds"] == middle)


def once(command: Sequence[str], environment: Mapping[str, str], path: pathlib.Path) -> dict[str, float]:
    """Seconds in all, and imports_s and compiling_s of them, of one start of `MODULE, FLAGS...`.

    Args:
      command: the module and its flags.
      environment: what the process has besides the variables of this one.
      path: of a file that it may write.

    Raises:
      UserError: it did not end well.
    """
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, str(path), *command],
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - started
    if done.returncode:
        raise UserError(f"{' '.join(command)} stopped: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
    return {"seconds": seconds, **json.loads(path.read_text(encoding="utf-8"))}


if __name__ == "__main__":
    command_line.run(main)
