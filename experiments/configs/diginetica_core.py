"""CORE on Diginetica, the public session benchmark (ids only; its files are the user's own).

    python -m experiments.train --config=experiments/configs/diginetica_core.py --data_dir=data/diginetica \
        --workdir=runs/diginetica_core

(`experiments/configs/diginetica_sr_gnn.py` says how the data are prepared.) The authors' settings, but for batches of
1,024 prefixes.

Not measured to its end: after one epoch validation Hits@20 is 0.4208 (SR-GNN's is 0.4254 then), and twenty epochs take
several hours of two cores.
"""

from ml_collections import ConfigDict

from alterrec_jax.config import ProtocolConfig
from alterrec_jax.models.core import COREConfig
from experiments.configs.base import overridable


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
