"""A trained model without training, for tests of what is done with one."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from alterrec_jax.config import ProtocolConfig, RunConfig
from alterrec_jax.data.dataset import Dataset
from alterrec_jax.data.features import catalogue_info, make_context
from alterrec_jax.models.alterrec import AlterRecConfig, MiningConfig
from alterrec_jax.models.nfrec import FusedNetworkConfig, NFRecConfig
from alterrec_jax.models.unimodal import IdNetworkConfig, VectorNetworkConfig, VectorsConfig
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


def alterrec_or_part(
    model: str, of_id: dict[str, Any], of_text: dict[str, Any], of_fused: dict[str, Any], weight: float, **run: Any
) -> RunConfig:
    """AlterRec ("alterrec"), one of its networks alone ("id", "text"), or NFRec ("nfrec"), checked.

    Args:
      model: which.
      of_id, of_text, of_fused: fields of the networks' records.
      weight: of the ID score in the fusion, alpha.
      run: fields of the run.
    """
    run.setdefault("protocol", ProtocolConfig(exclude_session_items="no"))
    if model == "nfrec":
        text = VectorsConfig(**{name: of_text[name] for name in ("mlp_hidden",) if name in of_text})
        return NFRecConfig(network=FusedNetworkConfig(**of_fused), text=text, **run).check()
    networks: dict[str, Any] = {
        "id": IdNetworkConfig(weight=weight, **of_id),
        "text": VectorNetworkConfig(weight=1 - weight, **of_text),
    }
    if model != "alterrec":
        networks = {model: type(networks[model])(**(of_id if model == "id" else of_text))}
    mining = MiningConfig(negatives="full", augment=False)
    return AlterRecConfig(networks=networks, mining=mining, **run).check()
