"""What the dataset of a study holds, as a table and a picture."""

from typing import Any

import numpy as np
import polars as pl

from alterrec_jax.data.dataset import SPLITS
from experiments.studies import pictures
from experiments.studies.outcome import Outcome
from experiments.studies.study import Study


def outcome(study: Study[Any], source: str) -> Outcome:
    """The table; `source` says which one of the paper it answers to."""
    dataset = study.dataset
    splits = [dataset.splits[split] for split in SPLITS]
    users = pl.concat([sessions.user_ids for sessions in splits]).drop_nulls().n_unique()
    lengths = dataset.splits["train"].lengths
    counts = dataset.train_counts[: dataset.catalogue_size]
    row = {
        "dataset": dataset.path.name,
        "users": users,
        "items": dataset.catalogue_size,
        **{f"{split}_sessions": len(sessions) for split, sessions in zip(SPLITS, splits, strict=True)},
        "train_interactions": int(lengths.sum()),
        "test_targets": len(study.targets),
        "mean_session_length": float(lengths.mean()),
        "items_under_10_purchases": float((counts < 10).mean()),
    }
    cells = [f"{value:,}" if isinstance(value, int) else f"{value:.2f}" for value in list(row.values())[1:]]
    tail = np.sort(counts)[::-1].cumsum() / counts.sum()
    half = int(np.searchsorted(tail, 0.5)) + 1
    findings = [
        f"{half / len(counts):.1%} of the items have half of the training interactions.",
        "Under leave-one-out, the sessions of the three splits are the same users'." if _same(study) else "",
    ]

    def draw(figure: Any) -> None:
        left, right = figure.subplots(1, 2)
        left.hist(np.minimum(lengths, 50), bins=np.arange(1, 52) - 0.5, color=pictures.COLOURS[0])
        left.set(xlabel="items in a training session (50: or more)", ylabel="sessions")
        right.loglog(np.arange(1, len(counts) + 1), np.sort(np.maximum(counts, 1))[::-1], color=pictures.COLOURS[1])
        right.set(xlabel="items, the most frequent first", ylabel="training interactions")
        right.grid(alpha=0.3)

    return Outcome(
        title="The data",
        source=source,
        frame=pl.DataFrame([row]),
        shown=[[name.replace("_", " ") for name in row], [str(row["dataset"]), *cells]],
        findings=[finding for finding in findings if finding],
        draw=draw,
        size=(9, 3.5),
    )


def _same(study: Study[Any]) -> bool:
    splits = [study.dataset.splits[split] for split in SPLITS]
    return all(splits[0].session_ids.equals(sessions.session_ids) for sessions in splits[1:])
