"""SASRec on Amazon Beauty: a causal Transformer on IDs by softmax over the whole catalogue, leave-one-out.

    python -m experiments.train --config=sasrec_beauty --data_dir=data/beauty \
        --workdir=runs/sasrec_beauty

(`experiments/configs/amazon_beauty.py` says how the data are prepared.) Width, dropout and rates are those of the ID
network there.

Measured on 2026-11-30, seed 0: test Hits@10 0.0915, NDCG@10 0.0568, at epoch 12 of 17, where validation stopped rising,
in six minutes of one core. As a part of AlterRec that network has 0.0913 and 0.0563 (`amazon_beauty`).
"""

from ml_collections import ConfigDict

from alterrec_jax.config import ProtocolConfig
from alterrec_jax.config_files import overridable
from alterrec_jax.models.sasrec import SASRecConfig, TransformerOnIdsConfig


def get_config() -> ConfigDict:
    """The configuration of the run."""
    return overridable(
        SASRecConfig(
            epochs=30,
            patience=5,
            network=TransformerOnIdsConfig(dim=128, layers=1, dropout=0.4, decay_every=8, decay_factor=0.3),
            protocol=ProtocolConfig(targets="last", exclude_session_items="yes", select_on="ndcg@20"),
        )
    )
