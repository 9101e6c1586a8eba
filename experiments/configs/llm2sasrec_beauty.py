"""LLM2SASRec on Amazon Beauty: SASRec whose item table starts from the principal components of the text vectors.

    python -m experiments.train --config=llm2sasrec_beauty --data_dir=data/beauty \
        --workdir=runs/llm2sasrec_beauty

All else as in `experiments/configs/sasrec_beauty.py`, so that the start is the only difference.

Not measured to its end: thirty epochs of one network take about twenty minutes on an idle core.
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
