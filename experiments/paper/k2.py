"""Figure 7: AlterRec over k2, one past the last rank of the hard negatives.

python -m experiments.paper.k2 --config=FILE --data_dir=DIR --workdir=DIR
"""

from alterrec_jax.models.alterrec import AlterRecConfig
from experiments.paper import command
from experiments.paper.variants import window
from experiments.studies import parameter
from experiments.studies.model_table import Compared
from experiments.studies.outcome import Outcome
from experiments.studies.study import Study

_PARTS = (20, 8, 3)  # of the catalogue


def configs(study: Study) -> dict[str, AlterRecConfig]:
    """AlterRec at a 20th, an 8th and a third of the catalogue, and at the k2 of the configuration."""
    own = min(study.base.mining.k2, study.catalogue)
    wanted = {study.catalogue // part for part in _PARTS} - {own}
    found = {k2: window(study.base, k2=k2) for k2 in wanted if k2 > study.base.mining.k1}
    found[own] = window(study.base)
    return {str(k2): found[k2] for k2 in sorted(found)}


runs = parameter.runs_of(configs, "set another mining.k1 or mining.k2")


def outcome(study: Study) -> Outcome:
    """The figure."""
    return parameter.outcome_of(study, configs, "k2", "Figure 7 of the paper, k2; without augmentation", _claim)


def _claim(compared: Compared) -> str:
    rho = parameter.trend(compared)
    return (
        "The paper reports that more hard negatives help on Amazon-French (NDCG@20 grows with k2) and hurt on its "
        f"purchase data (Hits@20 falls). Here the rank correlation with k2 is {rho:+.2f} for Hits@20 and "
        f"{parameter.trend(compared, 'ndcg@20'):+.2f} for NDCG@20."
    )


if __name__ == "__main__":
    command.run("k2", runs, outcome)
