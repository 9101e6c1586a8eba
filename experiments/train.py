"""Trains the system of a configuration on a prepared dataset, or continues a run that was interrupted or is lengthened.

    python -m experiments.train --config=quickstart --data_dir=DIR --workdir=DIR

Any field of the configuration can be overridden: --config.seed=1 --config.networks.text.dropout=0.3
"""

import pathlib

from absl import flags

from alterrec_jax.config import PRECISIONS
from alterrec_jax.errors import UserError
from alterrec_jax.models.registry import read_run_config
from alterrec_jax.runtime import command_line
from alterrec_jax.runtime.console import log
from experiments import config_flag, devices

_CONFIG = config_flag.define(
    "A configuration that is shipped (experiments/configs), by its name, say best, or the path of a file of your own; "
    "--config.FIELD=VALUE overrides a field. python -m experiments.models MODEL "
    "explains the fields.",
)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Dataset folder written by data_tools.prepare.", required=True)
_WORKDIR = flags.DEFINE_string(
    "workdir",
    None,
    "Folder of the run: checkpoints, logs, curves. One that exists is continued; with more epochs or a larger patience "
    "it is lengthened.",
    required=True,
)
_PRECISION = flags.DEFINE_enum(
    "precision", None, PRECISIONS, "Of matrix products; the same as --config.precision, which it overrides."
)
flags.mark_flag_as_required("config")
devices.define()


def main() -> int:
    """Trains, and tells the best epoch."""
    from alterrec_jax.data.dataset import load_dataset
    from alterrec_jax.runtime.host_memory import keep_freed_memory
    from alterrec_jax.training.trainer import Interrupted, Trainer

    keep_freed_memory()
    chosen = {"precision": _PRECISION.value} if _PRECISION.value else {}
    config = read_run_config(_CONFIG.value.to_dict() | chosen, "--config").check()
    dataset = load_dataset(_DATA_DIR.value)
    with devices.used():
        try:
            best = Trainer(config, dataset, pathlib.Path(_WORKDIR.value)).run()
        except Interrupted:
            log("saved; the same command continues from here")
            return command_line.EXIT_RESUME
        except KeyboardInterrupt:
            raise UserError("interrupted; the same command continues from the last checkpoint") from None
    end = f"_{config.protocol.select_on}"
    log(
        f"best epoch {best['epoch'] + 1} by validation {config.protocol.select_on}: "
        + "  ".join(f"{name.removesuffix(end)} {value:.4f}" for name, value in best.items() if name.endswith(end))
    )
    return 0


if __name__ == "__main__":
    command_line.run(main)
