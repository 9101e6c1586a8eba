"""A run that goes on with more epochs than it was begun with."""

import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from alterrec_jax.config import RunConfig
from alterrec_jax.contract import System
from alterrec_jax.data.dataset import Dataset
from alterrec_jax.data.features import catalogue_info
from alterrec_jax.errors import UserError
from alterrec_jax.models.registry import read_run_config
from alterrec_jax.training.loop import TrainLoop
from alterrec_jax.training.run_state import RunState, check_own, check_same_run


def stored_shapes(
    record: Mapping[str, Any],
    workdir: pathlib.Path,
    config: RunConfig,
    dataset: Dataset,
    loop: TrainLoop,
    loop_of: Callable[[System], TrainLoop],
) -> dict[str, Any]:
    """The shapes of the state in a checkpoint of a workdir, which may be that of a shorter run.

    Args:
      record: of the checkpoint.
      workdir: where it lies.
      config, dataset, loop: of the run that is to go on from it.
      loop_of: makes the loop of another system on the same batches.

    Raises:
      UserError: it is of another run than the workdir's or than this one, or of a shorter one that
        would have begun otherwise, had it been longer.
    """
    check_own(workdir, record)
    check_same_run(workdir, record, config, dataset)
    shorter = read_run_config(record["config"], f"the configuration in {workdir}")
    if shorter.epochs == config.epochs:
        return loop.shapes().as_tree()
    there, state = loop_of(shorter.build(catalogue_info(dataset))), RunState(**record["run_state"])
    if why := loop.lengthens(there, state.epoch + (state.step > 0)):
        raise UserError(
            f"{workdir} holds a run with epochs={shorter.epochs}, which cannot go on with epochs={config.epochs}: "
            f"{why}; use another --workdir"
        )
    return there.shapes().as_tree()
