"""Quickstart."""

from ml_collections import ConfigDict

from alterrec_jax.config import (
    AlterRecConfig,
    MiningConfig,
    NetworkConfig,
    ScheduleConfig,
    TextNetworkConfig,
)
from experiments.configs.base import overridable


def get_config() -> ConfigDict:
    """The configuration of the run."""
    return overridable(
        AlterRecConfig(
            id=NetworkConfig(encoder="mean", dim=64, dropout=0.1, learning_rate=2e-3),
            text=TextNetworkConfig(dim=64, layers=1, heads=2, dropout=0.1, mlp_hidden=(128,), learning_rate=2e-3),
            mining=MiningConfig(k1=6, k2=20_000),
            schedule=ScheduleConfig(m_random=1, m_gap=1, m_max=12),
        )
    )
