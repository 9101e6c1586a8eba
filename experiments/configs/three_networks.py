"""An alternation over three modalities: ID, text and image, each network mined from the other two fused.

What is known of the items besides takes part likewise: an `AttributeNetworkConfig()` is a network of category and
brand, and a `VectorNetworkConfig(feature=...)` one of any vectors. `peer="next"` mines one other network instead of the
rest.

Needs a dataset with image vectors. From a log, items and a folder of their images (docs/images.md):

    python -m data_tools.prepare --source=tabular --interactions=clicks.csv --items=items.csv \
        --session_column=session_id --order_column=timestamp --image_column=photo --image_dir=photos \
        --out=data/shop
    python -m data_tools.label_images --data_dir=data/shop
    python -m experiments.train --config=three_networks --data_dir=data/shop --workdir=runs/three_networks
    python -m experiments.evaluate --workdir=runs/three_networks --split=test

Not measured: an example, whose settings were not tuned.
"""

from ml_collections import ConfigDict

from alterrec_jax.config_files import overridable
from alterrec_jax.models.alterrec import AlterRecConfig, MiningConfig
from alterrec_jax.models.unimodal import IdNetworkConfig, VectorNetworkConfig


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
                "image": VectorNetworkConfig(
                    feature="image", peer="rest", weight=0.1, dim=64, layers=1, learning_rate=2e-3, mlp_hidden=(128,)
                ),
            },
            mining=MiningConfig(k1=1, augment=False),
        )
    )
