"""S3-Rec on Amazon Beauty, leave-one-out: pretrained on brand and category path, then fine-tuned.

The items need their attributes in one file: `attributes.csv` has columns item_id, brand and category_path ("1>2>3").

    python -c "import polars as pl; items, more = (pl.read_csv(f, infer_schema=False) for f in ('items.csv', \
        'attributes.csv')); items.join(more, on='item_id', how='left').write_csv('items_with_attributes.csv')"
    python -m data_tools.prepare --source=tabular --interactions=interactions.csv.gz \
        --items=items_with_attributes.csv --session_column=user_id --item_column=item_id --order_column=position \
        --text_columns=title --attribute_columns=brand,category_path --split=leave_one_out \
        --out=data/beauty_attributes
    python -m experiments.train --config=s3rec_beauty --data_dir=data/beauty_attributes --workdir=runs/s3rec_beauty

Without pretraining it is a SASRec with this encoder:

    python -m experiments.train --config=s3rec_beauty --data_dir=data/beauty_attributes --workdir=runs/s3rec_scratch \
        --config.pretrain_epochs=0 --config.epochs=200

Width, layers, heads, dropout, rate and masks are the authors' for Beauty, and so are 150 epochs of pretraining; but
theirs show each prefix of a session, these each session. Fine-tuning ends after ten epochs without a better validation.
AAP and MAP stand at the entropy of the attributes, 16.5 a place (in the log times its weight), for the first three
epochs, and fall from then on.

Measured on 2026-11-30, seed 0, a tenth of that pretraining and fourteen epochs of fine-tuning, which still rose slowly:

    --config.pretrain_epochs=15 --config.epochs=29 --config.patience=0 --config.network.decay_every=6 \
        --config.network.decay_factor=0.3

Test Hits@10 0.0849, NDCG@10 0.0514; with the same fourteen epochs alone (--config.pretrain_epochs=0 --config.epochs=14)
0.0887 and 0.0545, though an epoch then has a sixth less steps. A pretraining of this length brings nothing here. (Rows
had 50 positions in both; those of the first have 51 since.) An epoch of either stage takes about half a
minute of one core; the 150 were not run.

Published, the whole catalogue ranked (a table in the authors' repository): Hits@10 0.0647, NDCG@10 0.0327; their SASRec
0.0605 and 0.0318. Both learn from one sampled negative a place, here the softmax is over the catalogue.
"""

from ml_collections import ConfigDict

from alterrec_jax.config import ProtocolConfig
from alterrec_jax.config_files import overridable
from alterrec_jax.models.s3rec import S3RecConfig


def get_config() -> ConfigDict:
    """The configuration of the run."""
    return overridable(
        S3RecConfig(
            epochs=350,
            pretrain_epochs=150,
            patience=10,
            protocol=ProtocolConfig(targets="last", exclude_session_items="yes", select_on="ndcg@20"),
        )
    )
