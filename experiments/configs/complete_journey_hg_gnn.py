"""HG-GNN on Complete Journey: public purchases whose households are known, so that users have sessions to share.

    python -m data_tools.prepare --source=complete_journey --weeks=12 --min_item_count=10 --held_out_rare_items=drop \
        --text_model=none --out=data/complete_journey_12
    python -m experiments.train --config=complete_journey_hg_gnn --data_dir=data/complete_journey_12 \
        --workdir=runs/complete_journey_hg_gnn

and, to see what the graph brings, the same without it:

    python -m experiments.train --config=complete_journey_hg_gnn --config.network.graph=False \
        --data_dir=data/complete_journey_12 --workdir=runs/complete_journey_hg_gnn_without_graph

The authors' window, dropout, batch, first rate and L2. The width is half of theirs, and the rate falls after the eighth
epoch, not after every third: an epoch has some 500 steps here. Sessions are cut to 20 items, of which a prefix sees its
last ten all the same. Every source of this data names households; --source=tabular needs --user_column.

Not measured: with the graph on against off.
"""

from ml_collections import ConfigDict

from alterrec_jax.config_files import overridable
from alterrec_jax.models.hg_gnn import HGGNNConfig, HGGNNNetworkConfig


def get_config() -> ConfigDict:
    """The configuration of the run."""
    return overridable(
        HGGNNConfig(
            batch_prefixes=512,
            max_length=20,
            epochs=10,
            network=HGGNNNetworkConfig(dim=64, decay_every=8),
        )
    )
