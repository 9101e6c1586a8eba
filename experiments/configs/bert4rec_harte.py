"""BERT4Rec as LLM2BERT4Rec's paper compares it, on the same sessions: the item table starts from random numbers.

    python -m experiments.train --config=bert4rec_harte --data_dir=data/harte --workdir=runs/bert4rec_harte
    python -m experiments.evaluate --workdir=runs/bert4rec_harte --split=test --output=bert4rec_harte.json

(`experiments/configs/llm2bert4rec_harte.py` says how the data are prepared, and what `--output` has of the targets that
are alone on their day.) Network, masks and weight decay are the authors' for this system, rates those of the other.

Published, all 4,469 (Hits@10, NDCG@10, Hits@20, NDCG@20): 0.0667, 0.0339, 0.1027, 0.0430; of the 2,900, from the
authors' lists: 0.0693, 0.0348, 0.1076, 0.0445.

Not measured to its end: by its products, an epoch takes about four times as long as one of `llm2bert4rec_harte`.
"""

from ml_collections import ConfigDict

from alterrec_jax.config import ProtocolConfig
from alterrec_jax.config_files import overridable
from alterrec_jax.models.llm2bert4rec import LLM2BERT4RecConfig, LLM2BERT4RecNetworkConfig
from alterrec_jax.nn.table_starts import RANDOM, TableStart


def get_config() -> ConfigDict:
    """The configuration of the run."""
    return overridable(
        LLM2BERT4RecConfig(
            batch_prefixes=512,
            epochs=60,
            patience=10,
            start=TableStart(RANDOM),
            network=LLM2BERT4RecNetworkConfig(
                dim=512,
                layers=2,
                heads=2,
                dropout=0.25,
                mask_rate=0.65,
                learning_rate=5e-4,
                weight_decay=0.004,
                decay_every=20,
                decay_factor=0.3,
            ),
            protocol=ProtocolConfig(targets="last", exclude_session_items="yes", select_on="ndcg@20"),
        )
    )
