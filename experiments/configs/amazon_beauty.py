"""Amazon Beauty."""

from ml_collections import ConfigDict

from alterrec_jax.config import (
    AlterRecConfig,
    MiningConfig,
    NetworkConfig,
    ProtocolConfig,
    ScheduleConfig,
    TextNetworkConfig,
)
from experiments.configs.base import overridable


def get_config() -> ConfigDict:
    """The configuration of the run."""
    return overridable(
        AlterRecConfig(
            id=NetworkConfig(dim=64, layers=1, heads=2, dropout=0.3),
            text=TextNetworkConfig(dim=64, layers=1, heads=2, dropout=0.3, mlp_hidden=(128,), item_dropout=0.0),
            mining=MiningConfig(k1=20, k2=20_000, augment=False),
            schedule=ScheduleConfig(m_max=24),
            protocol=ProtocolConfig(targets="last", exclude_session_items=True, select_on="ndcg@20"),
        )
    )
