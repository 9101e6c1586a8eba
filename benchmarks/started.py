"""One start of a command as a process of its own, with its time and what of it went where."""

import json
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

from alterrec_jax.errors import UserError

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


def once(command: Sequence[str], environment: Mapping[str, str], path: pathlib.Path | None = None) -> dict[str, float]:
    """Seconds in all of one start of `MODULE, FLAGS...`; with a path also imports_s and compiling_s of them.

    Counting these itself takes time, some tenths of a second where much is imported.

    Args:
      command: the module and its flags.
      environment: what the process has besides the variables of this one.
      path: of a file that it may write the parts to.

    Raises:
      UserError: it did not end well.
    """
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *(("-m",) if path is None else ("-c", _CHILD, str(path))), *command],
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - started
    if done.returncode:
        raise UserError(f"{' '.join(command)} stopped: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
    return {"seconds": seconds, **(json.loads(path.read_text(encoding="utf-8")) if path else {})}
