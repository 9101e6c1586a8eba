"""Searches settings on validation with Optuna: trains each of many configurations, and writes down the best.

    python -m experiments.sweep --config=amazon_beauty --data_dir=DIR --workdir=DIR

Start the same command as often as there is room for, also at once: the processes share WORKDIR/study.db, and each takes
further trials until there are --trials of them. Trial N trains in WORKDIR/trials/N; after a kill the same command goes
on there. Then train WORKDIR/best.py on other seeds, or evaluate the best trial's folder.

--space names what is searched, by default the grid of AlterRec's paper (appendix F); experiments/space.py says how to
write one. Lists alone are a grid, of which each combination is trained once; with a range Optuna's TPE draws. A trial's
score is the best validation of its epochs by protocol.select_on, of the system's main view. Test data are never looked
at.
"""

import pathlib

from absl import flags

from alterrec_jax.errors import UserError
from alterrec_jax.models.registry import read_run_config
from alterrec_jax.runtime import command_line, extras
from alterrec_jax.runtime.console import log
from experiments import config_flag, shipped

_CONFIG = config_flag.define(
    "The configuration that a sweep begins from, a name or a path; --config.FIELD=VALUE is for all trials.",
)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Dataset folder written by data_tools.prepare.", required=True)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of the sweep: study, trials, table, best.py. One that exists is continued.", required=True
)
_SPACE = flags.DEFINE_string(
    "space",
    "paper",
    "JSON file of fields with a list of values or a range each; paper, the only one that is shipped, by its name.",
)
_TRIALS = flags.DEFINE_integer(
    "trials", None, "How many, of all processes together; by default the whole grid, or 20.", lower_bound=1
)
_PRUNE = flags.DEFINE_bool(
    "prune",
    True,
    "Whether a trial ends early whose best epoch is below the median of the others at its epoch: from the sixth trial "
    "on, once every kind of stage has been trained (pretraining, a turn of each network).",
)
flags.mark_flag_as_required("config")


def main() -> int:
    """Trains trials until there are enough, and tells what came of them."""
    extras.require("sweep", "a sweep", "optuna", "sqlalchemy")
    from alterrec_jax.data.dataset import load_dataset
    from alterrec_jax.runtime.compiled_programs import keep_compiled_programs
    from alterrec_jax.runtime.host_memory import keep_freed_memory
    from alterrec_jax.training.trainer import Interrupted
    from experiments import sweep_trials
    from experiments.space import read_space

    keep_freed_memory()
    keep_compiled_programs()
    base = read_run_config(_CONFIG.value.to_dict(), "--config").check()
    space, workdir = read_space(shipped.space_file(_SPACE.value), base), pathlib.Path(_WORKDIR.value)
    dataset = load_dataset(_DATA_DIR.value)
    try:
        sweep_trials.run(space, base, dataset, workdir, trials=_TRIALS.value, prune=_PRUNE.value)
    except Interrupted:
        log("saved; the same command continues from here")
        return command_line.EXIT_RESUME
    except KeyboardInterrupt:
        raise UserError("interrupted; the same command continues from the last checkpoint") from None
    return 0


if __name__ == "__main__":
    command_line.run(main)
