"""BSARec on Amazon Beauty, leave-one-out, with the authors' settings for it.

    python -m experiments.train --config=bsarec_beauty --data_dir=data/beauty \
        --workdir=runs/bsarec_beauty

(`experiments/configs/amazon_beauty.py` says how the data are prepared: they are the authors' users and sequences.) The
settings are the authors' for Beauty: one head, alpha 0.7, c 5, a constant rate, 256 prefixes a step; validation NDCG@20
chooses the epoch, and ten without a better one end the run.

Not measured to its end: an epoch has 514 steps, of 0.30 seconds of one core each, and the authors' run 65 epochs.
Published, of one seed, its epoch 54: Hits@10 0.1008, NDCG@10 0.0611, Hits@20 0.1373, NDCG@20 0.0703. Two things differ
there. Items that the user already has keep a score, of 0, where here they are no candidates; and users begin from
nothing, which adds 22,363 empty prefixes to 127,895 (the last 50 items of each user; here 131,413, each with its own
last 50).
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
