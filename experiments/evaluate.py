"""Evaluates the best checkpoint of a run on a split: every view of its model, with the baselines beside them.

python -m experiments.evaluate --workdir=DIR --split=test --output=FILE.json
"""

from absl import flags

from alterrec_jax.config import TARGET_RULES
from alterrec_jax.errors import UserError
from alterrec_jax.evaluation.intervals import Bootstrap
from alterrec_jax.evaluation.protocol import Protocol, alpha_sweep
from alterrec_jax.evaluation.report import evaluate_split, format_table
from alterrec_jax.runtime import command_line, files, processes
from alterrec_jax.runtime.console import log
from alterrec_jax.runtime.host_memory import keep_freed_memory
from alterrec_jax.serving.trained_model import load_trained
from experiments import devices

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a run of experiments.train.", required=True)
_SPLIT = flags.DEFINE_enum("split", "test", ["validation", "test"], "Which held-out sessions to rank.")
_OUTPUT = flags.DEFINE_string("output", None, "JSON file for the result; without it only the table is printed.")
_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "Dataset folder with the same items as the run's own, which is the default."
)
_ALPHA = flags.DEFINE_list(
    "alpha", None, "Weights of the ID score, 0 to 1, separated by commas: fuses anew with each, without training."
)
_TARGETS = flags.DEFINE_enum(
    "targets", None, TARGET_RULES, "Items to predict in each session; the run's own choice by default."
)
_EXCLUDE = flags.DEFINE_bool(
    "exclude_session_items", None, "Whether items of the session are no candidates; the run's own choice by default."
)
_RESAMPLES = flags.DEFINE_integer("resamples", 1000, "Bootstrap resamples of the sessions for the 95% intervals.")
devices.define()


def main() -> int:
    """Ranks, prints the table and writes the JSON."""
    keep_freed_memory()
    with devices.used():
        _evaluate()
    return 0


def _evaluate() -> None:
    sweep = alpha_sweep(_alphas(_ALPHA.value)) if _ALPHA.value else None
    trained = load_trained(_WORKDIR.value, _DATA_DIR.value)
    fuses = trained.config.model == "alterrec"
    if sweep and not fuses:
        raise UserError(f"--alpha weighs two networks, but {_WORKDIR.value} holds model={trained.config.model}")
    if not trained.finished:
        log(f"note: the run in {_WORKDIR.value} has not come to its end; this is its best epoch so far")
    settings = trained.config.protocol
    protocol = Protocol(
        _TARGETS.value or settings.targets,
        settings.exclude_session_items if _EXCLUDE.value is None else _EXCLUDE.value,
    )
    encoder = trained.encoder()
    result = evaluate_split(
        trained.dataset,
        _SPLIT.value,
        encoder,
        encoder.tables,
        trained.system.views,
        protocol,
        sweep=sweep,
        bootstrap=Bootstrap(resamples=_RESAMPLES.value),
        notes={
            **({"alpha": settings.alpha} if fuses else {}),
            "model": trained.config.model,
            "seed": trained.config.seed,
            "selected_on": f"validation {settings.select_on}",
            "best_epoch": trained.best["epoch"] + 1,
        },
    )
    if processes.is_main_process():
        print(format_table(result))
        if _OUTPUT.value:
            files.write_json(_OUTPUT.value, result)


def _alphas(words: list[str]) -> list[float]:
    try:
        return [float(word) for word in words]
    except ValueError:
        raise UserError(f"--alpha={','.join(words)} is not a list of numbers like 0.1,0.5") from None


if __name__ == "__main__":
    command_line.run(main)
