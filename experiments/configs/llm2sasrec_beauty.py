"""LLM2SASRec on Amazon Beauty: SASRec whose item table starts from the principal components of the text vectors.

    python -m experiments.train --config=llm2sasrec_beauty --data_dir=data/beauty \
        --workdir=runs/llm2sasrec_beauty

All else as in `experiments/configs/sasrec_beauty.py`, so that the start is the only difference.

Measured on 2026-11-30, seed 0: test Hits@10 0.1073, NDCG@10 0.0653, Hits@20 0.1461 [0.1416, 0.1511], at epoch 9 of 14,
where validation stopped rising, in eight minutes of one core. `sasrec_beauty` has 0.0915, 0.0568 and 0.1260 [0.1220,
0.1305].
"""

from ml_collections import ConfigDict

from alterrec_jax.config import ProtocolConfig
from alterrec_jax.config_files import overridable
from alterrec_jax.models.sasrec import LLM2SASRecConfig, TransformerOnIdsConfig


def get_config() -> ConfigDict:
    """The configuration of the run."""
    return overridable(
        LLM2SASRecConfig(
            epochs=30,
            patience=5,
            network=TransformerOnIdsConfig(dim=128, layers=1, dropout=0.4, decay_every=8, decay_factor=0.3),
            protocol=ProtocolConfig(targets="last", exclude_session_items="yes", select_on="ndcg@20"),
        )
    )
