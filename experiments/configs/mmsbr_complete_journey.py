"""MMSBR on Complete Journey: public purchases with texts, prices and categories, and no images.

    python -m data_tools.prepare --source=complete_journey --weeks=12 --min_item_count=10 --held_out_rare_items=drop \
        --out=data/complete_journey_12
    python -m experiments.train --config=mmsbr_complete_journey --data_dir=data/complete_journey_12 \
        --workdir=runs/mmsbr_complete_journey

and, to see what prices bring, the same without them, or with the released code's product:

    python -m experiments.train --config=mmsbr_complete_journey --config.network.price=False \
        --data_dir=data/complete_journey_12 --workdir=runs/mmsbr_complete_journey_without_price
    python -m experiments.train --config=mmsbr_complete_journey --config.network.score=gated \
        --config.network.price_weight=-1 --data_dir=data/complete_journey_12 --workdir=runs/mmsbr_complete_journey_gated

The authors' widths and dropouts. They learn 100 sessions a step by their last items alone; here it is every prefix,
4,096 of them a step, at twice their rate, for most of a step's time goes to the vectors of all items. Sessions are cut
to 20 items. There are no images: the three layers for texts are all, and nothing is contrasted.

Not measured to its end: an epoch has some 60 steps, each of seconds on two cores.
"""

from ml_collections import ConfigDict

from alterrec_jax.config_files import overridable
from alterrec_jax.models.mmsbr import MMSBRConfig, MMSBRNetworkConfig


def get_config() -> ConfigDict:
    """The configuration of the run."""
    network = MMSBRNetworkConfig(learning_rate=0.002)
    return overridable(MMSBRConfig(batch_prefixes=4096, max_length=20, epochs=30, patience=5, network=network))
