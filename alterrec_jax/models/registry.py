"""The families of systems: each a frozen dataclass of its own fields, registered under a name.

A family is one file of `alterrec_jax/models`. Whatever file lies there is imported, so registering is all that a new
one has to do.
"""

import contextlib
import importlib
import pkgutil
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import alterrec_jax.models
from alterrec_jax.config import FamilyConfig, RunConfig, flat, from_mapping, to_mapping
from alterrec_jax.errors import UserError, nearest

if TYPE_CHECKING:
    import polars as pl

Config = TypeVar("Config", bound=type[FamilyConfig])

TRAINED, COUNTED = "trained", "counted"


class Family(NamedTuple):
    """A family of systems.

    Attributes:
      name: what a configuration calls it.
      config: its record; `config(...).build(catalogue)` makes a system.
      title: what people call it.
      paper: where it is from.
      kind: "trained", or "counted": it has no parameters and ranks by counts of training sessions.
      needs: what it reads of a dataset besides sessions, in words; empty for nothing.
      layout: how its networks read sessions, one of `contract.LAYOUTS`; empty for families that only count.
    """

    name: str
    config: type[FamilyConfig]
    title: str
    paper: str
    kind: str
    needs: str
    layout: str


_FAMILIES: dict[str, Family] = {}


def register(
    name: str, *, title: str, paper: str, kind: str = TRAINED, needs: str = "", layout: str = ""
) -> Callable[[Config], Config]:
    """Registers the record of a family; arguments as the attributes of `Family`."""

    def add(config: Config) -> Config:
        config.family = name
        _FAMILIES[name] = Family(name, config, title, paper, kind, needs, layout)
        return config

    return add


def families() -> Mapping[str, Family]:
    """All families by name, those that train first."""
    for module in pkgutil.iter_modules(alterrec_jax.models.__path__):
        importlib.import_module(f"{alterrec_jax.models.__name__}.{module.name}")
    return dict(sorted(_FAMILIES.items(), key=lambda entry: (entry[1].kind != TRAINED, entry[0])))


def list_models() -> "pl.DataFrame":
    """The systems that a configuration can name, one a row, those that train first.

    Columns name, title, paper, kind ("trained" or "counted"), layout, fields (int64, how many its configuration has)
    and needs, what it reads besides sessions; "" where there is none.
    """
    import polars as pl

    rows = [
        (one.name, one.title, one.paper, one.kind, one.layout, len(flat(to_mapping(one.config()))) - 1, one.needs)
        for one in families().values()
    ]
    return pl.DataFrame(rows, ["name", "title", "paper", "kind", "layout", "fields", "needs"], orient="row")


def family(name: str) -> Family:
    """A family by its name.

    Raises:
      UserError: there is none of that name; the nearest is named.
    """
    with contextlib.suppress(ImportError):  # most have a file of their name, and others need not be read
        importlib.import_module(f"{alterrec_jax.models.__name__}.{name}")
    known = _FAMILIES if name in _FAMILIES else families()
    if name not in known:
        raise UserError(f"no model is called '{name}'; {nearest(name, list(known))}")
    return known[name]


def read_config(values: Mapping[str, Any], where: str = "configuration") -> FamilyConfig:
    """The configuration record of nested plain values, whose "model" names the family.

    Raises:
      UserError: an unknown family or field (naming the nearest), or a value of the wrong type.
    """
    if not isinstance(values.get("model"), str):
        raise UserError(f"{where} names no model; write one of {', '.join(families())}")
    fields = {name: value for name, value in values.items() if name != "model"}
    return from_mapping(family(values["model"]).config, fields, where)


def read_run_config(values: Mapping[str, Any], where: str = "configuration") -> RunConfig:
    """The same of a family that trains.

    Raises:
      UserError: as `read_config`, or the family only counts.
    """
    config = read_config(values, where)
    if not isinstance(config, RunConfig):
        raise UserError(
            f"{where}: {config.family} only counts, so there is nothing to train; rank it by "
            "experiments.evaluate --config=FILE --data_dir=DIR"
        )
    return config
