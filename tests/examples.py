"""A trained model without training, for tests of what is done with one."""

import jax
import jax.numpy as jnp
import numpy as np

from alterrec_jax.config import AlterRecConfig
from alterrec_jax.data.dataset import Dataset
from alterrec_jax.models.registry import build_system
from alterrec_jax.serving.trained_model import TrainedModel


def random_model(config: AlterRecConfig, dataset: Dataset) -> TrainedModel:
    """A model of random parameters, gains and biases included; always the same."""
    rng, params = np.random.default_rng(0), {}
    vectors = jnp.asarray(dataset.text_vectors[: dataset.catalogue_size])
    system = build_system(config, dataset.catalogue_size)
    for name, network in system.networks.items():
        shapes = jax.eval_shape(network.init, jax.random.key(0), vectors)
        params[name] = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32), shapes)
    return TrainedModel(config, dataset, system, params, {}, True)
