"""BSARec on Amazon Beauty, leave-one-out, with the authors' settings for it.

    python -m experiments.train --config=bsarec_beauty --data_dir=data/beauty \
        --workdir=runs/bsarec_beauty

(`experiments/configs/amazon_beauty.py` says how the data are prepared: the authors' users and sequences.) A constant
learning rate, one head, alpha 0.7, c 5; the epoch is chosen by validation NDCG@20, and ten epochs without a better one
end the run.

Published, of one seed: Hits@10 0.1008, NDCG@10 0.0611 on test, Hits@20 0.1373, NDCG@20 0.0703, of epoch 54 of 64. There
an item that a user already has is given the score 0 and stays a candidate, below and above which others fall; here it
is no candidate. Empty prefixes are not trained on here: 127,895 prefixes an epoch where the authors have 150,258.
"""

from ml_collections import ConfigDict

from alterrec_jax.config import ProtocolConfig
from alterrec_jax.config_files import overridable
from alterrec_jax.models.bsarec import BSARecConfig, BSARecNetworkConfig


def get_config() -> ConfigDict:
    """The configuration of the run."""
    return overridable(
        BSARecConfig(
            epochs=200,
            patience=10,
            network=BSARecNetworkConfig(heads=1, alpha=0.7, cutoff=5, learning_rate=5e-4),
            protocol=ProtocolConfig(targets="last", exclude_session_items="yes", select_on="ndcg@20"),
        )
    )
