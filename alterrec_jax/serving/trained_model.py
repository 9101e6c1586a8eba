"""A trained model, put together from a workdir's checkpoint and the dataset folder alone."""

import dataclasses
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from alterrec_jax.config import RunConfig
from alterrec_jax.contract import Params, System, param_shapes
from alterrec_jax.data.catalogue import as_numbered_in, require_encoders
from alterrec_jax.data.dataset import Dataset, load_dataset
from alterrec_jax.data.features import catalogue_info, context_shapes, make_context
from alterrec_jax.errors import UserError
from alterrec_jax.evaluation.fitted_views import with_weights_of
from alterrec_jax.models.registry import read_run_config
from alterrec_jax.scoring.prefix_encoder import PrefixEncoder
from alterrec_jax.training.checkpoint import read_newest


@dataclasses.dataclass(frozen=True)
class TrainedModel:
    """The best checkpoint of a run, and the dataset it is asked about.

    Attributes:
      config: of the run.
      dataset: its catalogue is the run's.
      system: its networks, and what of them is scored; weights that are fitted are those of that epoch.
      params: of each network, its parameters at the best validation.
      best: the record of that epoch.
      finished: whether the run has come to its end.
    """

    config: RunConfig
    dataset: Dataset
    system: System
    params: dict[str, Params]
    best: dict[str, Any]
    finished: bool

    def encoder(
        self, *components: str, new_items: Mapping[str, np.ndarray] | None = None, params: Any = None
    ) -> PrefixEncoder:
        """An encoder of some components of the system at once, of all where none is named.

        Args:
          components: their names.
          new_items: by name of a feature, float32 [new item, width]: of items that were not in training, behind the
            catalogue. For components alone that place new items (`Network.places_new_items`).
          params: others than the best ones, those of another epoch say.
        """
        chosen = {name: self.system.components[name] for name in components or self.system.components}
        reads = self.system._replace(components=chosen, networks={}).reads
        context = make_context(self.dataset, reads, self.config.precision, new_items)
        count = len(next(iter(new_items.values()))) if new_items else 0
        return PrefixEncoder(chosen, params or self.params, context, self.config.max_length, count)


def load_trained(workdir: str | os.PathLike[str], data: str | os.PathLike[str] | Dataset | None = None) -> TrainedModel:
    """Reads the best parameters of a run.

    Args:
      workdir: where it was trained.
      data: a dataset, or its folder, with the same items, and perhaps more, which then are no candidates; None for the
        one that it was trained on.

    Raises:
      UserError: no intact checkpoint, no epoch done yet, no dataset, or one without these items, or another one than
        that of a system which reads graphs or users.
    """
    meta = read_newest(workdir).meta
    config = read_run_config(meta["config"], f"the configuration in {workdir}")
    if meta["run_state"]["best"] is None:
        raise UserError(f"{workdir} has not finished its first epoch yet; let experiments.train go on")
    trained_on = pathlib.Path(meta["dataset"]["path"])
    if data is None and not trained_on.is_dir():
        raise UserError(f"the dataset {trained_on} that {workdir} was trained on is gone; name it by --data_dir")
    dataset = data if isinstance(data, Dataset) else load_dataset(data or trained_on)
    if dataset.fingerprint != meta["dataset"]["fingerprint"]:
        dataset = as_numbered_in(workdir, dataset)
        # Validation chose the model by this rule, and for this order: another folder of the same items changes neither.
        ruled = {"exclude_session_items": meta["dataset"]["exclude_session_items"]}
        order = {**dataset.manifest.get("order", {}), "ordered": meta["dataset"].get("ordered", True)}
        dataset = dataclasses.replace(dataset, manifest={**dataset.manifest, "protocol": ruled, "order": order})
    users = meta["dataset"].get("users", dataset.known_users)  # of a record from before there were any: as it was
    system = config.build(catalogue_info(dataset)._replace(users=users))
    if dataset.fingerprint != meta["dataset"]["fingerprint"]:
        reads = system.reads
        require_encoders(f"the run in {workdir} reads", (*reads.features, *reads.optional), meta["dataset"], dataset)
        if reads.graphs or reads.users:
            raise UserError(
                f"a run of model={config.family} reads the training sessions of its own dataset, {trained_on}; give "
                f"that as --data_dir, not {dataset.path}"
            )
    context = context_shapes(dataset, system.scoring_reads, config.precision)
    shapes = {name: param_shapes(network, context) for name, network in system.networks.items()}
    found = read_newest(workdir, shapes)
    if found.meta["run_state"]["best"] is None:  # an older checkpoint, where the newest one's arrays are damaged
        raise UserError(f"{workdir} has no intact checkpoint of a finished epoch; let experiments.train go on")
    best = found.meta["run_state"]["best"]
    return TrainedModel(config, dataset, with_weights_of(system, best), found.best, best, found.meta["finished"])
