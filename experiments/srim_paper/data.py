"""Table 2 of SRIM's paper: what the dataset holds.

python -m experiments.srim_paper.data --config=FILE --data_dir=DIR --workdir=DIR
"""

from experiments.srim_paper import command
from experiments.srim_paper.variants import Study
from experiments.studies import data
from experiments.studies.outcome import Outcome
from experiments.studies.study import Run


def runs(study: Study) -> list[Run]:
    """Nothing has to be trained."""
    del study
    return []


def outcome(study: Study) -> Outcome:
    """The table."""
    return data.outcome(study, "Table 2 of SRIM's paper")


if __name__ == "__main__":
    command.run("data", runs, outcome)
