"""Figures 10 and 11: AlterRec_aug over p, the number of augmented positives.

python -m experiments.paper.p --config=FILE --data_dir=DIR --workdir=DIR
"""

from alterrec_jax.models.alterrec import AlterRecConfig
from experiments.paper import command
from experiments.paper.variants import augmented, beta_rule, window
from experiments.studies import parameter
from experiments.studies.model_table import Compared
from experiments.studies.outcome import Outcome
from experiments.studies.study import Study

_P = (1, 5, 10)


def configs(study: Study) -> dict[str, AlterRecConfig]:
    """No augmentation, and each value; all have the same k1, large enough for the largest."""
    k1 = max(study.base.mining.k1, *_P)
    return {"0": window(study.base, k1=k1), **{str(p): augmented(study.base, k1, p) for p in _P}}


runs = parameter.runs_of(configs, "set another mining.k1 or mining.k2")


def outcome(study: Study) -> Outcome:
    """The figure."""
    source = (
        f"Figures 10 and 11 of the paper, p; k1 = {max(study.base.mining.k1, *_P)}, beta = 0.5; {beta_rule(study.base)}"
    )
    return parameter.outcome_of(study, configs, "p", source, _claim)


def _claim(compared: Compared) -> str:
    means = [compared.mean(value, "hits@20") for value in compared.of if value != "0"]
    spread = parameter.spread(means)
    return (
        f"The paper's observation, that performance is stable over p, "
        f"{'holds' if spread < parameter.STABLE else 'does not hold'}: among the values above 0, Hits@20 differs by "
        f"{spread:.1%} of the best (stable: under {parameter.STABLE:.0%})."
    )


if __name__ == "__main__":
    command.run("p", runs, outcome)
