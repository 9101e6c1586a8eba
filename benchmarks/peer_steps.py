"""Training steps of others on our sessions: RecBole's, and those of released code that is in no package."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from alterrec_jax.data.dataset import Dataset
from alterrec_jax.errors import UserError
from alterrec_jax.runtime.console import log
from benchmarks import peer_environment

RELEASED = {"msgat": "MSGAT", "atten_mixer": "Atten-Mixer-torch/src"}
"""By the name of our family: where in a folder of clones its modules are."""

Found = dict[str, dict[str, float]]
"""By the name of our family: step_s, the seconds of a step, and steps_per_epoch."""


class Sizes(NamedTuple):
    """What all have in common: width, items of a session, prefixes of a step, and how many steps are timed."""

    dim: int
    max_length: int
    batch_prefixes: int
    steps: int


def recbole_models(dim: int) -> dict[str, tuple[str, dict[str, Any]]]:
    """By the name of our family: RecBole's class, and its sizes as ours are."""
    blocks = {"hidden_size": dim, "inner_size": 4 * dim, "n_layers": 2, "n_heads": 2}
    return {
        "sasrec": ("SASRec", blocks),
        "bert4rec": ("BERT4Rec", blocks),
        "core": ("CORE", {"embedding_size": dim, "inner_size": 256, "n_layers": 2, "n_heads": 2}),
        "narm": ("NARM", {"embedding_size": dim, "hidden_size": dim}),
        "sr_gnn": ("SRGNN", {"embedding_size": dim}),
    }


def time_recbole(environment: pathlib.Path, dataset: Dataset, names: Sequence[str], sizes: Sizes) -> Found:
    """The steps of those of the named families that RecBole has.

    Raises:
      UserError: the environment cannot be made, or RecBole stopped.
    """
    models = {name: model for name, model in recbole_models(sizes.dim).items() if name in names}
    if not models:
        return {}
    found = _run(environment, "recbole_steps", dataset, {**sizes._asdict(), "models": dict(models.values())})
    return {name: found[model] for name, (model, _) in models.items()}


def time_released(
    environment: pathlib.Path, clones: pathlib.Path, dataset: Dataset, names: Sequence[str], sizes: Sizes
) -> Found:
    """The steps of those of the named families whose released code is there.

    Raises:
      UserError: none is there, the environment cannot be made, or the code stopped.
    """
    models = {name: clones.resolve() / part for name, part in RELEASED.items() if name in names}
    there = {name: str(folder) for name, folder in models.items() if folder.is_dir()}
    if not there:
        raise UserError(f"--released={clones} holds none of {', '.join(RELEASED.values())}")
    train = dataset.splits["train"]
    of_data = {"items": dataset.catalogue_size, "prefixes": int(np.sum(train.lengths - train.first_target))}
    return _run(environment, "released_steps", dataset, {**sizes._asdict(), **of_data, "models": there})


def _run(environment: pathlib.Path, script: str, dataset: Dataset, settings: Mapping[str, Any]) -> Found:
    """What a script says of the training sessions."""
    python = peer_environment.python_of(environment.resolve())
    train = dataset.splits["train"]
    log(f"timing {', '.join(settings['models'])}, by {script}")
    return peer_environment.run(python, script, settings, {"offsets": train.offsets, "items": train.items})
