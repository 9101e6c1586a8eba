"""MSGIFSR on Diginetica, the public session benchmark (ids only; its files are the user's own).

    python -m data_tools.prepare --source=tabular --interactions=interactions.csv.gz --items=items.csv \
        --session_column=session_id --item_column=item_id --order_column=position --text_columns=title \
        --split=column --split_column=split --out=data/diginetica
    python -m experiments.train --config=diginetica_msgifsr --data_dir=data/diginetica \
        --workdir=runs/diginetica_msgifsr

Windows of up to three items, and REnorm; the authors' batch, first rate and L2, and a width of 100 where theirs is 256,
which makes a step some four times as dear. Their rate falls to a tenth after every third epoch. The last 20 items of a
session are seen, which shortens 0.7% of the training prefixes. Items of the session stay candidates: ranking them
against the others is what REnorm is for.

Not measured yet: no published number is on this data. A step of 512 prefixes takes 1.1 seconds of a core, of which
graph attention and windows are 0.9; a rate that falls later or more slowly was better for SR-GNN, and may be here.

What the parts add: --config.network.order=1 (no windows), --config.network.renorm=False (one softmax); both together
are what the released `start.sh` trains.
"""

from ml_collections import ConfigDict

from alterrec_jax.config import ProtocolConfig
from alterrec_jax.config_files import overridable
from alterrec_jax.models.msgifsr import MSGIFSRConfig, MSGIFSRNetworkConfig


def get_config() -> ConfigDict:
    """The configuration of the run."""
    return overridable(
        MSGIFSRConfig(
            batch_prefixes=512,
            max_length=20,
            epochs=10,
            patience=3,
            protocol=ProtocolConfig(exclude_session_items="no"),
            network=MSGIFSRNetworkConfig(dim=100),
        )
    )
