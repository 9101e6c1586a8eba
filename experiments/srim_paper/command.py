"""What every command of the study of SRIM's paper shares."""

from collections.abc import Callable

from experiments.srim_paper.variants import METRICS, MODELS, Study, srim_base
from experiments.studies import command
from experiments.studies.outcome import Outcome
from experiments.studies.study import Run


def run(name: str, runs: Callable[[Study], list[Run]], make: Callable[[Study], Outcome]) -> None:
    """Trains the runs that a table or figure needs, makes it and writes it; ends the process."""
    command.run(command.Paper("experiments.srim_paper", srim_base, MODELS, METRICS), name, runs, make)
