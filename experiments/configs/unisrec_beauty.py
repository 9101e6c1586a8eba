"""UniSRec on Amazon Beauty: sessions by the texts of their items, from scratch or pretrained, leave-one-out.

From scratch, with an item table (`mode=transductive`), and pretrained on Beauty's own training sessions first:

    python -m experiments.train --config=unisrec_beauty --data_dir=data/beauty \
        --workdir=runs/unisrec_scratch
    python -m experiments.train --config=unisrec_beauty --data_dir=data/beauty \
        --workdir=runs/unisrec_beauty --config.pretrain_epochs=50 --config.freeze_encoder=True

Pretrained on other shops: the gifts of Online Retail and the groceries of Complete Journey, as one dataset.

    python -m data_tools.prepare --source=complete_journey --weeks=12 --min_item_count=10 --word_drop=0.15 \
        --out=data/groceries
    python -m data_tools.prepare --source=tabular --interactions=online_retail/interactions.csv.gz \
        --items=online_retail/items.csv --session_column=invoice_id --order_column=line --text_columns=title \
        --split=ratio --min_item_count=5 --word_drop=0.15 --out=data/gifts
    python -m data_tools.join --data_dirs=data/gifts,data/groceries --out=data/two_shops
    python -m experiments.train --config=unisrec_beauty --data_dir=data/two_shops \
        --workdir=runs/unisrec_shops --config.mode=inductive --config.epochs=50 --config.pretrain_epochs=50

From there with an item table, and without one:

    python -m experiments.train --config=unisrec_beauty --data_dir=data/beauty \
        --workdir=runs/unisrec_transferred --config.start_from=runs/unisrec_shops --config.freeze_encoder=True
    python -m experiments.train --config=unisrec_beauty --data_dir=data/beauty \
        --workdir=runs/unisrec_inductive --config.start_from=runs/unisrec_shops --config.freeze_encoder=True \
        --config.mode=inductive

The last one recommends items that it has never seen, by their texts alone:

    python -m experiments.recommend --workdir=runs/unisrec_inductive --input=sessions.jsonl --new_items=new_items.csv

(`experiments/configs/amazon_beauty.py` says how Beauty is prepared; `--word_drop=0.15` there lets its pretraining drop
words too.) The settings are the authors': width 300, two blocks of two heads, dropout 0.5 and in the adaptor 0.2,
batches of 2048 prefixes, ten epochs of patience. They pretrain on batches of 8192, for 300 epochs.

Not measured to its end: a step takes 1.8 s of processor time in fine-tuning and 1.4 s in pretraining (2026-11-30), on a
busy two-core server, and an epoch of Beauty has 68 of them.
"""

from ml_collections import ConfigDict

from alterrec_jax.config import ProtocolConfig
from alterrec_jax.config_files import overridable
from alterrec_jax.models.unisrec import UniSRecConfig


def get_config() -> ConfigDict:
    """The configuration of the run."""
    return overridable(
        UniSRecConfig(
            epochs=150,
            patience=10,
            protocol=ProtocolConfig(targets="last", exclude_session_items="yes", select_on="ndcg@20"),
        )
    )
