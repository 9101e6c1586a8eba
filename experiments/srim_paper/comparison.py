"""Table 1 of SRIM's paper, without leaks, beside what only counts and beside the halves of SRIM and DIMO.

python -m experiments.srim_paper.comparison --config=FILE --data_dir=DIR --workdir=DIR --models=NARM,CoHHN
"""

from collections.abc import Sequence

from absl import flags

from alterrec_jax.errors import UserError, nearest
from experiments.srim_paper import command
from experiments.srim_paper.variants import OTHERS, SRIM, Study, trainable
from experiments.studies import pictures
from experiments.studies.model_table import NAMES, Compared, in_words
from experiments.studies.outcome import Outcome
from experiments.studies.study import Run

_ONLY = flags.DEFINE_list(
    "models", None, f"Those of the table beside SRIM, with commas between; by default all: {','.join(OTHERS)}."
)

_MULTIMODAL = ("MGS", "CoHHN", "MMSBR", "DIMO", SRIM)
_POPULARITY, _COUNTED = "Popularity", "Co-occurrence, own items first"
_COUNTS = (_POPULARITY, "Co-occurrence (whole session)", _COUNTED, "V-SkNN")
_METRIC = "hits@20"


def runs(study: Study, only: Sequence[str] | None = None) -> list[Run]:
    """What has to be trained: what the dataset has all the needs of, of the models that `only` names."""
    return [run for model in trainable(study, _models(only))[0] for run in study.model(model)]


def _models(only: Sequence[str] | None) -> list[str]:
    """Those that are named, or all, in the order of the table, and SRIM."""
    wanted = list(OTHERS) if only is None else only
    for name in wanted:
        if name not in OTHERS:
            raise UserError(f"--models={','.join(wanted)} names '{name}'; {nearest(name, list(OTHERS))}")
    return [*(name for name in OTHERS if name in wanted), SRIM]


def outcome(study: Study, only: Sequence[str] | None = None) -> Outcome:
    """The table; arguments as of `runs`."""
    trained, refused = trainable(study, _models(only))
    ranks = {model: study.ranks(model) for model in (*_COUNTS, *trained)}
    parts = {}
    for model in (name for name in _MULTIMODAL if name in trained):
        of = study.model(model)
        for view in of[0].system.views:
            if view != of[0].main:
                parts[part := f"{model}, {view} alone"] = model
                ranks[part] = [run.ranks()[view] for run in of]
    compared = Compared(ranks, study.targets, study.metrics)
    whole = [name for name in ranks if name not in parts]
    findings = [_best(compared, [name for name in whole if name != SRIM], study.metrics)]
    findings += _beaten(compared, [name for name in _MULTIMODAL if name in trained], parts)
    findings += [f"{model} is not in the table: {why}." for model, why in refused.items()]
    if left_out := [name for name in OTHERS if name not in _models(only)]:
        findings.append(f"The table is not whole, for --models leaves out {', '.join(left_out)}.")
    findings.append(f"Epochs by which validation chose: {_epochs(study, trained)}.")
    return Outcome(
        title="Comparison",
        source="Table 1 of SRIM's paper, P@K being Hits@K; its graph held the test sessions, here none does",
        frame=compared.frame(SRIM),
        shown=compared.shown(),
        findings=findings,
        draw=lambda figure: pictures.bars(figure, compared, ("hits@20", "mrr@20")),
        size=(12, 7),
    )


def _best(compared: Compared, others: list[str], metrics: tuple[str, ...]) -> str:
    """Whether SRIM is the best of all."""
    best = {metric: max(others, key=lambda name: compared.mean(name, metric)) for metric in metrics}
    tests = compared.tests([(SRIM, best[metric], metric) for metric in metrics])
    held = all(test.better for test in tests)
    against = "; ".join(
        f"{NAMES[metric]} against {best[metric]} {in_words(test)}" for metric, test in zip(metrics, tests, strict=True)
    )
    return f"The paper's observation, that SRIM is the best of all, {'holds' if held else 'does not hold'}: {against}."


def _beaten(compared: Compared, models: list[str], parts: dict[str, str]) -> list[str]:
    """Of each multimodal system, whether it beats popularity, co-occurrence and its own parts."""
    found = []
    for model in models:
        against = [_POPULARITY, *(part for part, whole in parts.items() if whole == model), _COUNTED]
        tests = compared.tests([(model, other, _METRIC) for other in against])
        words = "; ".join(
            f"{'better than' if test.better else 'not better than'} {other}: {in_words(test)}"
            for other, test in zip(against, tests, strict=True)
        )
        found.append(f"{model} in {NAMES[_METRIC]}: {words}.")
    return found


def _epochs(study: Study, models: list[str]) -> str:
    """Of each model, the epoch that validation chose, and how many were trained; of several seeds, the first's."""
    first = {model: study.model(model)[0] for model in models}
    return ", ".join(f"{model} {run.best_epoch + 1} of {len(run.history)}" for model, run in first.items())


if __name__ == "__main__":
    command.run("comparison", lambda study: runs(study, _ONLY.value), lambda study: outcome(study, _ONLY.value))
