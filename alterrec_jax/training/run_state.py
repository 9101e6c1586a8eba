"""How far a run has come, and whose it is: the part of its checkpoints that is not arrays."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

from alterrec_jax.config import LENGTHS, SAVING, RunConfig, flat, is_longer, to_json
from alterrec_jax.data.catalogue import FILE, catalogue_dataset, encoders_of
from alterrec_jax.data.dataset import Dataset
from alterrec_jax.errors import UserError
from alterrec_jax.runtime import files

CONFIG = "config.json"
"""The configuration of a run, in its workdir."""


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
    return {"run_state": dataclasses.asdict(state), "finished": finished, **run_of(config, dataset)}


def run_of(config: RunConfig, dataset: Dataset) -> dict[str, Any]:
    """The part of a record that says whose it is."""
    return {
        "config": to_json(config),
        "dataset": {
            "path": str(dataset.path.absolute()),
            "fingerprint": dataset.fingerprint,
            "text_encoders": encoders_of(dataset),
            "widths": {name: vectors.shape[1] for name, vectors in dataset.vectors.items()},
            "exclude_session_items": dataset.exclude_session_items,
            "ordered": dataset.ordered,
            "users": dataset.known_users,
            "domains": {domain["name"]: domain["fingerprint"] for domain in dataset.manifest.get("domains", [])},
        },
    }


def check_own(workdir: pathlib.Path, record: Mapping[str, Any]) -> None:
    """Compares a record with the files of the run in whose workdir its checkpoint lies, as far as they are there.

    Raises:
      UserError: it is of a run of another configuration, naming the field, or on another dataset.
    """
    remedy = "each run's checkpoints belong into its own workdir"
    if "config" not in record:
        return  # of a program that did not name the run of a kept epoch
    try:
        config = files.read_json(workdir / CONFIG, "configuration")
    except (UserError, OSError):
        config = None
    if isinstance(config, dict):
        there, here = flat(record["config"]), flat(config)
        for name in sorted(there.keys() | here.keys(), key=lambda name: (name != "model", name)):
            if name not in (*SAVING, *LENGTHS) and there.get(name) != here.get(name):
                raise UserError(
                    f"a checkpoint in {workdir} is of another run: {name}={there.get(name)} in its record, "
                    f"{here.get(name)} in {workdir / CONFIG}; {remedy}"
                )
    fingerprint, trained_on = catalogue_dataset(workdir), record["dataset"]
    if fingerprint not in (None, trained_on["fingerprint"]):
        raise UserError(
            f"a checkpoint in {workdir} is of another run: its dataset is {trained_on['path']} "
            f"({trained_on['fingerprint']}), that of {workdir / FILE} is {fingerprint}; {remedy}"
        )


def check_same_run(workdir: pathlib.Path, record: Mapping[str, Any], config: RunConfig, dataset: Dataset) -> None:
    """Compares a record in a workdir with the run that is to continue there.

    Raises:
      UserError: it is of another configuration, naming the field, or of another dataset. A run may be longer than
        its record.
    """
    there, here = flat(record["config"]), flat(to_json(config))
    for name in sorted(there.keys() | here.keys(), key=lambda name: (name != "model", name)):
        if name in LENGTHS and name in there:
            if not is_longer(name, there[name], here[name]):
                raise UserError(
                    f"{workdir} holds a run with {name}={there[name]}, not {here[name]}; a run can be lengthened, not "
                    "shortened: use another --workdir"
                )
        elif name not in SAVING and there.get(name) != here.get(name):
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
