"""Other libraries: their environment, made once since their requirements do not go with ours, and what runs in it."""

import json
import os
import pathlib
import subprocess
import tempfile
import venv
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from alterrec_jax.errors import UserError
from alterrec_jax.runtime.console import log

REQUIREMENTS = (
    ("--no-deps", "recbole==1.2.1"),  # it asks for a version of ray that newer Pythons lack, and trains without any
    (
        "torch==2.13.0",
        *("numpy<2", "pandas<2.2", "scipy", "scikit-learn", "tqdm", "pyyaml", "tensorboard", "tabulate", "texttable"),
        *("psutil", "thop", "plotly", "colorlog==4.7.2", "colorama==0.4.4"),
        *("entmax==1.3", "matplotlib", "networkx", "numba", "seaborn"),  # what MSGAT imports
        "rectools[torch]==0.19.0",
    ),
)


def python_of(folder: pathlib.Path, requirements: Sequence[Sequence[str]] = REQUIREMENTS) -> pathlib.Path:
    """The interpreter of an environment that has some packages; it is made where it is not there yet.

    Args:
      folder: where it is, or is to be.
      requirements: arguments of `pip install`, one call after another.

    Raises:
      UserError: pip could not install them, as without a network; its last lines say why.
    """
    python, wanted = folder / "bin" / "python", "\n".join(" ".join(call) for call in requirements)
    ready = folder / "requirements.txt"
    if ready.exists() and ready.read_text(encoding="utf-8") == wanted:
        return python
    log(f"installing {' and '.join(call[-1] for call in requirements)} into {folder}, two minutes or more")
    venv.create(folder, clear=True, with_pip=True)
    for call in requirements:
        command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *call]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            why = " ".join(done.stderr.strip().splitlines()[-2:])
            raise UserError(f"pip could not install {' '.join(call)} into {folder}: {why}")
    ready.write_text(wanted, encoding="utf-8")
    return python


def run(
    python: pathlib.Path, script: str, settings: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """What a module of `benchmarks` writes that an interpreter runs, on the CPU, by as many threads as there are cores.

    Args:
      python: the interpreter; of another environment, the module must import nothing of ours but its neighbours.
      script: the module's name. It is given two files: the settings, and where to write its result, both JSON.
      settings: for JSON; "sessions" is added, a .npz with the arrays.
      arrays: by name.

    Raises:
      UserError: the module stopped.
    """
    threads = str(cores())
    environment = {
        **os.environ,
        "PYTHONPATH": str(pathlib.Path(__file__).parents[1]),
        **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), threads),
        **{"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"},
    }
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        np.savez(folder / "sessions.npz", **arrays)  # type: ignore[arg-type]
        written = json.dumps({**settings, "sessions": str(folder / "sessions.npz")})
        (folder / "settings.json").write_text(written, encoding="utf-8")
        files = [str(folder / "settings.json"), str(folder / "result.json")]
        command = [str(python), "-m", f"benchmarks.{script}", *files]
        # What it prints is how far it is: for the person who watches, not among the tables.
        done = subprocess.run(
            command, stdout=2, stderr=subprocess.PIPE, text=True, check=False, cwd=folder, env=environment
        )
        if done.returncode:
            raise UserError(f"{script} stopped: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
        result: dict[str, Any] = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    return result


def cores() -> int:
    """How many this process may use: those that taskset left, say."""
    return len(os.sched_getaffinity(0))
