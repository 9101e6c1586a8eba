"""Writes docs/configuration.md from the records that check a configuration.

python -m docs.configuration
"""

import pathlib
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from alterrec_jax.config import FamilyConfig, RunConfig
from alterrec_jax.models.registry import TRAINED, Family, families
from alterrec_jax.runtime import files
from experiments.models import Field, fields_of

PAGE = pathlib.Path(__file__).with_suffix(".md")

_TOP = """\
# Configuration

<!-- Made from the records by `python -m docs.configuration`; a test compares. Change the records, not this page. -->

A configuration is a Python file whose `get_config()` returns the fields of one system. This page has every field of
every system: its default, what it may be, and what it does. A file names only what differs from the defaults;
`experiments/configs/best.py` is the one to begin with.

Any field can be overridden on the command line:

```sh
python -m experiments.train --config=experiments/configs/best.py --config.epochs=8 --config.networks.id.dropout=0.3 \\
    "--config.networks.text.mlp_hidden=(128,64)" --config.protocol.select_on=hits@20 --data_dir=DIR --workdir=DIR
```

An unknown field, a word that is no choice and a number out of its bounds are refused before anything runs, with the
nearest name or what is allowed. `python -m experiments.models` prints the systems as a table, with a name behind it
(`python -m experiments.models alterrec`) the fields of one. Defaults are those of the records; what a configuration
file makes of them stands in the file, and in `config.json` of a run.
"""


def main() -> None:
    """Writes the page."""
    files.write_text(PAGE, page())


def page() -> str:
    """The page in Markdown."""
    parts = [_TOP, "## Every run\n", "What every system that trains has.\n", _table(fields_of(RunConfig()))]
    for family in families().values():
        parts += list(_of_family(family))
    return "\n".join(parts)


def _of_family(family: Family) -> Iterator[str]:
    config = family.config()
    trained = family.kind == TRAINED
    known = set(fields_of(RunConfig() if trained else FamilyConfig()))
    named = _named_records(config)
    own = [field for field in fields_of(config) if not field.name.startswith(tuple(f"{name}." for name in named))]
    besides = "besides those of [every run](#every-run)" if trained else "besides `protocol` of [every run](#every-run)"
    yield f"## {family.name}\n"
    about = [family.title, family.paper, family.kind, f"layout `{family.layout}`" if family.layout else ""]
    yield "; ".join(filter(None, about)) + (f". Needs {family.needs}." if family.needs else ".") + "\n"
    if rest := [field for field in own if field not in known]:
        yield f"Its fields {besides}, or whose default is another:\n"
        yield _table(rest)
    for name, kinds in named.items():
        there = ", ".join(f"`{key}` of the kind `{part.kind}`" for key, part in getattr(config, name).items())
        yield f"`{name}` holds records by name, by default {there}. A record has the fields of its `kind`:\n"
        for kind in kinds:
            yield f"### {name}.NAME with kind={kind.kind}\n"
            yield _table(field._replace(name=f"{name}.NAME.{field.name}") for field in fields_of(kind()))


def _named_records(config: FamilyConfig) -> dict[str, tuple[Any, ...]]:
    """The fields that hold records by name, each with the kinds of record that it may hold."""
    hints = typing.get_type_hints(type(config))
    mappings = [name for name in hints if isinstance(getattr(config, name), Mapping)]
    values = {name: typing.get_args(hints[name])[1] for name in mappings}
    return {name: typing.get_args(value) or (value,) for name, value in values.items()}


def _table(fields: Iterable[Field]) -> str:
    rows = ["| field | default | may be | what it is |", "|---|---|---|---|"]
    for field in fields:
        cells = (f"`{field.name}`", _code(field.default), field.may_be.replace(" | ", ", "), field.help)
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows) + "\n"


def _code(default: Any) -> str:
    return f"`{default}`" if str(default) else "empty"


if __name__ == "__main__":
    main()
