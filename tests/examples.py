"""A trained model without training, for tests of what is done with one."""

import jax
import jax.numpy as jnp
import numpy as np

from alterrec_jax.config import RunConfig
from alterrec_jax.data.dataset import Dataset
from alterrec_jax.data.features import catalogue_info, make_context
from alterrec_jax.serving.trained_model import TrainedModel


def random_model(config: RunConfig, dataset: Dataset) -> TrainedModel:
    """A model of random parameters, gains and biases included; always the same."""
    rng, params = np.random.default_rng(0), {}
    system = config.build(catalogue_info(dataset))
    context = make_context(dataset, system.reads, config.precision)
    for name, network in system.networks.items():
        shapes = jax.eval_shape(network.init, jax.random.key(0), context)
        params[name] = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32), shapes)
    return TrainedModel(config, dataset, system, params, {}, True)
