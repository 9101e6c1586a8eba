"""From what a caller gives, by flags or by name in Python, to the options of a preparation."""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

from alterrec_jax.errors import UserError, nearest
from data_tools.options import SOURCES, Options

_FIELDS = {field.name: field for field in dataclasses.fields(Options)}


def options_of(given: Mapping[str, Any]) -> Options:
    """The options that some values make; what is not given, or None, is as the source has it by default.

    Args:
      given: by the names of the fields of `Options`. For several columns in one option a list will do, for files also a
        path, and for `vectors` a mapping of names to files.

    Raises:
      UserError: there is no such option (the nearest is named), its value is of another type or not one of its choices,
        no source is named, or the source does not read the option.
    """
    given = {name: value for name, value in given.items() if value is not None}
    for name in given:
        if name not in _FIELDS:
            raise UserError(f"prepare has no option '{name}'; {nearest(name, list(_FIELDS))}")
    values = {name: _value(name, value) for name, value in given.items()}
    if not values.get("source"):
        raise UserError(f"--source is missing; choose one of {', '.join(SOURCES)}")
    for name in values:
        readers = _FIELDS[name].metadata["sources"]
        if values["source"] not in readers:
            raise UserError(f"--{name} is read by --source={' or '.join(readers)} only; leave it out")
    return Options(**values)


def _value(name: str, value: Any) -> Any:
    """The value in the form that the field has."""
    default, choices = _FIELDS[name].default, _FIELDS[name].metadata["choices"]
    if isinstance(default, tuple):
        if isinstance(value, Mapping):
            return tuple(f"{key}={os.fspath(file)}" for key, file in value.items())
        if isinstance(value, list | tuple):
            return tuple(value)
        raise UserError(f"--{name} takes a list, not {value!r}")
    if isinstance(default, str):
        if isinstance(value, list | tuple) and all(isinstance(part, str) for part in value):
            value = ",".join(value)
        if not isinstance(value, str | os.PathLike):
            raise UserError(f"--{name} takes a text, not {value!r}")
        value = os.fspath(value)
        if choices and value and value not in choices:
            raise UserError(f"--{name} is '{value}'; {nearest(value, choices)}")
        return value
    kinds = (int, float) if default is None else (type(default),)
    if not isinstance(value, kinds) or (isinstance(value, bool) and default is not True and default is not False):
        raise UserError(f"--{name} takes {'True or False' if bool in kinds else 'a number'}, not {value!r}")
    return value
