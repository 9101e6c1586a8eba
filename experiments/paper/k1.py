"""Figures 10 and 11: AlterRec over k1, the first rank of the hard negatives.

python -m experiments.paper.k1 --config=FILE --data_dir=DIR --workdir=DIR
"""

from alterrec_jax.models.alterrec import AlterRecConfig
from experiments.paper import command
from experiments.paper.variants import window
from experiments.studies import parameter
from experiments.studies.outcome import Outcome
from experiments.studies.study import Study

_K1 = (1, 5, 10, 20, 100)


def configs(study: Study) -> dict[str, AlterRecConfig]:
    """AlterRec at each value below k2, that of the configuration among them."""
    wanted = sorted({*_K1, study.base.mining.k1})
    return {str(k1): window(study.base, k1=k1) for k1 in wanted if k1 < min(study.base.mining.k2, study.catalogue)}


runs = parameter.runs_of(configs, "set another mining.k1 or mining.k2")


def outcome(study: Study) -> Outcome:
    """The figure."""
    source = "Figures 10 and 11 of the paper, k1; without augmentation"
    return parameter.outcome_of(study, configs, "k1", source, parameter.declines("k1"))


if __name__ == "__main__":
    command.run("k1", runs, outcome)
