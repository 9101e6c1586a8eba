"""One network on texts alone, by softmax over the whole catalogue: what an encoder of texts is worth by itself.

The network is that of `experiments/configs/best.py`; it sees no item numbers, so all that it knows of an item is its
vector. Which vectors, `networks.text.feature` says, for a dataset can hold those of several encoders:

    python -m data_tools.prepare --source=tabular --interactions=interactions.csv.gz --items=items.csv \
        --session_column=user_id --order_column=position --text_columns=title --text_models=muse=muse \
        --split=leave_one_out --out=data/beauty
    python -m experiments.train --config=text_alone --config.networks.text.feature=muse --data_dir=data/beauty \
        --workdir=runs/text_muse --config.protocol.targets=last --config.protocol.exclude_session_items=yes

Not measured to its end: the runs that compare two encoders are listed in docs/models.md.
"""

from ml_collections import ConfigDict

from alterrec_jax.config import ProtocolConfig
from alterrec_jax.config_files import overridable
from alterrec_jax.models.alterrec import AlterRecConfig, MiningConfig
from alterrec_jax.models.unimodal import VectorNetworkConfig


def get_config() -> ConfigDict:
    """The configuration of the run."""
    return overridable(
        AlterRecConfig(
            epochs=30,
            patience=3,
            networks={
                "text": VectorNetworkConfig(
                    encoder="auto",
                    dim=128,
                    layers=1,
                    dropout=0.2,
                    temperature=0.5,
                    mlp_hidden=(256,),
                    decay_every=8,
                    decay_factor=0.3,
                ),
            },
            mining=MiningConfig(negatives="full", augment=False),
            protocol=ProtocolConfig(select_on="ndcg@20"),
        )
    )
