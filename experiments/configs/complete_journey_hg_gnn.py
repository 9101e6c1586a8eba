"""HG-GNN on Complete Journey: public purchases whose households are known, so that users have sessions to share.

    python -m data_tools.prepare --source=complete_journey --weeks=12 --min_item_count=10 --held_out_rare_items=drop \
        --text_model=none --out=data/complete_journey_12
    python -m experiments.train --config=complete_journey_hg_gnn --data_dir=data/complete_journey_12 \
        --workdir=runs/complete_journey_hg_gnn

and, to see what the graph brings, the same without it:

    python -m experiments.train --config=complete_journey_hg_gnn --config.network.graph=False \
        --data_dir=data/complete_journey_12 --workdir=runs/complete_journey_hg_gnn_without_graph

The authors' window, dropout, batch, first rate and L2. The width is half of theirs, and the rate falls after the eighth
epoch, not after every third: an epoch has some 500 steps here. Theirs are --config.network.dim=128
--config.network.decay_every=3 --config.epochs=20. Sessions are cut to 20 items, of which a prefix sees its last ten all
the same. Every source of this data names households; --source=tabular needs --user_column.

Measured on 2026-11-30, seed 0, all prefixes, a basket's own items out, the epoch chosen on validation (the seventh, and
without the graph the second, after which it only learned its training sessions by heart: no dropout is left then):

                   validation Hits@20    test Hits@20                test NDCG@20
    graph on       0.1317                0.1278 [0.1193, 0.1353]     0.0575
    graph off      0.0910                0.0814 [0.0765, 0.0868]     0.0394

On test the most bought products have 0.0808, what is bought together with the whole basket 0.1470: more than either.
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
