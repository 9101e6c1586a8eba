"""A trained model, put together from a workdir's checkpoint and the dataset folder alone."""

import dataclasses
import os
import pathlib
from typing import Any

import jax
import numpy as np

from alterrec_jax.config import AlterRecConfig, from_mapping
from alterrec_jax.contract import Params
from alterrec_jax.data.catalogue import as_numbered_in
from alterrec_jax.data.dataset import Dataset, load_dataset
from alterrec_jax.errors import UserError
from alterrec_jax.models.alterrec import item_features
from alterrec_jax.models.registry import System, build_system
from alterrec_jax.nn.item_tables import placed_shapes
from alterrec_jax.scoring.prefix_encoder import Encoder
from alterrec_jax.training.checkpoint import read_newest


@dataclasses.dataclass(frozen=True)
class TrainedModel:
    """The best checkpoint of a run, and the dataset it is asked about.

    Attributes:
      config: of the run.
      dataset: its catalogue is the run's.
      system: its networks, and what of them is scored.
      params: of each network, its parameters at the best validation.
      best: the record of that epoch.
      finished: whether the run has come to its end.
    """

    config: AlterRecConfig
    dataset: Dataset
    system: System
    params: dict[str, Params]
    best: dict[str, Any]
    finished: bool

    def encoder(self, *parts: str, new_vectors: np.ndarray | None = None, params: Any = None) -> Encoder:
        """An encoder of some parts of the system at once, of all where none is named.

        Args:
          parts: their names. The text part, asked for alone, can hold further items behind the catalogue.
          new_vectors: float32 [new item, d_text], text vectors of items that were not in training; for "text" alone.
          params: others than the best ones, those of another epoch say.
        """
        vectors = self.dataset.text_vectors[: self.dataset.catalogue_size]
        vectors = vectors if new_vectors is None else np.concatenate([vectors, new_vectors])
        trained = {self.system.parts[name].trained for name in parts or self.system.parts}
        features = item_features(vectors, self.config.precision, trained)
        new_items = 0 if new_vectors is None else len(new_vectors)
        return self.system.encoder(params or self.params, features, self.config.max_length, *parts, new_items=new_items)


def load_trained(workdir: str | os.PathLike[str], data_dir: str | os.PathLike[str] | None = None) -> TrainedModel:
    """Reads the best parameters of a run.

    Args:
      workdir: where it was trained.
      data_dir: a dataset folder with the same items, and perhaps more, which then are no candidates; None for the one
        that it was trained on.

    Raises:
      UserError: no intact checkpoint, no epoch done yet, no dataset, or one without these items.
    """
    meta = read_newest(workdir).meta
    config = from_mapping(AlterRecConfig, meta["config"], f"the configuration in {workdir}")
    if meta["place"]["best"] is None:
        raise UserError(f"{workdir} has not finished its first epoch yet; let experiments.train go on")
    trained_on = pathlib.Path(meta["dataset"]["path"])
    if data_dir is None and not trained_on.is_dir():
        raise UserError(f"the dataset {trained_on} that {workdir} was trained on is gone; name it by --data_dir")
    dataset = load_dataset(data_dir or trained_on)
    if dataset.fingerprint != meta["dataset"]["fingerprint"]:
        dataset = as_numbered_in(workdir, dataset, meta["dataset"]["text_encoder"])
    system = build_system(config, dataset.catalogue_size)
    vectors = jax.ShapeDtypeStruct((dataset.catalogue_size, dataset.text_vectors.shape[1]), np.float32)
    key = jax.random.key(0)
    shapes = {name: jax.eval_shape(network.init, key, vectors) for name, network in system.networks.items()}
    found = read_newest(workdir, placed_shapes(shapes))
    if found.meta["place"]["best"] is None:  # an older checkpoint, where the newest one's arrays are damaged
        raise UserError(f"{workdir} has no intact checkpoint of a finished epoch; let experiments.train go on")
    return TrainedModel(config, dataset, system, found.best, found.meta["place"]["best"], found.meta["finished"])
