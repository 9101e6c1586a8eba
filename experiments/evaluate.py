"""Evaluates the best checkpoint of a run on a split: every view of its model, with the baselines beside them.

    python -m experiments.evaluate --workdir=DIR --split=test --output=FILE.json

A system that only counts needs no run:

    python -m experiments.evaluate --config=session_knn --data_dir=DIR
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from absl import flags

from alterrec_jax.config import TARGET_RULES, ProtocolConfig
from alterrec_jax.errors import UserError
from alterrec_jax.models.registry import read_config
from alterrec_jax.runtime import command_line, files
from experiments import config_flag, devices

if TYPE_CHECKING:
    import numpy as np

    from alterrec_jax.data.dataset import Dataset
    from alterrec_jax.data.targets import Targets
    from alterrec_jax.evaluation.protocol import Protocol
    from alterrec_jax.evaluation.ranking import Ranks
    from alterrec_jax.evaluation.report import Details

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a run of experiments.train.")
_CONFIG = config_flag.define("Instead of a run: the configuration of a system that only counts, a name or a path.")
_SPLIT = flags.DEFINE_enum("split", "test", ["validation", "test"], "Which held-out sessions to rank.")
_OUTPUT = flags.DEFINE_string("output", None, "JSON file for the result; without it only the table is printed.")
_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "Dataset folder with the same items as the run's own, which is the default."
)
_ALPHA = flags.DEFINE_list(
    "alpha",
    None,
    "Weights of the first of two networks, 0 to 1, with commas between: fuses anew, without training.",
)
_TARGETS = flags.DEFINE_enum(
    "targets", None, TARGET_RULES, "Items to predict in each session; the run's own choice by default."
)
_EXCLUDE = flags.DEFINE_bool(
    "exclude_session_items", None, "Whether items of the session are no candidates; the run's own choice by default."
)
_REFIT = flags.DEFINE_bool(
    "refit",
    False,
    "Fits the weights of a run's networks anew, on the validation split of the dataset that is evaluated; for a newer "
    "one say. By default they are those of the run's best epoch.",
)
_COMPONENTS = flags.DEFINE_bool(
    "components",
    True,
    "From three networks on, also ranks by the main view without each of them, to see what each brings.",
)
_RECOMMENDED = flags.DEFINE_bool(
    "recommended",
    False,
    "Also measures what is recommended, right or wrong: coverage of the catalogue, novelty and the share of the long "
    "tail, of views and baselines. Ranking takes up to twice as long.",
)
_RANKS_OUTPUT = flags.DEFINE_string(
    "ranks_output",
    None,
    "Parquet file for the ranks, one row a target: session_id, position, item_id, in_catalogue, and of each view and "
    "baseline its expected rank, and how many candidates tie there.",
)
_RECOMMENDATIONS = flags.DEFINE_integer(
    "recommendations",
    0,
    "With --ranks_output: how many of the best items of each target to write beside its ranks, for each view; 0: none.",
    lower_bound=0,
)
_RESAMPLES = flags.DEFINE_integer("resamples", 1000, "Bootstrap resamples of the sessions for the 95% intervals.")
devices.define()


def main() -> int:
    """Ranks, prints the table and writes the JSON."""
    from alterrec_jax.runtime.host_memory import keep_freed_memory

    keep_freed_memory()
    with devices.used():
        _evaluate()
    return 0


def _evaluate() -> None:
    from alterrec_jax.evaluation.report_table import format_table
    from alterrec_jax.runtime import processes

    if (_WORKDIR.value is None) == (_CONFIG.value is None):
        raise UserError("name a run by --workdir, or a system that only counts by --config and --data_dir")
    if _RECOMMENDATIONS.value and not _RANKS_OUTPUT.value:
        raise UserError(
            f"--recommendations={_RECOMMENDATIONS.value} needs a file to write to; name it by --ranks_output"
        )
    result = _evaluate_run(_WORKDIR.value) if _WORKDIR.value else _evaluate_counted()
    if processes.is_main_process():
        print(format_table(result))
        if _OUTPUT.value:
            files.write_json(_OUTPUT.value, result)


def _evaluate_run(workdir: str) -> dict[str, Any]:
    from alterrec_jax.evaluation.intervals import Bootstrap
    from alterrec_jax.serving.evaluate import evaluate_trained
    from alterrec_jax.serving.trained_model import load_trained

    trained = load_trained(workdir, _DATA_DIR.value)
    return evaluate_trained(
        trained,
        _SPLIT.value,
        _protocol(trained.config.protocol, trained.dataset),
        alphas=_alphas(_ALPHA.value or []),
        refit=_REFIT.value,
        components=_COMPONENTS.value,
        bootstrap=Bootstrap(resamples=_RESAMPLES.value),
        details=_details(trained.dataset),
    )


def _evaluate_counted() -> dict[str, Any]:
    from alterrec_jax.data.dataset import load_dataset
    from alterrec_jax.evaluation.intervals import Bootstrap
    from alterrec_jax.evaluation.report import evaluate_counted
    from alterrec_jax.models.counting import CountedConfig

    config = read_config(_CONFIG.value.to_dict(), "--config").check()
    if not isinstance(config, CountedConfig):
        raise UserError(f"{config.family} trains; run experiments.train, and name its --workdir here")
    if not _DATA_DIR.value:
        raise UserError("--data_dir is missing; name the dataset folder that is counted and ranked")
    dataset = load_dataset(_DATA_DIR.value)
    return evaluate_counted(
        dataset,
        _SPLIT.value,
        config,
        _protocol(config.protocol, dataset),
        bootstrap=Bootstrap(resamples=_RESAMPLES.value),
        notes={"model": config.family},
        details=_details(dataset),
    )


def _details(dataset: "Dataset") -> "Details":
    """What the flags ask for besides the table."""
    from alterrec_jax.evaluation.per_target import write_per_target
    from alterrec_jax.evaluation.report import Details
    from alterrec_jax.runtime import processes

    path = _RANKS_OUTPUT.value

    def write(targets: "Targets", ranks: "Mapping[str, Ranks]", items: "Mapping[str, np.ndarray]") -> None:
        if path and processes.is_main_process():
            write_per_target(path, dataset, _SPLIT.value, targets, ranks, items)

    return Details(_RECOMMENDED.value, _RECOMMENDATIONS.value, write if path else None)


def _protocol(config: ProtocolConfig, dataset: "Dataset") -> "Protocol":
    """That of a configuration, unless flags say otherwise."""
    from alterrec_jax.evaluation.protocol import Protocol, protocol_of

    chosen = protocol_of(config, dataset)
    exclude = chosen.exclude_session_items if _EXCLUDE.value is None else _EXCLUDE.value
    return Protocol(_TARGETS.value or chosen.targets, exclude)


def _alphas(words: list[str]) -> list[float]:
    try:
        return [float(word) for word in words]
    except ValueError:
        raise UserError(f"--alpha={','.join(words)} is not a list of numbers like 0.1,0.5") from None


if __name__ == "__main__":
    command_line.run(main)
