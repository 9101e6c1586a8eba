"""What a sweep leaves to read: a table of its trials, trials.csv, and the best configuration as a file."""

import dataclasses
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import polars as pl
from optuna.trial import FrozenTrial, TrialState

from alterrec_jax.config import RunConfig
from alterrec_jax.runtime import files
from alterrec_jax.runtime.text_table import aligned
from experiments.space import applied
from experiments.sweep_study import BEST, TABLE, error_of

_PLACES = {TrialState.COMPLETE: 0, TrialState.PRUNED: 1}  # a score of before the end compares with none of the end


def ranked(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The trials, best first: those that came to their end, those that were pruned, the rest."""
    return sorted(trials, key=lambda trial: (_PLACES.get(trial.state, 2), bool(error_of(trial)), -_score(trial)))


def format_trials(trials: Sequence[FrozenTrial], keys: Sequence[str], metric: str) -> str:
    """The table for the terminal."""
    rows = [["trial", *keys, metric, "epoch", "state"]]
    for trial in trials:
        values = [_short(trial.params.get(key)) for key in keys]
        epoch = best_epoch(trial)
        score = ["-", "-"] if epoch is None else [f"{_score(trial):.4f}", str(epoch + 1)]
        rows.append([str(trial.number), *values, *score, _state(trial)])
    return aligned(rows)


def write_trials(workdir: pathlib.Path, trials: Sequence[FrozenTrial], keys: Sequence[str], metric: str) -> None:
    """Writes trials.csv: all that the table says, every digit of it, and why a trial failed."""
    columns: dict[str, list[Any]] = {"trial": [trial.number for trial in trials]}
    columns |= {key: [trial.params.get(key) for trial in trials] for key in keys}
    epochs = [best_epoch(trial) for trial in trials]
    columns[metric] = [None if epoch is None else _score(trial) for trial, epoch in zip(trials, epochs, strict=True)]
    columns["epoch"] = [None if epoch is None else epoch + 1 for epoch in epochs]
    columns["epochs_trained"] = [len(trial.intermediate_values) for trial in trials]
    columns["state"] = [_state(trial) for trial in trials]
    columns["error"] = [error_of(trial) for trial in trials]
    with files.replacing(workdir / TABLE) as partial:
        pl.DataFrame(columns, strict=False).write_csv(partial)


def write_best(workdir: pathlib.Path, base: RunConfig, best: FrozenTrial, metric: str, commands: str) -> None:
    """Writes best.py, which experiments.train takes as it is: every field, so that no later default changes it."""
    config = applied(base, best.params)
    epoch = best_epoch(best)
    assert epoch is not None
    score = f"validation {metric} {_score(best):.4f} in epoch {epoch + 1}"
    docstring = f"Trial {best.number} of a sweep, its best: {score}.\n\n{commands}"
    docstring = docstring.replace("\\", "\\\\").replace('"', '\\"')
    files.write_text(
        workdir / BEST,
        f'"""{docstring}\n"""\n\nfrom ml_collections import ConfigDict\n\n'
        f"{_imports(config)}from alterrec_jax.config_files import overridable\n\n\n"
        'def get_config() -> ConfigDict:\n    """The configuration of the run."""\n'
        f"    return overridable(\n        {_source(config, ' ' * 8)}\n    )\n",
    )


def best_epoch(trial: FrozenTrial) -> int | None:
    """The first epoch, from 0, with the trial's best score so far; None before there is one."""
    scores = trial.intermediate_values
    return min(scores, key=lambda epoch: (-scores[epoch], epoch), default=None)


def _score(trial: FrozenTrial) -> float:
    return max(trial.intermediate_values.values(), default=0.0)


def _state(trial: FrozenTrial) -> str:
    return "failed" if error_of(trial) else trial.state.name.lower()


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "-" if value is None else str(value)


def _source(value: Any, indent: str) -> str:
    """A configuration record, or several by name, as Python has it, a field a line."""
    if isinstance(value, Mapping):
        lines = [f"{indent}    {name!r}: {_source(part, indent + '    ')},\n" for name, part in value.items()]
        return f"{{\n{''.join(lines)}{indent}}}"
    if not dataclasses.is_dataclass(value):
        return repr(value)
    lines = [f"{indent}    {name}={_source(part, indent + '    ')},\n" for name, part in vars(value).items()]
    return f"{type(value).__name__}(\n{''.join(lines)}{indent})"


def _imports(config: RunConfig) -> str:
    """What a file imports that holds the source of a configuration."""
    modules: dict[str, set[str]] = {}
    for kind in _kinds(config):
        modules.setdefault(kind.__module__, set()).add(kind.__name__)
    return "".join(f"from {module} import {', '.join(sorted(modules[module]))}\n" for module in sorted(modules))


def _kinds(value: Any) -> Iterator[type]:
    """The kinds of record in a configuration."""
    if dataclasses.is_dataclass(value):
        yield type(value)
        value = vars(value)
    if isinstance(value, Mapping):
        for part in value.values():
            yield from _kinds(part)
