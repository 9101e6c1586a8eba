"""The evaluation of a model on a split as one JSON-ready mapping."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from alterrec_jax.contract import View
from alterrec_jax.data.dataset import Dataset
from alterrec_jax.data.targets import Targets
from alterrec_jax.evaluation.groups import group_metrics, target_groups
from alterrec_jax.evaluation.intervals import LEVEL, Bootstrap, percentile_interval, resampled_means
from alterrec_jax.evaluation.metrics import metric_values, summarise
from alterrec_jax.evaluation.popularity import LONG_TAIL
from alterrec_jax.evaluation.protocol import Protocol, QueryProvider, rank_split
from alterrec_jax.evaluation.ranking import Ranks, rank_rows
from alterrec_jax.evaluation.recommended import Recommended
from alterrec_jax.evaluation.significance import holm, paired_p_value
from alterrec_jax.models.counting import (
    CooccurrenceConfig,
    CountedConfig,
    PopularityConfig,
    SessionCooccurrenceConfig,
)
from alterrec_jax.runtime.console import progress

TIE_RULE = "expectation under a random order of tied candidates (McSherry and Najork, ECIR 2008)"
BASELINES: Mapping[str, CountedConfig] = {
    config.family: config for config in (PopularityConfig(), CooccurrenceConfig(), SessionCooccurrenceConfig())
}
"""What stands beside every model."""

RESERVED = ("baselines", "differences", "sweep", "groups", "recommended", "protocol", "n")


@dataclasses.dataclass(frozen=True)
class Details:
    """What an evaluation tells besides its metrics.

    Attributes:
      recommended: whether to measure what is recommended, be it right or wrong; see `recommended.Recommended`. Finding
        the best items takes about as long as ranking does.
      kept: how many of the best items of each target `per_target` is given.
      per_target: is given the targets, their ranks by the name of a view or baseline, and of each view the best items.
    """

    recommended: bool = False
    kept: int = 0
    per_target: Callable[[Targets, Mapping[str, Ranks], Mapping[str, np.ndarray]], None] | None = None

    def watcher(
        self, views: Iterable[str], baselines: Iterable[str], dataset: Dataset, targets: Targets, protocol: Protocol
    ) -> Recommended | None:
        """What is to be shown the best items; None where nobody asks for them."""
        if not self.recommended and not self.kept:
            return None
        names = (*views, *baselines) if self.recommended else (*views,)
        ks = protocol.ks if self.recommended else ()
        return Recommended(names, dataset.catalogue_size, len(targets), ks, self.kept, (*views,))


def evaluate_split(
    dataset: Dataset,
    split: str,
    provider: QueryProvider,
    tables: Mapping[str, Any],
    views: Mapping[str, View],
    protocol: Protocol,
    *,
    sweep: Mapping[str, View] | None = None,
    bootstrap: Bootstrap | None = None,
    notes: Mapping[str, Any] | None = None,
    details: Details = Details(),  # noqa: B008
) -> dict[str, Any]:
    """Evaluates the views of a model, and the baselines, on one split.

    Args:
      dataset: a prepared dataset.
      split: "validation" or "test".
      provider: encodes prefixes; see `protocol.QueryProvider`.
      tables: of each component, float32 [catalogue, dim].
      views: of each view, the weights of its components, the main one first; the weights of its components.
      protocol: what is ranked against what.
      sweep: further views that are only averaged; see `protocol.weight_sweep`.
      bootstrap: how intervals are made.
      notes: added to the result's protocol: alpha, the checkpoint, and what else tells where the numbers come from.
      details: what is wanted besides.

    Returns:
      a mapping that JSON can hold:
        each view: "hits@10" and so on, and "intervals": {"hits@10": [low, high], ...};
        "baselines": the same of "popularity", "cooccurrence" and "session_cooccurrence";
        "differences": {"fused - id": the same, ...}: the main view minus every other view and baseline, its
          intervals paired, since all are resampled by the same draws; and "p": {"hits@20": ..., "ndcg@20": ...}, of the
          paired test over sessions, adjusted for all of these comparisons (`significance.paired_p_value`, `holm`);
        "sweep": {label: metrics}, if wanted;
        "groups": {grouping: {label: {"n": targets, view or baseline: metrics}}}; see `groups.target_groups`;
        "recommended": of each view and baseline, the measures of `recommended.Recommended`, if wanted;
        "protocol": how this was measured, and on how much.

    Raises:
      UserError: the split has no target, or a score is not finite.
    """
    settings = bootstrap or Bootstrap()
    targets = protocol.select(dataset, split)
    swept = {f"sweep {label}": view for label, view in (sweep or {}).items()}
    seen = details.watcher(views, BASELINES, dataset, targets, protocol)
    ranks = rank_split(dataset, split, targets, provider, tables, {**views, **swept}, protocol, recommended=seen)
    of_views = {view: ranks[view] for view in views}
    result = _report(dataset, split, targets, of_views, BASELINES, protocol, settings, notes, details, seen)
    result["protocol"]["views"] = {view: dict(weights) for view, weights in views.items()}
    if swept:
        result["sweep"] = {
            name.removeprefix("sweep "): summarise(ranks[name].above, ranks[name].equal, protocol.ks) for name in swept
        }
    return result


def evaluate_counted(
    dataset: Dataset,
    split: str,
    config: CountedConfig,
    protocol: Protocol,
    *,
    bootstrap: Bootstrap | None = None,
    notes: Mapping[str, Any] | None = None,
    details: Details = Details(),  # noqa: B008
) -> dict[str, Any]:
    """`evaluate_split` of a system that only counts; it is its own view."""
    targets = protocol.select(dataset, split)
    name = config.family
    others = {other: one for other, one in BASELINES.items() if other != name}
    seen = details.watcher((name,), others, dataset, targets, protocol)
    ranks = _rank_counted(dataset, split, targets, protocol, {name: config}, seen)
    settings = bootstrap or Bootstrap()
    result = _report(dataset, split, targets, ranks, others, protocol, settings, notes, details, seen)
    result["protocol"]["views"] = {name: {name: 1.0}}
    return result


def _report(
    dataset: Dataset,
    split: str,
    targets: Targets,
    of_views: Mapping[str, Ranks],
    baselines: Mapping[str, CountedConfig],
    protocol: Protocol,
    settings: Bootstrap,
    notes: Mapping[str, Any] | None,
    details: Details,
    seen: Recommended | None,
) -> dict[str, Any]:
    """What `evaluate_split` returns, from the ranks of the views, without what depends on how they were made."""
    if clash := sorted(set(of_views) & {*RESERVED, *baselines}):
        raise ValueError(f"a view cannot be called '{clash[0]}'")
    of_baselines = _rank_counted(dataset, split, targets, protocol, baselines, seen)
    measured, differences = _measure({**of_views, **of_baselines}, targets, protocol, settings)
    result: dict[str, Any] = {view: measured[view] for view in of_views}
    result["baselines"] = {name: measured[name] for name in of_baselines}
    result["differences"] = differences
    groups = target_groups(targets, dataset.splits[split], dataset.train_counts)
    result["groups"] = group_metrics({**of_views, **of_baselines}, groups, protocol.ks)
    bootstrap = {"resamples": settings.resamples, "seed": settings.seed, "level": LEVEL, "unit": "session"}
    described = describe_protocol(dataset, split, targets, protocol)
    result["protocol"] = {**described, "bootstrap": bootstrap, **(notes or {})}
    if details.recommended and seen is not None:
        result["recommended"] = seen.measures(dataset.train_counts)
        result["protocol"]["long_tail"] = list(LONG_TAIL)
    if details.per_target is not None:
        details.per_target(targets, {**of_views, **of_baselines}, {} if seen is None else seen.items)
    return result


def describe_protocol(dataset: Dataset, split: str, targets: Targets, protocol: Protocol) -> dict[str, Any]:
    """What was ranked against what, and how much of it."""
    return {
        "split": split,
        "targets": protocol.targets,
        "exclude_session_items": protocol.exclude_session_items,
        "ties": TIE_RULE,
        "ks": list(protocol.ks),
        "catalogue": dataset.catalogue_size,
        "n_targets": len(targets),
        "n_targets_outside_catalogue": int((targets.item >= dataset.catalogue_size).sum()),
        "n_sessions": len(np.unique(targets.session)),
        "dataset": {"path": str(dataset.path), "fingerprint": dataset.fingerprint},
    }


def _rank_counted(
    dataset: Dataset,
    split: str,
    targets: Targets,
    protocol: Protocol,
    configs: Mapping[str, CountedConfig],
    seen: Recommended | None,
) -> dict[str, Ranks]:
    sessions = dataset.splits[split]
    return {
        name: rank_rows(
            config.rows(dataset, sessions, targets),
            name,
            targets,
            catalogue=dataset.catalogue_size,
            exclude=sessions if protocol.exclude_session_items else None,
            recommended=seen,
        )
        for name, config in configs.items()
    }


def _measure(
    ranks: Mapping[str, Ranks], targets: Targets, protocol: Protocol, settings: Bootstrap
) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
    """The metrics of each ranking, and those of the first one minus each other one, all with intervals."""
    values = {name: metric_values(rank.above, rank.equal, protocol.ks) for name, rank in ranks.items()}
    metrics = list(next(iter(values.values())))
    # One column at a time, as `summarise` does: a mean over rows of a matrix rounds differently in the last digit.
    means = np.array([[value[metric].mean() for metric in metrics] for value in values.values()])
    columns = np.stack([value[metric] for value in values.values() for metric in metrics], axis=1)
    drawn = resampled_means(columns, targets.session, settings).reshape(-1, len(ranks), len(metrics))

    def entry(mean: np.ndarray, resampled: np.ndarray) -> dict[str, Any]:
        found: dict[str, Any] = dict(zip(metrics, mean.tolist(), strict=True))
        if settings.resamples:
            low, high = percentile_interval(resampled)
            found["intervals"] = {m: [float(a), float(b)] for m, a, b in zip(metrics, low, high, strict=True)}
        return found

    main, *others = ranks
    measured = {name: entry(means[i], drawn[:, i]) for i, name in enumerate(ranks)}
    differences = {
        f"{main} - {name}": entry(means[0] - means[i], drawn[:, 0] - drawn[:, i]) for i, name in enumerate(others, 1)
    }
    if settings.resamples:
        tested = [f"{metric}@{max(protocol.ks)}" for metric in ("hits", "ndcg")]
        pairs = [(name, metric) for name in others for metric in tested]
        p_values = [
            paired_p_value(values[main][metric] - values[name][metric], targets.session, seed=settings.seed)
            for name, metric in progress(pairs, "testing", unit="comparison")
        ]
        for (name, metric), p in zip(pairs, holm(p_values).tolist() if pairs else [], strict=True):
            differences[f"{main} - {name}"].setdefault("p", {})[metric] = p
    return measured, differences
