"""What a configuration trains, and what is scored of it: AlterRec, one of its networks alone, or NFRec.

A system trains one or several networks. What is ranked are *parts*, each a network's functions on trained parameters,
and *views*, weighted sums of their scores. Training, evaluation and recommendation are written once, for all systems.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from alterrec_jax.config import AlterRecConfig, NetworkConfig
from alterrec_jax.contract import Network, Params
from alterrec_jax.evaluation.protocol import fusion_views
from alterrec_jax.evaluation.ranking import View
from alterrec_jax.models.alterrec import build_networks
from alterrec_jax.models.nfrec import build_fused
from alterrec_jax.scoring.prefix_encoder import Encoder


class Part(NamedTuple):
    """Something that scores. Attributes: network, its functions; trained, the name of the network whose parameters
    they take."""

    network: Network
    trained: str


class System(NamedTuple):
    """A model.

    Attributes:
      networks: what trains, by name.
      configs: the configuration of each network.
      parts: what scores, by name.
      views: of each view, the weights of its parts; the main view, which chooses the model, first.
    """

    networks: Mapping[str, Network]
    configs: Mapping[str, NetworkConfig]
    parts: Mapping[str, Part]
    views: Mapping[str, View]

    @property
    def main(self) -> str:
        """The view that chooses the model and recommends."""
        return next(iter(self.views))

    def encoder(
        self,
        params: Mapping[str, Params],
        features: Mapping[str, Any],
        max_length: int,
        *parts: str,
        new_items: int = 0,
    ) -> Encoder:
        """Encodes prefixes with the named parts; with all of them where none is named. Arguments as of `Encoder`."""
        chosen = {name: self.parts[name] for name in parts or self.parts}
        return Encoder(
            {name: part.network for name, part in chosen.items()},
            {name: params[part.trained] for name, part in chosen.items()},
            {name: features[part.trained] for name, part in chosen.items()},
            max_length,
            new_items,
        )


def build_system(config: AlterRecConfig, items: int) -> System:
    """The system of a configuration, for a catalogue of so many items."""
    if config.model == "nfrec":
        parts = {name: Part(network, "fused") for name, network in build_fused(config, items).items()}
        views: dict[str, View] = {name: {name: 1.0} for name in parts}
        return System({"fused": parts["fused"].network}, {"fused": config.fused}, parts, views)
    views = fusion_views(config.protocol.alpha)
    if config.model != "alterrec":
        views = {config.model: views[config.model]}
    configs = {"id": config.id, "text": config.text}
    networks = {name: network for name, network in build_networks(config, items).items() if name in views}
    return System(
        networks,
        {name: configs[name] for name in networks},
        {name: Part(network, name) for name, network in networks.items()},
        views,
    )
