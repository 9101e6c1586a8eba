"""Views whose weights are fitted on the validation split, and how the record of an epoch holds them."""

from collections.abc import Callable, Mapping
from typing import Any

from alterrec_jax.contract import System, View
from alterrec_jax.data.dataset import Dataset
from alterrec_jax.data.targets import draw, target_in_history
from alterrec_jax.evaluation.fusion import fit_fusion
from alterrec_jax.evaluation.protocol import Protocol, QueryProvider
from alterrec_jax.evaluation.ranking import used_weights

WEIGHT = "weight_"
"""In the history of a run, a fitted weight stands under the view's name, this, and the component's name."""

_SAMPLE = 2048


def fit_views(
    system: System,
    dataset: Dataset,
    provider: QueryProvider,
    tables: Mapping[str, Any],
    protocol: Protocol,
    metric: str,
    batch_size: int | None = None,
) -> dict[str, View]:
    """All views of a system, each that is to be fitted by `fit_view`, whose arguments the others are."""
    options: dict[str, Any] = {"metric": metric, "batch_size": batch_size}
    return {
        name: fit_view(view, dataset, provider, tables, protocol, **options) if name in system.fitted else view
        for name, view in system.views.items()
    }


def fit_view(
    view: View,
    dataset: Dataset,
    provider: QueryProvider,
    tables: Mapping[str, Any],
    protocol: Protocol,
    *,
    metric: str,
    batch_size: int | None = None,
) -> View:
    """A view with weights fitted on the validation split, on 2,048 of its targets, always the same.

    Targets that cannot be hit, for they are no candidates, are left out. Where there is no other, the view stays.

    Args:
      view: its components are weighed anew.
      dataset, provider, tables, protocol, batch_size: as of `protocol.validate`.
      metric: what is to be high, "ndcg@20" say.
    """
    sessions, targets = dataset.splits["validation"], protocol.select(dataset, "validation")
    exclude = sessions if protocol.exclude_session_items else None
    candidate = targets.item < dataset.catalogue_size
    if exclude is not None:
        candidate &= ~target_in_history(sessions, targets)
    sample = draw(targets[candidate], len(sessions), _SAMPLE)
    if not len(sample):
        return view
    return fit_fusion(
        provider(sessions, sample),
        tables,
        tuple(view),
        sample,
        catalogue=dataset.catalogue_size,
        exclude=exclude,
        metric=metric,
        batch_size=batch_size,
    )


def without_each(system: System, fit: Callable[[View], View]) -> dict[str, View]:
    """The main view of a system without each of its components that weighs, named "fused without text" say.

    The others keep their shares, or are fitted where the main view is. What is left of it may be a view of the system
    already, a single component: then it does not appear twice.

    Args:
      system: its views are what is evaluated.
      fit: fits the weights of a view.
    """
    main, found = system.views[system.main], {}
    there = [used_weights(view) for view in system.views.values()]
    for name in used_weights(main):
        others = {other: weight for other, weight in main.items() if other != name}
        if total := sum(others.values()):
            view: View = {other: weight / total for other, weight in others.items()}
            view = fit(view) if system.main in system.fitted else view
            if used_weights(view) not in there:
                found[f"{system.main} without {name}"] = view
    return found


def weight_entries(system: System, views: Mapping[str, View]) -> dict[str, float]:
    """The weights of the views that are fitted, as an epoch's record has them: {"fused_weight_id": 0.5, ...}."""
    return {
        f"{name}_{WEIGHT}{component}": weight for name in system.fitted for component, weight in views[name].items()
    }


def with_weights_of(system: System, record: Mapping[str, Any]) -> System:
    """The system, its views with the weights that were fitted at an epoch, by its record."""
    fitted = {
        name: {component: record[f"{name}_{WEIGHT}{component}"] for component in system.views[name]}
        for name in system.fitted
        if all(f"{name}_{WEIGHT}{component}" in record for component in system.views[name])
    }
    return system._replace(views={**system.views, **fitted})


def in_words(view: View) -> str:
    """A view as a line of a log tells it: "0.625 id + 0.375 text"."""
    return " + ".join(f"{weight:.3g} {name}" for name, weight in view.items())
