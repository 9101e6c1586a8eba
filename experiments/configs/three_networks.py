"""An alternation of three networks: ID, text, and category with brand, each mined from the other two fused.

Whatever else is known of the items takes part likewise: a `VectorNetworkConfig(feature="image")` reads image vectors
that preparation was given. `peer="next"` mines one other network instead of the rest.

    python -m experiments.train --config=three_networks --data_dir=DIR --workdir=DIR

Needs a dataset with category and brand (`data_tools.prepare --source=complete_journey` brings its own).

Not measured: an example, whose settings were not tuned.
"""

from ml_collections import ConfigDict

from alterrec_jax.config_files import overridable
from alterrec_jax.models.alterrec import AlterRecConfig, MiningConfig
from alterrec_jax.models.unimodal import AttributeNetworkConfig, IdNetworkConfig, VectorNetworkConfig


def get_config() -> ConfigDict:
    """The configuration of the run."""
    return overridable(
        AlterRecConfig(
            warmup_epochs=1,
            turn_epochs=1,
            epochs=12,
            networks={
                "id": IdNetworkConfig(peer="rest", weight=0.7, encoder="mean", dim=128, learning_rate=5e-3),
                "text": VectorNetworkConfig(
                    peer="rest", weight=0.2, dim=64, layers=1, learning_rate=2e-3, mlp_hidden=(128,)
                ),
                "attributes": AttributeNetworkConfig(
                    peer="rest", weight=0.1, encoder="mean", dim=64, learning_rate=5e-3
                ),
            },
            mining=MiningConfig(k1=1, augment=False),
        )
    )
