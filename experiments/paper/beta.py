"""Figures 10 and 11: AlterRec_aug over beta, the weight of an augmented positive.

python -m experiments.paper.beta --config=FILE --data_dir=DIR --workdir=DIR
"""

from alterrec_jax.models.alterrec import AlterRecConfig
from experiments.paper import command
from experiments.paper.variants import PAPER_P, augmented, beta_rule, window
from experiments.studies import parameter
from experiments.studies.outcome import Outcome
from experiments.studies.study import Study

_BETAS = (0.1, 0.5, 1.0)


def configs(study: Study) -> dict[str, AlterRecConfig]:
    """No augmentation, and each value; all have the same k1 and p."""
    k1 = max(study.base.mining.k1, PAPER_P)
    return {"0": window(study.base, k1=k1), **{str(beta): augmented(study.base, k1, beta=beta) for beta in _BETAS}}


runs = parameter.runs_of(configs, "set another mining.k1 or mining.k2")


def outcome(study: Study) -> Outcome:
    """The figure."""
    k1 = max(study.base.mining.k1, PAPER_P)
    source = f"Figures 10 and 11 of the paper, beta; k1 = {k1}, p = {PAPER_P}; {beta_rule(study.base)}"
    return parameter.outcome_of(study, configs, "beta", source, parameter.declines("beta"))


if __name__ == "__main__":
    command.run("beta", runs, outcome)
