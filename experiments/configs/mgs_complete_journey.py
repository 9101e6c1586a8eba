"""MGS on Complete Journey: public purchases of products whose type (the category here) and brand are known.

    python -m data_tools.prepare --source=complete_journey --weeks=12 --min_item_count=10 --held_out_rare_items=drop \
        --text_model=none --out=data/complete_journey_12
    python -m experiments.train --config=mgs_complete_journey --data_dir=data/complete_journey_12 \
        --workdir=runs/mgs_complete_journey

and, to see what the second attribute brings, the same with the product type alone:

    python -m experiments.train --config=mgs_complete_journey --config.network.features='("category",)' \
        --data_dir=data/complete_journey_12 --workdir=runs/mgs_complete_journey_category

The authors' settings for Tmall, the one of their datasets with two attributes, but for a width of 100 and four graph
layers, as for the two others. Sessions are cut to 20 items. Of this data's 895 product types the largest has 116 of the
7,157 products. Its brands are but two, the shops' own and all others, so that peers by brand tell little; and the order
within a basket is random, so that a graph of what follows what tells nothing. What is left to learn from are the items
of a basket and their types.

Measured on 2026-12-01, with the 30 epochs and the patience of 4 of srim_complete_journey, seed 0, test: Hits@20 0.0830,
MRR@20 0.0277 at epoch 2 of 6, of some six minutes each on one core. That is what the most bought products have (0.0808,
p = 0.10): of what it learns from, the order is random and the brands are two.
"""

from ml_collections import ConfigDict

from alterrec_jax.config_files import overridable
from alterrec_jax.models.mgs import MGSConfig, MGSNetworkConfig


def get_config() -> ConfigDict:
    """The configuration of the run."""
    return overridable(
        MGSConfig(
            max_length=20,
            network=MGSNetworkConfig(peers=5, dropout=0.4, last_item=0.5, contrast=1.0, temperature=0.05),
        )
    )
