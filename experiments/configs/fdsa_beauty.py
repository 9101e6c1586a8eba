"""FDSA on Amazon Beauty, leave-one-out: items by their ids, and by their title and attributes.

    python -m data_tools.prepare --source=tabular --interactions=interactions.csv.gz --items=items.csv \
        --session_column=user_id --item_column=item_id --order_column=position --text_columns=title \
        --category_column=category_path --brand_column=brand --attribute_columns=brand,category_path \
        --split=leave_one_out --out=data/beauty
    python -m experiments.train --config=fdsa_beauty --data_dir=data/beauty \
        --workdir=runs/fdsa_beauty

(`experiments/configs/amazon_beauty.py` says what the data are; items.csv has two columns more here.) Width, dropout and
rates are those of the ID network there, so that what features add shows beside `sasrec_beauty`. Further runs:

    --config.network.features='("text",)'                                 the title alone
    --config.network.features='("text",)' --config.network.text=random    random vectors in its place

The last is what AlterRec's paper compares with (`alterrec_jax/models/fdsa.py` says why), whose settings are
--config.network.dim=300, --config.network.layers=2, dropout (and attention_dropout) of 0.1, 0.3 or 0.5, a
random_width of 768 and a rate of 0.01 or 0.001.

Measured on 2026-11-30, seed 0: test Hits@10 0.0889, NDCG@10 0.0555, at epoch 23 of 28, where validation stopped rising,
in nineteen minutes of one core. With random vectors in place of all features 0.0809 and 0.0509, at epoch 29 of 30; the
title alone was not measured, and `sasrec_beauty` has 0.0915 and 0.0568. Published by the authors of S3-Rec (attributes
alone, a sampled negative): 0.0407 and 0.0208.
"""

from ml_collections import ConfigDict

from alterrec_jax.config import ProtocolConfig
from alterrec_jax.config_files import overridable
from alterrec_jax.models.fdsa import FDSAConfig, FDSANetworkConfig


def get_config() -> ConfigDict:
    """The configuration of the run."""
    return overridable(
        FDSAConfig(
            batch_prefixes=512,
            epochs=30,
            patience=5,
            network=FDSANetworkConfig(
                features=("text", "attributes"),
                dim=128,
                layers=1,
                dropout=0.4,
                attention_dropout=0.4,
                decay_every=8,
                decay_factor=0.3,
            ),
            protocol=ProtocolConfig(targets="last", exclude_session_items="yes", select_on="ndcg@20"),
        )
    )
