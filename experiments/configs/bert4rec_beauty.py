"""BERT4Rec on Amazon Beauty: a bidirectional Transformer that fills gaps in whole sessions, leave-one-out.

    python -m experiments.train --config=bert4rec_beauty --data_dir=data/beauty \
        --workdir=runs/bert4rec_beauty

(`experiments/configs/amazon_beauty.py` says how the data are prepared.) Network, masks and dropout are the authors' for
Beauty: width 64, two heads, two blocks, 60% of a session masked, dropout 0.5, and 0.2 on attention weights. The
optimizer is RecBole's, Adam with a constant 0.001: theirs, 0.0001 falling over 400,000 steps of 256 sessions, makes
over four thousand passes over the users. Batches are those of `sasrec_beauty`, which it is to stand beside. A cloze
learns from fewer items in an epoch and goes on improving for longer, so it has more epochs, and stops by validation.

Not measured to its end: validation Hits@10 0.0543 after ten epochs (2026-11-30), with rows of twice as many tokens.
"""

from ml_collections import ConfigDict

from alterrec_jax.config import ProtocolConfig
from alterrec_jax.config_files import overridable
from alterrec_jax.models.bert4rec import BERT4RecConfig, BERT4RecNetworkConfig


def get_config() -> ConfigDict:
    """The configuration of the run."""
    return overridable(
        BERT4RecConfig(
            batch_prefixes=512,
            epochs=150,
            patience=15,
            network=BERT4RecNetworkConfig(learning_rate=1e-3, weight_decay=0.0),
            protocol=ProtocolConfig(targets="last", exclude_session_items="yes", select_on="ndcg@20"),
        )
    )
