"""DIMO on Complete Journey: purchases by the IDs of products, and by their texts.

    python -m data_tools.prepare --source=complete_journey --weeks=12 --min_item_count=10 --held_out_rare_items=drop \
        --out=data/complete_journey_12
    python -m experiments.train --config=dimo_complete_journey --data_dir=data/complete_journey_12 \
        --workdir=runs/dimo_complete_journey

and, to see what each term brings, the same without one of them, say

    python -m experiments.train --config=dimo_complete_journey --config.network.counterfactual_weight=0 \
        --data_dir=data/complete_journey_12 --workdir=runs/dimo_complete_journey_without_flags

The authors' width, layers, heads, dropout, length and first rate; batches of ten times their size, for here every
prefix is learned. What their code does otherwise is --config.network.gcn=sum --config.network.proxies=released
--config.network.cooccurrence_weight=4 --config.batch_prefixes=50. Evaluation has the views `id` and `modality` beside
`fused`. Not measured yet.
"""

from ml_collections import ConfigDict

from alterrec_jax.config_files import overridable
from alterrec_jax.models.dimo import DIMOConfig


def get_config() -> ConfigDict:
    """The configuration of the run."""
    return overridable(DIMOConfig(batch_prefixes=512, patience=3))
