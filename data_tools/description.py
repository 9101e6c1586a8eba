"""The first facts about a dataset: lengths, popularity, targets that cannot be hit, what is known of items, traps."""

import dataclasses
from typing import Any

import numpy as np

from alterrec_jax.data.dataset import SPLITS, Dataset, Sessions
from alterrec_jax.data.targets import repeats
from alterrec_jax.runtime.text_table import aligned
from data_tools.coverage import coverage_table
from data_tools.findings import bullet
from data_tools.traps import find_traps

_QUANTILES = (("shortest", 0.0), ("median", 0.5), ("90%", 0.9), ("99%", 0.99), ("longest", 1.0))


@dataclasses.dataclass(frozen=True)
class SplitFacts:
    """Of one split.

    Attributes:
      sessions, interactions, targets: counts; targets are the items that a model is asked for.
      users: how many distinct ones; 0 where they are unknown.
      lengths: int64 [sessions].
      repeats: targets that stand in their session before already.
      new_targets: targets outside the catalogue: certain misses.
      new_last: those of them that are the last item of their session.
    """

    sessions: int
    interactions: int
    targets: int
    users: int
    lengths: np.ndarray
    repeats: int
    new_targets: int
    new_last: int


@dataclasses.dataclass(frozen=True)
class Facts:
    """Of a dataset.

    Attributes:
      name: the source and the folder.
      splits: facts of each split.
      items, catalogue: counts.
      popularity: int64 [catalogue], training interactions of each item of the catalogue, the most frequent first.
      without_text: items without text.
      sharing_text: items whose text another item has too.
      distinct_texts: how many.
      order: how clicks are ordered, and the count of ties, as the manifest has them.
      ordered: whether that order means something.
      split_rule: in words.
      coverage: of texts, attributes and vectors, the shares that have them; see `coverage.coverage_table`.
      traps: sentences; see `traps.find_traps`.
    """

    name: str
    splits: dict[str, SplitFacts]
    items: int
    catalogue: int
    popularity: np.ndarray
    without_text: int
    sharing_text: int
    distinct_texts: int
    order: dict[str, Any]
    ordered: bool
    split_rule: str
    coverage: list[tuple[str, float, float]]
    traps: list[str]


def describe(dataset: Dataset) -> Facts:
    """Counts the facts of a loaded dataset."""
    texts = dataset.items["text"]
    some = texts.filter(texts != "")
    splits = {split: _split_facts(dataset.splits[split], dataset.catalogue_size) for split in SPLITS}
    held_out = {split: part for split, part in splits.items() if split != "train"}
    sharing = int(some.is_duplicated().sum())
    return Facts(
        name=f"{dataset.manifest.get('source', 'dataset')} in {dataset.path}",
        splits=splits,
        items=len(dataset.items),
        catalogue=dataset.catalogue_size,
        popularity=np.sort(dataset.train_counts[: dataset.catalogue_size])[::-1],
        without_text=len(texts) - len(some),
        sharing_text=sharing,
        distinct_texts=some.n_unique(),
        order=dict(dataset.manifest.get("order", {})),
        ordered=dataset.ordered,
        split_rule=str(dataset.manifest.get("split_rule", "unknown")),
        coverage=coverage_table(dataset),
        traps=find_traps(
            dataset,
            unseen={split: (part.new_targets, part.targets) for split, part in held_out.items()},
            repeated=(sum(p.repeats for p in held_out.values()), sum(p.targets for p in held_out.values())),
        ),
    )


def _split_facts(sessions: Sessions, catalogue: int) -> SplitFacts:
    lengths = sessions.lengths
    place = np.arange(len(sessions.items)) - np.repeat(sessions.offsets[:-1], lengths)
    target = place >= np.repeat(sessions.first_target, lengths)
    new = target & (sessions.items >= catalogue)
    last = sessions.offsets[1:][lengths > 0] - 1
    return SplitFacts(
        sessions=len(sessions),
        interactions=len(sessions.items),
        targets=int(target.sum()),
        users=sessions.user_ids.drop_nulls().n_unique(),
        lengths=lengths,
        repeats=int((repeats(sessions.items, sessions.offsets) & target).sum()),
        new_targets=int(new.sum()),
        new_last=int(new[last].sum()),
    )


def as_text(facts: Facts) -> str:
    """The facts for a person to read."""
    parts = facts.splits
    rows: list[tuple[str, ...]] = [("", *SPLITS)]
    for name in ("sessions", "users", "interactions", "targets"):
        rows.append((name, *(f"{getattr(parts[split], name):,}" for split in SPLITS)))
    for name, quantile in _QUANTILES:
        rows.append((f"session length, {name}", *(_quantile(parts[split].lengths, quantile) for split in SPLITS)))
    for name, field in (
        ("targets the session has already", "repeats"),
        ("targets outside the catalogue", "new_targets"),
    ):
        rows.append((name, *(_share(getattr(parts[split], field), parts[split].targets) for split in SPLITS)))
    rows.append(
        ("last items outside the catalogue", *(_share(part.new_last, part.sessions) for part in parts.values()))
    )
    known: list[tuple[str, ...]] = [("known of", "catalogue", "training interactions")]
    known += [(name, f"{items:.1%}", f"{clicks:.1%}") for name, items, clicks in facts.coverage]
    lines = [facts.name, f"split: {facts.split_rule}", "", aligned(rows), "", *_item_lines(facts), "", aligned(known)]
    if facts.traps:
        lines += ["", "traps:", *map(bullet, facts.traps)]
    return "\n".join(lines)


def top_share(popularity: np.ndarray, share: float) -> float:
    """The part of all training interactions that the most popular `share` of the items have; 0 where there are none."""
    top = max(1, round(len(popularity) * share))
    return float(popularity[:top].sum() / max(popularity.sum(), 1))


def _item_lines(facts: Facts) -> list[str]:
    counts = facts.popularity
    ties = facts.order.get("tied_interactions")
    encoder = "the Transformer" if facts.ordered else "the mean"
    top, wide = top_share(counts, 0.01), top_share(counts, 0.1)
    return [
        f"items: {facts.items:,}, of which {facts.catalogue:,} are the catalogue",
        f"popularity: the first 1% of the catalogue has {top:.0%} of the training interactions, the first 10% "
        f"{wide:.0%}; the median item has {_quantile(counts, 0.5)}, the rarest {_quantile(counts, 0.0)}",
        f"texts: {facts.without_text:,} items have none; {facts.distinct_texts:,} distinct ones; "
        f"{facts.sharing_text:,} items share theirs with another and tie in the text network",
        f"order: {facts.order.get('rule', 'unknown')}; encoder=auto is {encoder} here",
        "equal places in that order (say, equal timestamps), in the source: "
        + ("unknown" if ties is None else f"{ties:,} interactions in {facts.order['sessions_with_ties']:,} sessions"),
    ]


def _quantile(lengths: np.ndarray, quantile: float) -> str:
    return f"{int(np.quantile(lengths, quantile, method='nearest')):,}" if len(lengths) else "-"


def _share(part: int, whole: int) -> str:
    return f"{part:,} ({part / whole:.1%})" if whole else "-"
