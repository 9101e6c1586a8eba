"""A trained model on a split: every view of it, the baselines beside them, and what each component brings."""

import functools
from collections.abc import Sequence
from typing import Any

from alterrec_jax.errors import UserError
from alterrec_jax.evaluation.fitted_views import fit_view, fit_views, in_words, without_each
from alterrec_jax.evaluation.intervals import Bootstrap
from alterrec_jax.evaluation.protocol import Protocol, weight_sweep
from alterrec_jax.evaluation.report import Details, evaluate_split
from alterrec_jax.runtime.console import log
from alterrec_jax.serving.trained_model import TrainedModel


def evaluate_trained(
    trained: TrainedModel,
    split: str,
    protocol: Protocol,
    *,
    alphas: Sequence[float] = (),
    refit: bool = False,
    components: bool = True,
    bootstrap: Bootstrap | None = None,
    details: Details = Details(),  # noqa: B008
) -> dict[str, Any]:
    """What `evaluation.report.evaluate_split` returns of a trained model.

    Args:
      trained: the model, and the dataset whose split is ranked.
      split: "validation" or "test".
      protocol: what is ranked against what.
      alphas: weights of the first of two networks, in [0, 1]: fuses anew by each.
      refit: fits the weights of the networks anew, on the validation split of the dataset.
      components: from three components on, also ranks by the main view without each of them.
      bootstrap: how intervals are made.
      details: what is wanted besides.

    Raises:
      UserError: the split has no target, a score is not finite, or there are no weights that alphas or refit could
        change.
    """
    system = trained.system
    sweep = weight_sweep(system.views[system.main], alphas) if alphas else None
    if refit and not system.fitted:
        raise UserError(
            "--refit fits weights anew, but the run has none that are fitted; leave it out, or train several networks "
            "with --config.fusion_weights=fitted"
        )
    if not trained.finished:
        log("note: the run has not come to its end; this is its best epoch so far")
    encoder = trained.encoder()
    asked = (trained.dataset, encoder, encoder.tables, protocol)
    metric = trained.config.protocol.select_on
    if refit:
        system = system._replace(views=fit_views(system, *asked, metric))
        for name in system.fitted:
            log(f"{name} = {in_words(system.views[name])}, fitted on the validation split of {trained.dataset.path}")
    fit = functools.partial(fit_view, metric=metric)
    parts = without_each(system, lambda view: fit(view, *asked)) if components else {}
    return evaluate_split(
        trained.dataset,
        split,
        encoder,
        encoder.tables,
        {**system.views, **parts},
        protocol,
        sweep=sweep,
        bootstrap=bootstrap,
        notes={
            "model": trained.config.family,
            "seed": trained.config.seed,
            "selected_on": f"validation {metric}",
            "best_epoch": trained.best["epoch"] + 1,
        },
        details=details,
    )
