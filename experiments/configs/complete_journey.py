"""The paper's settings for its purchase data (HD), on Complete Journey, the public data most like it.

d = 300; ID sessions by their mean, text sessions by a Transformer of 2 layers; k1 = 6, k2 = 2000, p = 5, beta = 0.5,
alpha = 0.5; m_random = m_gap = 2, m_max = 30 (appendix F). The paper searches dropout in {0.1, 0.3, 0.5} and the
learning rate in {0.01, 0.001}; here 0.3 and 0.001 stand for the choice that validation would make.

    python -m data_tools.prepare --source=complete_journey --min_item_count=5 --held_out_rare_items=drop \
        --out=data/complete_journey
    python -m experiments.train --config=complete_journey --data_dir=data/complete_journey \
        --workdir=runs/complete_journey

Not measured to its end: 30 epochs of 1.1 million prefixes want an accelerator. The command for the data takes half a
minute once its texts are encoded.
"""

from ml_collections import ConfigDict

from alterrec_jax.config import ProtocolConfig
from alterrec_jax.config_files import overridable
from alterrec_jax.models.alterrec import AlterRecConfig, MiningConfig
from alterrec_jax.models.unimodal import IdNetworkConfig, VectorNetworkConfig


def get_config() -> ConfigDict:
    """The configuration of the run."""
    return overridable(
        AlterRecConfig(
            networks={
                "id": IdNetworkConfig(encoder="mean", dropout=0.3),
                "text": VectorNetworkConfig(dropout=0.3),
            },
            fusion_weights="fixed",
            mining=MiningConfig(k1=6, k2=2000),
            protocol=ProtocolConfig(exclude_session_items="no"),
        )
    )
