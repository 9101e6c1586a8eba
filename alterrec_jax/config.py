"""Configuration records: what every run has, and how fields explain and check themselves.

A family of systems (`alterrec_jax.models`) has a frozen dataclass of its own fields. Beside each field stand its help,
its choices and its bounds; checks, `python -m experiments.models` and the errors of a wrong override come from there.
"""

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from alterrec_jax.errors import UserError, nearest

if TYPE_CHECKING:  # a command that explains its flags does not wait for JAX
    from alterrec_jax.contract import CatalogueInfo, System

T = TypeVar("T")

TARGET_RULES = ("last", "all_prefixes")
"""Which items of a held-out session are to be predicted: its last one, or every item after the first."""

SELECTION_METRICS = ("hits@20", "ndcg@20")

PRECISIONS = ("float32", "bfloat16")
"""Of what products take: float32 in full, or bfloat16, of which the sums still are float32."""

SAVING = ("checkpoint_seconds", "checkpoint_steps", "keep_checkpoints")
"""Fields of a run that change none of its numbers: one that is continued may have others."""

LENGTHS = ("epochs", "patience")
"""Fields of a run that say how long it is: one that is continued may be longer."""


def setting(
    default: Any,
    help: str,
    *,
    choices: tuple[str, ...] = (),
    low: float | None = None,
    above: float | None = None,
    high: float | None = None,
    below: float | None = None,
) -> Any:
    """A field of a configuration record.

    Args:
      default: its value where a configuration names none; a record or a mapping is copied.
      help: what it is, with its unit.
      choices: the words that it may be.
      low, above, high, below: bounds of a number, or of each number of a tuple.
    """
    metadata = {"help": help, "choices": choices, "low": low, "above": above, "high": high, "below": below}
    if isinstance(default, Mapping):
        return dataclasses.field(default_factory=lambda: dict(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """Adam, and how its learning rate falls."""

    learning_rate: float = setting(1e-3, "learning rate of Adam", above=0)
    weight_decay: float = setting(0.0, "decoupled weight decay (AdamW); 0: none", low=0)
    l2: float = setting(0.0, "L2 added to the gradient before Adam (PyTorch's weight_decay); 0: none", low=0)
    decay_every: int = setting(
        0, "epochs of its own after which the learning rate is multiplied by decay_factor; 0: never", low=0
    )
    decay_factor: float = setting(0.1, "what the learning rate is multiplied by", above=0, high=1)


@dataclasses.dataclass(frozen=True)
class ProtocolConfig:
    """How rankings are judged, on validation and on test."""

    targets: str = setting(
        "all_prefixes",
        "items of a held-out session to predict: its last one, or every item after the first",
        choices=TARGET_RULES,
    )
    exclude_session_items: str = setting(
        "dataset",
        "whether items of the session are no candidates; dataset: as preparation found out from training sessions",
        choices=("dataset", "yes", "no"),
    )
    select_on: str = setting(
        "hits@20", "validation metric of the main view that chooses the model", choices=SELECTION_METRICS
    )

    def excludes_session_items(self, of_dataset: bool) -> bool:
        """Whether items of the session are no candidates, given what preparation recorded of the dataset."""
        return of_dataset if self.exclude_session_items == "dataset" else self.exclude_session_items == "yes"


@dataclasses.dataclass(frozen=True)
class FamilyConfig:
    """What every family of systems has, whether it trains or only counts."""

    family: ClassVar[str] = ""

    protocol: ProtocolConfig = dataclasses.field(default_factory=ProtocolConfig)

    def check(self) -> typing.Self:
        """Returns itself if every field makes sense.

        Raises:
          UserError: naming the first field that does not, its value, and what it may be.
        """
        check_fields(self)
        return self


@dataclasses.dataclass(frozen=True)
class RunConfig(FamilyConfig):
    """What every run of training has. A family adds fields of its own, and makes its system of them."""

    seed: int = setting(0, "seed of parameters, order, dropout and negatives", low=0, below=2**32)
    batch_prefixes: int = setting(512, "prefixes a step, rounded to whole rows", low=1)
    max_length: int = setting(50, "items of a session that an encoder sees, and positions of a row", low=1)
    precision: str = setting("float32", "of what products take; sums are float32 in both", choices=PRECISIONS)
    epochs: int = setting(30, "epochs in all (the paper's m_max)", low=1)
    patience: int = setting(0, "stop after so many epochs without a better validation; 0: never", low=0)
    checkpoint_seconds: int = setting(120, "seconds between two checkpoints within an epoch", low=1)
    checkpoint_steps: int = setting(0, "steps between two checkpoints within an epoch; 0: by time alone", low=0)
    keep_checkpoints: int = setting(2, "how many of the newest checkpoints are kept", low=1)
    keep_epochs: bool = setting(False, "keep the parameters of every epoch, to be looked at when the run is over")
    start_from: str = setting(
        "",
        "workdir of a run whose best parameters this one starts from, on the same data or on newer; empty: none",
    )

    def build(self, catalogue: "CatalogueInfo") -> "System":
        """The system of this configuration, for a catalogue.

        Raises:
          UserError: the catalogue lacks what the system needs.
        """
        raise TypeError(f"{type(self).__name__} is no family of systems")


def check_fields(record: Any, where: str = "") -> None:
    """Compares the fields of a record, and of the records in it, with their choices and bounds.

    Raises:
      UserError: naming the first field that does not fit, its value, and what it may be.
    """
    for field in dataclasses.fields(record):
        name, value = where + field.name, getattr(record, field.name)
        if dataclasses.is_dataclass(value):
            check_fields(value, f"{name}.")
        elif isinstance(value, Mapping):
            for key, part in value.items():
                if dataclasses.is_dataclass(part):
                    check_fields(part, f"{name}.{key}.")
        else:
            _check_value(name, value, field.metadata)


def is_longer(name: str, before: int, after: int) -> bool:
    """Whether a field of LENGTHS lets a run go on at least as long as before; a patience of 0 is without end."""
    if name == "patience":
        return after == 0 or 0 < before <= after
    return after >= before


def require(holds: bool, name: str, value: Any, may_be: str) -> None:
    """Refuses the value of a field unless a condition holds.

    Raises:
      UserError: it does not hold.
    """
    if not holds:
        raise UserError(f"configuration: {name} is {value}; it must be {may_be}")


def require_divisor(name: str, value: int, whole: str, size: int) -> None:
    """Refuses the value of a field unless it divides a size; `whole` says in words of what.

    Raises:
      UserError: it does not.
    """
    require(size % value == 0, name, value, f"a divisor of {whole} ({size})")


def bounds_in_words(metadata: Mapping[str, Any]) -> str:
    """What a field's bounds allow: "at least 0 and below 1"; empty where it has none."""
    words = (("low", "at least"), ("above", "above"), ("high", "at most"), ("below", "below"))
    return " and ".join(f"{word} {metadata[name]}" for name, word in words if metadata.get(name) is not None)


def _check_value(name: str, value: Any, metadata: Mapping[str, Any]) -> None:
    if choices := metadata.get("choices"):
        for word in value if isinstance(value, tuple) else (value,):
            if word not in choices:
                raise UserError(f"configuration: {name} is '{word}'; {nearest(word, choices)}")
        return
    allowed = bounds_in_words(metadata)
    for number in value if isinstance(value, tuple) else (value,):
        if isinstance(number, float):
            require(math.isfinite(number), name, value, f"{allowed} and finite" if allowed else "finite")
        if allowed:
            low, above, high, below = (metadata[bound] for bound in ("low", "above", "high", "below"))
            holds = (low is None or number >= low) and (above is None or number > above)
            holds = holds and (high is None or number <= high) and (below is None or number < below)
            require(holds, name, value, allowed)


def to_mapping(config: FamilyConfig) -> dict[str, Any]:
    """The configuration as nested plain values, its family under "model"; `models.registry.read_config` reads it."""
    return {"model": config.family, **dataclasses.asdict(config)}


def to_json(config: FamilyConfig) -> dict[str, Any]:
    """The same as JSON holds it: tuples are lists."""
    return _listed(to_mapping(config))


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, its names joined by dots: {"protocol.targets": "last", ...}."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return found


def from_mapping(kind: type[T], values: Mapping[str, Any], where: str = "configuration") -> T:
    """Builds a configuration record from nested plain values (a ConfigDict, or JSON).

    Lists become tuples and whole numbers become floats where the field says so.

    Raises:
      UserError: an unknown field (naming the nearest), or a value of the wrong type.
    """
    hints = {
        name: hint for name, hint in typing.get_type_hints(kind).items() if typing.get_origin(hint) is not ClassVar
    }
    arguments = {}
    for name, value in values.items():
        if name not in hints:
            raise UserError(f"{where} has no field '{name}'; {nearest(name, list(hints))}")
        arguments[name] = _convert(hints[name], value, f"{where}.{name}")
    return kind(**arguments)


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin = typing.get_origin(hint)
    if dataclasses.is_dataclass(hint) or origin in (dict, Mapping):
        if not isinstance(value, Mapping):
            raise UserError(f"{where} must hold fields, not {value!r}")
        if origin is None:
            return from_mapping(typing.cast(type, hint), value, where)
        return {name: _one_of(typing.get_args(hint)[1], part, f"{where}.{name}") for name, part in value.items()}
    if isinstance(hint, types.GenericAlias):
        kind = typing.get_args(hint)[0]
        if not isinstance(value, list | tuple):
            words = {int: "whole numbers", float: "numbers", str: "words"}
            raise UserError(f"{where} must be a list of {words[kind]}, not {value!r}")
        return tuple(_convert(kind, item, where) for item in value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not hint:
        raise UserError(f"{where} must be of type {hint.__name__}, not {value!r}")
    return value


def _one_of(hint: Any, value: Any, where: str) -> Any:
    """A record of one of several kinds: the one whose `kind` the value names."""
    kinds = {part.kind: part for part in (typing.get_args(hint) or (hint,))}
    if not isinstance(value, Mapping):
        raise UserError(f"{where} must hold fields, not {value!r}")
    named = value.get("kind", next(iter(kinds)))
    if named not in kinds:
        raise UserError(f"{where}.kind is '{named}'; {nearest(str(named), list(kinds))}")
    return from_mapping(kinds[named], value, where)


def _listed(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _listed(part) for name, part in value.items()}
    return [_listed(part) for part in value] if isinstance(value, tuple) else value
