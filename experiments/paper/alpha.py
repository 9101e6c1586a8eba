"""Figure 7: AlterRec over alpha, the weight of the ID score. Fuses anew; nothing is trained beyond AlterRec itself.

python -m experiments.paper.alpha --config=FILE --data_dir=DIR --workdir=DIR
"""

from alterrec_jax.evaluation.protocol import weight_sweep
from experiments.paper import command
from experiments.paper.variants import Study
from experiments.studies import parameter
from experiments.studies.model_table import Compared, in_words
from experiments.studies.outcome import Outcome
from experiments.studies.study import Run

_ALPHAS = tuple(place / 10 for place in range(1, 10))


def runs(study: Study) -> list[Run]:
    """What has to be trained."""
    return study.model("AlterRec")


def outcome(study: Study) -> Outcome:
    """The figure."""
    views = weight_sweep(study.base.fusion, _ALPHAS)
    found = [run.ranks(views=views) for run in runs(study)]
    ranks = {label: [of_run[label] for of_run in found] for label in views}
    own = next(iter(study.base.fusion.values()))
    source = f"Figure 7 of the paper; each run's epoch was chosen at alpha = {own:g}, and fused anew"
    return parameter.drawn(study, ranks, "alpha", source, _claim)


def _claim(compared: Compared) -> str:
    best = compared.best_two("hits@20")[0]
    if best == "0.5":
        return "The paper's observation, that alpha = 0.5 is typically best, holds on this data."
    others = [value for value in compared.of if value != "0.5"]
    tests = compared.tests([(value, "0.5", "hits@20") for value in others])
    test = tests[others.index(best)]
    verdict = "does not hold" if test.significant else "is not contradicted"
    return (
        f"The paper's observation, that alpha = 0.5 is typically best, {verdict} on this data: {best} minus 0.5 in "
        f"Hits@20 {in_words(test)} (the best of {len(compared.of)} values; p by Holm over all the others)."
    )


if __name__ == "__main__":
    command.run("alpha", runs, outcome)
