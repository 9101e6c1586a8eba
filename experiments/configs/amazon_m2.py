"""The paper's settings for Amazon-M2 (Spanish, French, Italian).

d = 300; Transformers of 2 layers for both networks; k1 = 20, k2 = 20000, p = 5, beta = 0.5, alpha = 0.5; m_random =
m_gap = 2, m_max = 30 (appendix F). The paper searches dropout in {0.1, 0.3, 0.5} and the learning rate in {0.01,
0.001}; here 0.3 and 0.001 stand for the choice that validation would make. Its text encoder is
distiluse-base-multilingual-cased-v1.

    python -m data_tools.prepare --source=amazon_m2 --locale=FR --interactions=sessions_train.csv \
        --items=products_train.csv --text_model=distiluse-base-multilingual-cased-v1 --out=data/m2_french
    python -m experiments.train --config=amazon_m2 --data_dir=data/m2_french \
        --workdir=runs/m2_french

Not measured: the data is the user's own download. The paper scores Hits@20 79.75 and NDCG@20 51.86 on French, Hits@20
79.84 and NDCG@20 51.86 with augmentation, which is the default here (table 1).
"""

from ml_collections import ConfigDict

from alterrec_jax.config import ProtocolConfig
from alterrec_jax.config_files import overridable
from alterrec_jax.models.alterrec import AlterRecConfig
from alterrec_jax.models.unimodal import IdNetworkConfig, VectorNetworkConfig


def get_config() -> ConfigDict:
    """The configuration of the run."""
    return overridable(
        AlterRecConfig(
            networks={"id": IdNetworkConfig(dropout=0.3), "text": VectorNetworkConfig(dropout=0.3)},
            fusion_weights="fixed",
            protocol=ProtocolConfig(exclude_session_items="no"),
        )
    )
