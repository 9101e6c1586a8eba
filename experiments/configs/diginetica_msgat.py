"""MSGAT on Diginetica, the public session benchmark (ids only; its files are the user's own).

    python -m experiments.train --config=diginetica_msgat --data_dir=data/diginetica \
        --workdir=runs/diginetica_msgat

(`experiments/configs/diginetica_sr_gnn.py` says how the data are prepared.) The authors' width, batch, rate, L2 and
patience. The last 20 items of a session are seen, which shortens 0.7% of the training prefixes. No prefix has
neighbours but, with --config.network.neighbours=itself, itself.

Published: Hits@20 0.6839 with test sessions as neighbours of each other, which leaks targets; 0.4735 once they are
shuffled. Not measured here: more than 0.52 would be a leak.
"""

from ml_collections import ConfigDict

from alterrec_jax.config import ProtocolConfig
from alterrec_jax.config_files import overridable
from alterrec_jax.models.msgat import MSGATConfig


def get_config() -> ConfigDict:
    """The configuration of the run."""
    return overridable(
        MSGATConfig(
            max_length=20,
            epochs=30,
            patience=3,
            protocol=ProtocolConfig(exclude_session_items="no"),
        )
    )
