"""DIMO on Complete Journey: purchases by the IDs of products, and by their texts.

    python -m data_tools.prepare --source=complete_journey --weeks=12 --min_item_count=10 --held_out_rare_items=drop \
        --out=data/complete_journey_12_text
    python -m experiments.train --config=dimo_complete_journey --data_dir=data/complete_journey_12_text \
        --workdir=runs/dimo_complete_journey

and, to see what each term brings, the same without one of them, say

    python -m experiments.train --config=dimo_complete_journey --config.network.counterfactual_weight=0 \
        --data_dir=data/complete_journey_12_text --workdir=runs/dimo_complete_journey_without_flags

The authors' width, heads, dropout and length. One graph layer, where they have four: more smooth so dense a graph into
nearly one row, as SRIM's validation shows. Their 50 sessions a step are 2048 prefixes here, with a larger
rate: a step spreads both tables over all pairs of products that share a basket, whatever its size. What their code does
otherwise is --config.network.gcn=sum --config.network.proxies=released --config.network.cooccurrence_weight=4
--config.batch_prefixes=50 --config.network.learning_rate=0.001. Evaluation has the views `id` and `modality` beside
`fused`.

Measured on 2026-12-01, seed 0, test: Hits@20 0.1244, MRR@20 0.0383 at epoch 5 of 9, of some 130 seconds each on one
core, where validation rose no more; ID alone 0.0871, text alone 0.1119, popularity 0.0808, co-occurrence with the
basket 0.1470.
"""

from ml_collections import ConfigDict

from alterrec_jax.config_files import overridable
from alterrec_jax.models.dimo import DIMOConfig, DIMONetworkConfig


def get_config() -> ConfigDict:
    """The configuration of the run."""
    return overridable(
        DIMOConfig(
            batch_prefixes=2048,
            epochs=30,
            patience=4,
            network=DIMONetworkConfig(layers=1, learning_rate=0.004),
        )
    )
