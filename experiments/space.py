"""What a sweep searches: a JSON file of configuration fields, each with its values or its range.

    {"network.dropout": [0.1, 0.3], "network.learning_rate": {"low": 1e-4, "high": 1e-2, "log": true}}

Fields are named as on the command line (`python -m experiments.models MODEL` lists those of a family); several with
commas between them take one value together: "networks.id.dropout,networks.text.dropout".
"""

import itertools
import json
import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import Trial

from alterrec_jax.config import RunConfig, flat, to_mapping
from alterrec_jax.errors import UserError, nearest
from alterrec_jax.models.registry import read_run_config
from alterrec_jax.runtime import files

Space = dict[str, BaseDistribution]
"""What Optuna draws from, by fields."""

_JUDGES = ("protocol.targets", "protocol.exclude_session_items", "protocol.select_on")  # scores compare under one rule


def read_space(path: str, base: RunConfig) -> Space:
    """The space of a JSON file, every field and value of it tried on the configuration.

    Raises:
      UserError: the file is no JSON object, a field is unknown or there twice, or its values are none of its type.
    """
    wanted = files.read_json(path, "search space")
    if not isinstance(wanted, dict) or not wanted:
        raise UserError(f'{path} must hold fields with values, like {{"network.dropout": [0.1, 0.3]}}')
    count = Counter(field for key in wanted for field in _fields(key))
    if twice := [field for field in count if count[field] > 1]:
        raise UserError(f"{path}: {twice[0]} is there {count[twice[0]]} times; name each field once")
    return {key: _distribution(key, values, base, path) for key, values in wanted.items()}


def combinations(space: Space) -> list[dict[str, Any]]:
    """Each combination of values once, where the space holds lists alone; else none."""
    lists = [part.choices for part in space.values() if isinstance(part, CategoricalDistribution)]
    if len(lists) < len(space):
        return []
    return [dict(zip(space, values, strict=True)) for values in itertools.product(*lists)]


def chosen(trial: Trial, space: Space) -> dict[str, Any]:
    """The values of a trial; those that it has no value for yet are drawn."""
    return {key: _draw(trial, key, part) for key, part in space.items()}


def applied(base: RunConfig, values: Mapping[str, Any], where: str = "configuration") -> RunConfig:
    """The configuration with the values of a trial.

    Raises:
      UserError: an unknown field (naming the nearest), or a value of the wrong type.
    """
    nested = to_mapping(base)
    for key, value in values.items():
        for field in _fields(key):
            record, name = _record_of(nested, field, where)
            is_list = isinstance(record.get(name), tuple) and isinstance(value, str)
            record[name] = json.loads(value) if is_list else value
    return read_run_config(nested, where)


def _record_of(nested: dict[str, Any], field: str, where: str) -> tuple[dict[str, Any], str]:
    """The record that holds a field of nested values, and the field's own name in it."""
    holder: Any = None
    record: Any = nested
    for name in field.split("."):
        if not isinstance(record, dict):
            raise UserError(f"{where} is a value and holds no field '{name}'")
        if name not in record:
            raise UserError(f"{where} has no field '{name}'; {nearest(name, list(record))}")
        holder, record, where = record, record[name], f"{where}.{name}"
    return holder, name


def _fields(key: str) -> list[str]:
    return [field.strip() for field in key.split(",")]


def _distribution(key: str, wanted: Any, base: RunConfig, path: str) -> BaseDistribution:
    where = f"{path}: configuration"
    if not isinstance(wanted, list | dict) or not wanted:
        raise UserError(f'{path}: {key} must be a list of values, or {{"low": ..., "high": ...}}')
    if isinstance(wanted, dict):
        if unknown := [name for name in wanted if name not in ("low", "high", "log")]:
            raise UserError(f"{path}: {key} has '{unknown[0]}'; {nearest(unknown[0], ('low', 'high', 'log'))}")
        if missing := [name for name in ("low", "high") if name not in wanted]:
            raise UserError(f"{path}: {key} has no '{missing[0]}'; a range needs both its ends")
    values = wanted if isinstance(wanted, list) else [wanted["low"], wanted["high"]]
    for value in values:
        applied(base, {key: value}, where)
    there = flat(to_mapping(base))
    for field in _fields(key):
        if field not in there:
            raise UserError(f"{path}: '{field}' holds fields and takes no value itself; name one of them")
        if field in _JUDGES:
            raise UserError(f"{path}: {field} would judge trials by different rules; set it by --config.{field}=")
    if isinstance(wanted, dict):
        return _range(f"{path}: {key}", {type(there[field]) for field in _fields(key)}, **wanted)
    # A study holds plain values; a list goes there as its JSON.
    choices = [json.dumps(value) if isinstance(value, list) else value for value in values]
    if len(set(choices)) < len(choices):
        raise UserError(f"{path}: {key} lists a value twice; name each once")
    return CategoricalDistribution(choices)


def _range(name: str, types: set[type], low: float, high: float, log: Any = False) -> BaseDistribution:
    if types not in ({int}, {float}):
        raise UserError(f"{name} is given a range, but is no number; list its values")
    if not isinstance(log, bool):
        raise UserError(f'{name}: "log" is {log!r}; it must be true or false')
    if not (math.isfinite(low) and math.isfinite(high) and low < high and (low > 0 or not log)):
        raise UserError(f"{name} goes from {low} to {high}; low must be below high{', and above 0' if log else ''}")
    return IntDistribution(int(low), int(high), log) if types == {int} else FloatDistribution(low, high, log)


def _draw(trial: Trial, key: str, part: BaseDistribution) -> Any:
    if isinstance(part, CategoricalDistribution):
        return trial.suggest_categorical(key, part.choices)
    if isinstance(part, IntDistribution):
        return trial.suggest_int(key, part.low, part.high, log=part.log)
    assert isinstance(part, FloatDistribution)
    return trial.suggest_float(key, part.low, part.high, log=part.log)
