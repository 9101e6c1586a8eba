"""SASRec on Amazon Beauty: a causal Transformer on IDs by softmax over the whole catalogue, leave-one-out.

    python -m experiments.train --config=sasrec_beauty --data_dir=data/beauty \
        --workdir=runs/sasrec_beauty

(`experiments/configs/amazon_beauty.py` says how the data are prepared.) Width, dropout and rates are those of the ID
network there.

Not measured to its end: thirty epochs of one network take about twenty minutes on an idle core. As a part of AlterRec
that network has Hits@10 0.0913 and NDCG@10 0.0563 (`amazon_beauty`).
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
