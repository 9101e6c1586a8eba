"""How far a run has come, and whose it is: the part of its checkpoints that is not arrays."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

from alterrec_jax.config import SAVING, RunConfig, flat, to_json
from alterrec_jax.data.catalogue import encoder_of
from alterrec_jax.data.dataset import Dataset
from alterrec_jax.errors import UserError


@dataclasses.dataclass
class RunState:
    """How far a run has come, and what it has seen.

    Attributes:
      epoch: the epoch it is in, from 0.
      step: steps of that epoch that are done.
      seconds: time spent on them.
      history: one flat record for each epoch that is done.
      best: the record of the best of them, or None.
    """

    epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    history: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    best: dict[str, Any] | None = None


def record_of(state: RunState, finished: bool, config: RunConfig, dataset: Dataset) -> dict[str, Any]:
    """The record of a checkpoint, as JSON holds it."""
    return {
        "run_state": dataclasses.asdict(state),
        "finished": finished,
        "config": to_json(config),
        "dataset": {
            "path": str(dataset.path.absolute()),
            "fingerprint": dataset.fingerprint,
            "text_encoder": encoder_of(dataset),
            "exclude_session_items": dataset.exclude_session_items,
        },
    }


def check_same_run(workdir: pathlib.Path, record: Mapping[str, Any], config: RunConfig, dataset: Dataset) -> None:
    """Compares a record in a workdir with the run that is to continue there.

    Raises:
      UserError: it is of another configuration, naming the field, or of another dataset.
    """
    there, here = flat(record["config"]), flat(to_json(config))
    for name in sorted(there.keys() | here.keys(), key=lambda name: (name != "model", name)):
        if name not in SAVING and there.get(name) != here.get(name):
            raise UserError(
                f"{workdir} holds a run with {name}={there.get(name)}, not {here.get(name)}; "
                "use another --workdir, or remove that one"
            )
    order_there, order_here = (", ".join(one.get("networks", {})) for one in (record["config"], to_json(config)))
    if order_there != order_here:  # the order of their turns
        raise UserError(f"{workdir} holds a run with the networks {order_there}, in this order; use another --workdir")
    trained_on = record["dataset"]
    if trained_on["fingerprint"] != dataset.fingerprint:
        raise UserError(
            f"{workdir} holds a run on another dataset ({trained_on['path']}, {trained_on['fingerprint']}) "
            f"than {dataset.path} ({dataset.fingerprint}); use another --workdir"
        )
