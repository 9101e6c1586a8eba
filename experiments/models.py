"""Explains the systems that a configuration can name: all of them, or every field of one.

python -m experiments.models
python -m experiments.models core
"""

import dataclasses
import inspect
import pathlib
import shlex
import typing
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from absl import flags

from alterrec_jax.config import FamilyConfig, bounds_in_words
from alterrec_jax.models.registry import Family, family, list_models
from alterrec_jax.runtime import command_line

_MODEL = flags.DEFINE_string("model", None, "Whose fields to list, with or without --model=; by default a table.")

_NAME = "NAME"  # stands for a network's own name
_TYPES = {bool: "True or False", int: "whole number", float: "number", str: "word"}


class Field(NamedTuple):
    """A field of a family's configuration.

    Attributes:
      name: dotted, as on the command line behind `--config.`.
      default: its value where a configuration names none.
      may_be: its choices, or its type and bounds, in words.
      help: what it is.
    """

    name: str
    default: Any
    may_be: str
    help: str


def main() -> None:
    """Prints the table, or the fields."""
    if _MODEL.value is None:
        print(table())
        print("\npython -m experiments.models NAME lists the fields of one")
    else:
        print(explained(family(_MODEL.value)))


def table() -> str:
    """One line a family."""
    models = list_models()
    rows = [models.columns, *([str(cell) or "-" for cell in row] for row in models.rows())]
    rows[0][-1] += " besides sessions"
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def explained(one: Family) -> str:
    """The fields of a family: as on the command line with the default, what each may be, and its help."""
    source = pathlib.Path(inspect.getfile(one.config)).name
    about = [one.title, one.paper, one.kind, one.layout, f"needs {one.needs}" if one.needs else ""]
    lines = [f"model={one.name}: {'; '.join(filter(None, about))}", f"(alterrec_jax/models/{source})", ""]
    for field in fields_of(one.config()):
        value = shlex.quote(str(field.default).replace("'", '"'))
        lines += [f"--config.{field.name}={value}  [{field.may_be}]", f"    {field.help}"]
    return "\n".join(lines)


def fields_of(config: FamilyConfig) -> list[Field]:
    """Every field of a configuration, those of the records in it behind a dot.

    Records that have names of their own, such as AlterRec's networks, are listed under the names that the configuration
    has; behind them, under NAME, what records of other kinds have besides.
    """
    return list(_fields(config, ""))


def _fields(record: Any, prefix: str) -> Iterator[Field]:
    hints = typing.get_type_hints(type(record))
    for field in dataclasses.fields(record):
        name, value = prefix + field.name, getattr(record, field.name)
        if dataclasses.is_dataclass(value):
            yield from _fields(value, f"{name}.")
        elif isinstance(value, Mapping):
            for key, part in value.items():
                yield from _fields(part, f"{name}.{key}.")
            yield from _of_other_kinds(value, hints[field.name], f"{name}.{_NAME}.")
        else:
            yield Field(name, value, _may_be(hints[field.name], field.metadata), field.metadata.get("help", ""))


def _of_other_kinds(records: Mapping[str, Any], hint: Any, prefix: str) -> Iterator[Field]:
    """The fields of kinds of record that a mapping may hold and does not, if no record in it has them too."""
    seen = {field.name for record in records.values() for field in dataclasses.fields(record)} - {"kind"}
    (_, union) = typing.get_args(hint)
    for kind in typing.get_args(union) or (union,):
        if kind not in {type(record) for record in records.values()}:
            fields = _fields(kind(), prefix)
            yield from (field for field in fields if field.name.removeprefix(prefix) not in seen)


def _may_be(hint: Any, metadata: Mapping[str, Any]) -> str:
    is_list = typing.get_origin(hint) is tuple
    kind = typing.get_args(hint)[0] if is_list else hint
    allowed = " | ".join(metadata["choices"]) if metadata.get("choices") else _TYPES[kind]
    words = [f"list of: {allowed}" if is_list else allowed, bounds_in_words(metadata) if metadata else ""]
    return ", ".join(filter(None, words))


if __name__ == "__main__":
    command_line.run(main, positional="model")
