"""Figure 2 of SRIM's paper: SRIM over the number of graph layers.

python -m experiments.srim_paper.layers --config=FILE --data_dir=DIR --workdir=DIR
"""

from alterrec_jax.models.srim import SRIMConfig
from experiments.srim_paper import command
from experiments.srim_paper.variants import Study, with_network
from experiments.studies import parameter
from experiments.studies.model_table import Compared, in_words
from experiments.studies.outcome import Outcome

_LAYERS = (0, 1, 2, 3, 4, 5)
_OF_THE_PAPER = ("3", "4")


def configs(study: Study) -> dict[str, SRIMConfig]:
    """SRIM with each number of layers; none is no graph."""
    return {str(layers): with_network(study.base, layers=layers) for layers in _LAYERS}


runs = parameter.runs_of(configs, "name a configuration with a graph")


def outcome(study: Study) -> Outcome:
    """The figure."""
    return parameter.outcome_of(study, configs, "layers", "Figure 2 of SRIM's paper; 0 layers: no graph", _claim)


def _claim(compared: Compared) -> str:
    best = compared.best_two("hits@20")[0]
    tests = compared.tests([(chosen, "1", "hits@20") for chosen in _OF_THE_PAPER])
    held = best in _OF_THE_PAPER and any(test.better for test in tests)
    words = "; ".join(f"{chosen} less 1 {in_words(test)}" for chosen, test in zip(_OF_THE_PAPER, tests, strict=True))
    return (
        f"The paper's observation, that three or four layers are best, {'holds' if held else 'does not hold'} here, "
        f"where {best} has the highest Hits@20: {words}."
    )


if __name__ == "__main__":
    command.run("layers", runs, outcome)
