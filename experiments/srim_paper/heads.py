"""Figure 3 of SRIM's paper: SRIM over the number of attention heads.

python -m experiments.srim_paper.heads --config=FILE --data_dir=DIR --workdir=DIR
"""

from alterrec_jax.models.srim import SRIMConfig
from experiments.srim_paper import command
from experiments.srim_paper.variants import Study, with_network
from experiments.studies import parameter
from experiments.studies.model_table import Compared, in_words
from experiments.studies.outcome import Outcome

_MOST = 10
_OF_THE_PAPER = ("2", "4")


def configs(study: Study) -> dict[str, SRIMConfig]:
    """SRIM with each number of heads, up to ten, that divides its width."""
    dim = study.base.network.dim
    divisors = [heads for heads in range(1, _MOST + 1) if dim % heads == 0]
    return {str(heads): with_network(study.base, heads=heads) for heads in divisors}


runs = parameter.runs_of(configs, "set a network.dim that 2 or 4 divides")


def outcome(study: Study) -> Outcome:
    """The figure."""
    return parameter.outcome_of(study, configs, "heads", "Figure 3 of SRIM's paper", _claim)


def _claim(compared: Compared) -> str:
    best = compared.best_two("hits@20")[0]
    chosen = [heads for heads in _OF_THE_PAPER if heads in compared.of]
    tests = compared.tests([(heads, "1", "hits@20") for heads in chosen])
    held = best in chosen and any(test.better for test in tests)
    words = "; ".join(f"{heads} less 1 head {in_words(test)}" for heads, test in zip(chosen, tests, strict=True))
    return (
        f"The paper's observation, that two or four heads are best, {'holds' if held else 'does not hold'} here, "
        f"where {best} has the highest Hits@20: {words or 'neither divides the width'}."
    )


if __name__ == "__main__":
    command.run("heads", runs, outcome)
