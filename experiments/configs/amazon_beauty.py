"""Amazon Beauty (2014, 5-core) by the protocol of most sequential papers: leave-one-out, one target a user.

The whole catalogue is ranked without the items that the user already has, as the literature on reviews does.

    python -m data_tools.prepare --source=tabular --interactions=interactions.csv.gz --items=items.csv \
        --session_column=user_id --item_column=item_id --order_column=position --text_columns=title \
        --split=leave_one_out --out=data/beauty
    python -m experiments.train --config=experiments/configs/amazon_beauty.py --data_dir=data/beauty \
        --workdir=runs/beauty

RECORD_BEAUTY
"""

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
            id=NetworkConfig(dim=64, layers=1, dropout=0.3, learning_rate=2e-3),
            text=TextNetworkConfig(
                dim=64, layers=1, dropout=0.1, learning_rate=2e-3, temperature=0.5, mlp_hidden=(256,)
            ),
            mining=MiningConfig(k1=1, augment=False),
            schedule=ScheduleConfig(m_random=1, m_max=22),
            protocol=ProtocolConfig(targets="last", exclude_session_items=True, select_on="ndcg@20"),
        )
    )
