"""LLM2BERT4Rec on the sessions of its paper: Amazon Beauty, the 4,469 test sessions of Harte et al. (RecSys 2023).

Their test sessions are the users who came last. All items of the others (17,890 users, of whom 500 are held out for
validation) can be recommended and no others, and a target is a user's last one of these. The authors' lists of the best
20 (`results/beauty/main` at the tag RecSys23 of their repository) name the users: `harte_test.csv` has a `user_id` a
row. Four of the latest fifth have less than two such items. `days.csv.gz` has the `time` of each position, in seconds.

    import polars as pl
    log = pl.read_csv("interactions.csv.gz").join(pl.read_csv("days.csv.gz"), on=["user_id", "position"])
    log = log.sort("user_id", "position")
    gone = ["AXBNEFRD90GLM", "A1NCBAR3ANANGR", "ARRQ38MK4O1E7", "A3L85FTL937CEC"]
    user, item, test = pl.col("user_id"), pl.col("item_id"), pl.read_csv("harte_test.csv")["user_id"].to_list()
    train = log.filter(~user.is_in(test + gone))
    held_out = train["user_id"].unique(maintain_order=True).sample(500, seed=0).to_list()
    split = pl.when(user.is_in(test)).then(pl.lit("test")).when(user.is_in(held_out)).then(pl.lit("validation"))
    known = train["item_id"].unique().to_list()
    log = log.filter(item.is_in(known) & ~user.is_in(gone))
    log.with_columns(split.otherwise(pl.lit("train")).alias("split")).write_csv("harte.csv")
    pl.read_csv("items.csv").filter(item.is_in(known)).write_csv("harte_items.csv")

Sessions are cut to their last 21 items: a target, and the twenty before it, which are no candidates. As `time` orders
them, `--output` of evaluate has the metrics of the 2,900 targets that are alone on their day: `groups`, `time_stamp`,
`alone`. These can be compared with the published ones. Of the other targets, the order within a day is that of the item
ids here, and was chance there (a sort that is not stable), so that they often are other items.

    python -m data_tools.prepare --source=tabular --interactions=harte.csv --items=harte_items.csv \
        --session_column=user_id --order_column=time --text_columns=title --split=column --split_column=split \
        --max_session_length=21 --catalogue=all --out=data/harte
    python -m experiments.train --config=llm2bert4rec_harte --data_dir=data/harte --workdir=runs/llm2bert4rec_harte
    python -m experiments.evaluate --workdir=runs/llm2bert4rec_harte --split=test --output=llm2bert4rec_harte.json

Network, masks and weight decay are the authors', whose text model was another one (text-embedding-ada-002; here that of
the dataset). Their rate, 0.0001, is for steps of 256 masked sessions and epochs of eleven maskings, and they stop after
two without a better validation; ours is for steps of some 77 sessions and epochs of one masking.

Published, all 4,469 (Hits@10, NDCG@10, Hits@20, NDCG@20): 0.0761, 0.0408, 0.1177, 0.0512; of the 2,900, from the
authors' lists: 0.0624, 0.0327, 0.1017, 0.0425. That the sessions are theirs shows in what only counts: of the 2,900,
`session_knn` has 0.0483, 0.0268, 0.0650, 0.0311 (2026-11-30), their V-SKNN 0.0479, 0.0255, 0.0638, 0.0294.

Not measured to its end: an epoch takes about a minute and a half of processor time, of sixty at most.
"""

from ml_collections import ConfigDict

from alterrec_jax.config import ProtocolConfig
from alterrec_jax.config_files import overridable
from alterrec_jax.models.llm2bert4rec import LLM2BERT4RecConfig, LLM2BERT4RecNetworkConfig


def get_config() -> ConfigDict:
    """The configuration of the run."""
    return overridable(
        LLM2BERT4RecConfig(
            batch_prefixes=512,
            epochs=60,
            patience=10,
            network=LLM2BERT4RecNetworkConfig(learning_rate=5e-4, decay_every=20, decay_factor=0.3),
            protocol=ProtocolConfig(targets="last", exclude_session_items="yes", select_on="ndcg@20"),
        )
    )
