"""NARM on Diginetica, the public session benchmark (ids only; its files are the user's own).

    python -m experiments.train --config=diginetica_narm --data_dir=data/diginetica \
        --workdir=runs/diginetica_narm

(`experiments/configs/diginetica_sr_gnn.py` says how the data are prepared.) Batches, rate and dropout are the paper's;
items have width 100, as in the tables that compare NARM on these data, where the paper has 50 and RecBole 64. The last
20 items of a session are seen, which shortens 0.7% of the training prefixes. The paper's widths are
--config.network.dim=50 --config.network.state=100, RecBole's --config.network.dim=64 --config.network.state=128, in
batches of --config.batch_prefixes=2048.

Measured on 2026-11-30, seed 0: test Hits@20 0.4814 [0.4763, 0.4872], MRR@20 0.1587, after the ten epochs, while
validation still rose slowly (Hits@20 0.4855, 0.4874). SR-GNN's table gives NARM Hits@20 0.4970 and MRR@20 0.1617 on
these data, GCE-GNN's 0.4832 and 0.1600.
The paper's own 0.6262 is of sessions whose clicks were not sorted by time.
"""

from ml_collections import ConfigDict

from alterrec_jax.config import ProtocolConfig
from alterrec_jax.config_files import overridable
from alterrec_jax.models.narm import NARMConfig, NARMNetworkConfig


def get_config() -> ConfigDict:
    """The configuration of the run."""
    return overridable(
        NARMConfig(
            max_length=20,
            epochs=10,
            patience=3,
            protocol=ProtocolConfig(exclude_session_items="no"),
            network=NARMNetworkConfig(dim=100),
        )
    )
