"""CORE on Diginetica, the public session benchmark (ids only; its files are the user's own).

    python -m experiments.train --config=diginetica_core --data_dir=data/diginetica \
        --workdir=runs/diginetica_core

(`experiments/configs/diginetica_sr_gnn.py` says how the data are prepared.) The authors' settings, but for batches of
1,024 prefixes.

Measured on 2026-11-24, seed 0, test (60,858 targets, all prefixes), after eight of the twenty epochs, while validation
Hits@20 still rose slowly (0.4208, 0.4925, 0.5111, 0.5207, 0.5246, 0.5260, 0.5264, 0.5294): Hits@20 0.5234
[0.5178, 0.5294], MRR@20 0.1830. Published on another split of the same log: 0.5289 and 0.1858. SR-GNN has 0.4919 and
0.1728 here. An epoch takes some seven minutes on a core.
"""

from ml_collections import ConfigDict

from alterrec_jax.config import ProtocolConfig
from alterrec_jax.config_files import overridable
from alterrec_jax.models.core import COREConfig


def get_config() -> ConfigDict:
    """The configuration of the run."""
    return overridable(
        COREConfig(
            batch_prefixes=1024,
            epochs=20,
            patience=3,
            protocol=ProtocolConfig(exclude_session_items="no"),
        )
    )
