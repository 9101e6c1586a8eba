"""What every command of a study shares: its flags, its runs, and what it writes."""

import datetime
import pathlib
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from absl import flags
from ml_collections import config_flags

from alterrec_jax import __version__
from alterrec_jax.config import RunConfig
from alterrec_jax.data.dataset import load_dataset
from alterrec_jax.errors import UserError
from alterrec_jax.models.registry import read_run_config
from alterrec_jax.runtime import command_line, extras, locks
from alterrec_jax.runtime.compiled_programs import keep_compiled_programs
from alterrec_jax.runtime.console import log
from alterrec_jax.runtime.host_memory import keep_freed_memory
from alterrec_jax.runtime.text_table import aligned
from alterrec_jax.training.trainer import Interrupted
from experiments import config_flag
from experiments.studies.outcome import Outcome, write
from experiments.studies.study import METRICS, Run, Study

flags.disclaim_key_flags()

_CONFIG = config_flag.define(
    "The configuration that every model of the study starts from; --config.FIELD=VALUE overrides a field."
)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Dataset folder written by data_tools.prepare.", required=True)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of the study. What it holds already is not trained again.", required=True
)
_SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2"], "Every model is trained once with each of these seeds.")
_OUTPUT = flags.DEFINE_string(
    "output", None, "Folder that gets a folder NAME with table, picture and findings; the workdir by default."
)
flags.mark_flag_as_required("config")

Runs = Callable[[Any], list[Run]]
Make = Callable[[Any], Outcome]


class Paper(NamedTuple):
    """Whose study it is.

    Attributes:
      package: of its commands.
      base: refuses what its models cannot start from; else the configuration that they do start from.
      models: by the names that tables give them, what each changes.
      metrics: as of a `Study`.
    """

    package: str
    base: Callable[[RunConfig], Any]
    models: Mapping[str, Callable[[Any], RunConfig]]
    metrics: tuple[str, ...] = METRICS


def run(paper: Paper, name: str, runs: Runs, make: Make) -> None:
    """Trains the runs that a table or figure needs, makes it and writes it; ends the process."""
    for flag in (_CONFIG, _DATA_DIR, _WORKDIR, _SEEDS, _OUTPUT):
        flags.declare_key_flag(flag.name)
    command_line.run(lambda: _main(paper, name, runs, make))


def _main(paper: Paper, name: str, runs: Runs, make: Make) -> int:
    extras.require("plots", f"the study's {name}", "matplotlib")  # before anything is trained
    keep_freed_memory()
    keep_compiled_programs()
    base = paper.base(read_run_config(_CONFIG.value.to_dict(), "--config").check())
    study = Study(
        load_dataset(_DATA_DIR.value), base, paper.models, _seeds(), pathlib.Path(_WORKDIR.value), paper.metrics
    )
    needed = list({run.workdir: run for run in runs(study)}.values())
    try:
        study.train(needed)
    except Interrupted:
        log("saved; the same command continues from here")
        return command_line.EXIT_RESUME
    outcome = make(study)
    print(aligned([[cell.replace("**", "*") for cell in row] for row in outcome.shown]))
    print(*(f"- {finding}" for finding in outcome.findings), sep="\n")
    folder = pathlib.Path(_OUTPUT.value or _WORKDIR.value) / name
    record = _record(f"{paper.package}.{name}", study, needed)
    with locks.exclusive(study.workdir / "write.lock"):  # two processes that trained for it together end together
        write(outcome, folder, record)
    print(f"\n{folder}: README.md, table.csv, figure.png")
    return 0


def _seeds() -> tuple[int, ...]:
    try:
        seeds = tuple(sorted({int(word) for word in _SEEDS.value}))
    except ValueError:
        seeds = ()
    if not seeds:
        raise UserError(f"--seeds={','.join(_SEEDS.value)} is not a list of whole numbers like 0,1,2")
    return seeds


def _record(module: str, study: Study[Any], runs: list[Run]) -> dict[str, str]:
    seconds = sum(record["seconds"] for run in runs for record in run.history)
    arguments = [f"--config={config_flags.get_config_filename(flags.FLAGS['config'])}"]
    given = [argument for argument in sys.argv[1:] if argument.startswith(("--config.", "--reference=", "--models="))]
    return {
        "command": " ".join(
            [
                "python -m",
                module,
                *arguments,
                *map(shlex.quote, given),
                "--data_dir=DIR --workdir=DIR",
                f"--seeds={_seeds_in_words(study)}",
            ]
        ),
        "seeds": _seeds_in_words(study),
        "runs": str(len(runs)),
        "training_minutes": f"{seconds / 60:.1f}",
        "dataset": f"{study.dataset.path.name}, fingerprint {study.dataset.fingerprint}",
        "commit": _commit(),
        "date": datetime.date.today().isoformat(),
    }


def _seeds_in_words(study: Study[Any]) -> str:
    return ",".join(map(str, study.seeds))


def _commit() -> str:
    """The commit of this checkout, and whether it has been changed since; the version of what is installed."""
    root = pathlib.Path(__file__).parents[2]
    if not (root / ".git").exists():  # an environment may lie in a checkout of something else
        return f"none: alterrec_jax {__version__} as installed"
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return described.stdout.strip()
