"""The configuration of a run: typed records, checked once, written into every checkpoint.

Symbols and defaults are those of the AlterRec paper (section 4 and appendix F); where its released code
departs from it, a field gives the other reading (`experiments/configs/official.py` sets them all).
"""

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from alterrec_jax.errors import UserError, nearest
from alterrec_jax.hard_negatives.rank_window import SELECTIONS
from alterrec_jax.numerics import PRECISIONS

T = TypeVar("T")

MODELS = ("alterrec", "id", "text", "nfrec")
"""What is trained: AlterRec's two networks in turns, one of them alone, or one network on fused item embeddings."""

NEGATIVES = ("peer", "self", "uniform", "full")
"""What a network learns to tell the target from: a window of its peer's ranking or its own, uniform items, or all."""

TARGET_RULES = ("last", "all_prefixes")
"""Which items of a held-out session are to be predicted: its last one, or every item after the first."""

SAVING = ("checkpoint_seconds", "checkpoint_steps", "keep_checkpoints")
"""Fields of a run that change none of its numbers: one that is continued may have others."""


@dataclasses.dataclass(frozen=True)
class NetworkConfig:
    """One unimodal network: its session encoder g and its optimizer (section 4.1)."""

    encoder: str = "transformer"  # session encoder g: "transformer" (causal, read at the last item) or "mean"
    dim: int = 300  # width d of item and session embeddings
    layers: int = 2  # Transformer blocks
    heads: int = 2  # attention heads; divides dim
    dropout: float = 0.1  # rate inside the Transformer and on its input; for "mean", on its input
    item_norm: bool = False  # LayerNorm on the item table before both lookup and scoring (released code)
    temperature: float = 1.0  # tau: scores are dot products divided by it
    init: str = "normal"  # "normal", or "uniform": every parameter within +-1/sqrt(dim) (released code)
    learning_rate: float = 1e-3  # Adam
    weight_decay: float = 0.0  # decoupled (AdamW); 0 is Adam
    decay_every: int = 0  # multiply the learning rate by decay_factor after so many own epochs; 0 = constant
    decay_factor: float = 0.1

    @property
    def width(self) -> int:
        """Of what the session encoder takes and gives."""
        return self.dim


@dataclasses.dataclass(frozen=True)
class TextNetworkConfig(NetworkConfig):
    """The text network: the same, and the MLP that turns frozen sentence vectors into the table H (eq. 1)."""

    mlp_hidden: tuple[int, ...] = (300,)  # widths of the MLP's hidden layers; () is one linear map
    unit_variance: bool = True  # multiply sentence vectors of unit length by sqrt(d_text) first (released code: no)
    mlp_output_relu: bool = False  # ReLU after the last linear map too (released code)
    item_dropout: float = 0.0  # dropout over the whole table, one mask for inputs and candidates (released code)


@dataclasses.dataclass(frozen=True)
class FusedNetworkConfig(NetworkConfig):
    """NFRec's only network (appendix A); its text encoder is that of `text`, but for its width and norm."""

    encoder: str = "mean"
    dim: int = 300  # width of the ID and of the text embeddings, before they are fused
    operation: str = "concat"  # how they are fused: "concat" or "sum"

    @property
    def width(self) -> int:
        """Of the fused embeddings."""
        return self.dim * (2 if self.operation == "concat" else 1)


@dataclasses.dataclass(frozen=True)
class MiningConfig:
    """What each network learns from the other's ranking (section 4.2). Ranks count from 0."""

    negatives: str = "peer"  # "peer": a window of the other network's ranking, after m_random epochs of uniform items;
    # "self": a window of its own ranking, likewise; "uniform" items; "full": softmax over the whole catalogue
    k1: int = 20  # first rank of the hard negatives
    k2: int = 20_000  # one past their last rank; clipped to the catalogue
    augment: bool = True  # AlterRec_aug: learn from the peer's top p as positives too
    p: int = 5  # how many of them
    beta: float = 0.5  # weight of each
    selection: str = "search"  # how ranks are found: "search", "top_k" (reference), "approx" (fast on TPU, not exact)
    gpu_kernels: bool = False  # sum windows of more scores than are held by kernels for NVIDIA GPUs, in bfloat16
    hard_fraction: float = (
        1.0  # share of the window that is drawn; uniform negatives fill up the rest (released code: 0.5)
    )

    @property
    def positives(self) -> int:
        """How many augmented positives a prefix has."""
        return self.p if self.augment else 0

    @property
    def lasts_a_turn(self) -> bool:
        """Whether a prefix has the same window as long as a turn lasts: it is the peer's, and nothing is drawn."""
        return self.negatives == "peer" and self.hard_fraction == 1


@dataclasses.dataclass(frozen=True)
class ScheduleConfig:
    """Who trains when (algorithm 1), in epochs."""

    m_random: int = 2  # epochs with random negatives, for each network
    m_gap: int = 2  # epochs of a turn; its windows are mined in the first
    m_max: int = 30  # epochs in all, both networks and both phases together
    patience: int = 0  # stop after so many epochs without a better validation; 0 = never


@dataclasses.dataclass(frozen=True)
class ProtocolConfig:
    """How rankings are judged, alike on validation and test."""

    targets: str = "all_prefixes"  # "last": the last item of a session; "all_prefixes": every item after the first
    exclude_session_items: bool = False  # never recommend what the session already holds
    alpha: float = 0.5  # weight of the ID score in the fused score (eq. 6)
    select_on: str = "hits@20"  # the fused validation metric that chooses the model: "hits@20" or "ndcg@20"


@dataclasses.dataclass(frozen=True)
class AlterRecConfig:
    """A whole run. Everything that changes its numbers is here."""

    model: str = "alterrec"  # "alterrec"; "id" or "text", one of its networks alone; "nfrec", naive fusion
    seed: int = 0
    batch_prefixes: int = 512  # prefixes a step, rounded to whole rows
    precision: str = "float32"  # of what products take: "float32", or "bfloat16"; sums are float32 in both
    max_length: int = 50  # items of a session that an encoder sees, and the length of a packed row
    checkpoint_seconds: int = 120  # save that often within an epoch; every epoch is saved as well
    checkpoint_steps: int = 0  # save after so many steps of an epoch, too; 0: by time alone
    keep_checkpoints: int = 2  # how many of the newest are kept; the best parameters ride in each
    keep_epochs: bool = False  # keep the parameters of every epoch, to be looked at when the run is over
    id: NetworkConfig = dataclasses.field(default_factory=NetworkConfig)
    text: TextNetworkConfig = dataclasses.field(default_factory=TextNetworkConfig)
    fused: FusedNetworkConfig = dataclasses.field(default_factory=FusedNetworkConfig)
    mining: MiningConfig = dataclasses.field(default_factory=MiningConfig)
    schedule: ScheduleConfig = dataclasses.field(default_factory=ScheduleConfig)
    protocol: ProtocolConfig = dataclasses.field(default_factory=ProtocolConfig)

    @property
    def keeps_windows(self) -> bool:
        """Whether the windows that a turn's first epoch mines are kept for its other ones."""
        return self.mining.lasts_a_turn and self.schedule.m_gap > 1

    def check(self) -> "AlterRecConfig":
        """Returns itself if every field makes sense.

        Raises:
          UserError: naming the first field that does not, its value, and what it may be.
        """
        _choose(self.model, "model", *MODELS)
        for name, network in (("id", self.id), ("text", self.text), ("fused", self.fused)):
            _check_network(name, network)
        mining, schedule, protocol = self.mining, self.schedule, self.protocol
        _choose(mining.negatives, "mining.negatives", *NEGATIVES)
        if self.model != "alterrec":
            _require(
                mining.negatives != "peer",
                "mining.negatives",
                mining.negatives,
                f"'self', 'uniform' or 'full', for model={self.model} has no peer",
            )
        if mining.negatives != "peer":
            _require(
                not mining.augment, "mining.augment", mining.augment, "False where the negatives are not the peer's"
            )
        _require(mining.k1 >= 0, "mining.k1", mining.k1, "at least 0")
        _require(mining.k1 < mining.k2, "mining.k1", mining.k1, f"below mining.k2 ({mining.k2})")
        if mining.augment:
            _require(
                0 <= mining.p <= mining.k1,
                "mining.p",
                mining.p,
                f"0 to mining.k1 ({mining.k1}): a positive must not be a negative too",
            )
        _require(0 <= mining.beta < math.inf, "mining.beta", mining.beta, "at least 0 and finite")
        _choose(mining.selection, "mining.selection", *SELECTIONS)
        _require(0 < mining.hard_fraction <= 1, "mining.hard_fraction", mining.hard_fraction, "in (0, 1]")
        if mining.gpu_kernels:
            _require(
                self.precision == "bfloat16",
                "mining.gpu_kernels",
                True,
                "False, or precision 'bfloat16': in float32 a tile of scores does not fit a GPU's registers",
            )
            _require(
                mining.hard_fraction == 1, "mining.gpu_kernels", True, "False where mining.hard_fraction is below 1"
            )
        _require(schedule.m_random >= 0, "schedule.m_random", schedule.m_random, "at least 0")
        _require(schedule.m_gap >= 1, "schedule.m_gap", schedule.m_gap, "at least 1")
        _require(schedule.m_max >= 1, "schedule.m_max", schedule.m_max, "at least 1")
        _require(schedule.patience >= 0, "schedule.patience", schedule.patience, "at least 0")
        _require(0 <= protocol.alpha <= 1, "protocol.alpha", protocol.alpha, "between 0 and 1")
        _choose(protocol.targets, "protocol.targets", *TARGET_RULES)
        _choose(protocol.select_on, "protocol.select_on", "hits@20", "ndcg@20")
        _choose(self.precision, "precision", *PRECISIONS)
        _require(0 <= self.seed < 2**32, "seed", self.seed, "between 0 and 4294967295")
        _require(self.max_length >= 1, "max_length", self.max_length, "at least 1")
        _require(self.batch_prefixes >= 1, "batch_prefixes", self.batch_prefixes, "at least 1")
        _require(self.checkpoint_seconds >= 1, "checkpoint_seconds", self.checkpoint_seconds, "at least 1")
        _require(self.checkpoint_steps >= 0, "checkpoint_steps", self.checkpoint_steps, "at least 0")
        _require(self.keep_checkpoints >= 1, "keep_checkpoints", self.keep_checkpoints, "at least 1")
        return self


def from_mapping(kind: type[T], values: Mapping[str, Any], where: str = "configuration") -> T:
    """Builds a configuration record from nested plain values (a ConfigDict, or JSON).

    Lists become tuples and whole numbers become floats where the field says so.

    Raises:
      UserError: an unknown field (naming the nearest), or a value of the wrong type.
    """
    hints = typing.get_type_hints(kind)
    arguments = {}
    for name, value in values.items():
        if name not in hints:
            raise UserError(f"{where} has no field '{name}'; {nearest(name, list(hints))}")
        arguments[name] = _convert(hints[name], value, f"{where}.{name}")
    return kind(**arguments)


def _convert(hint: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise UserError(f"{where} must hold fields, not {value!r}")
        return from_mapping(typing.cast(type, hint), value, where)
    if isinstance(hint, types.GenericAlias):
        if not isinstance(value, list | tuple):
            raise UserError(f"{where} must be a list of whole numbers, not {value!r}")
        return tuple(_convert(int, item, where) for item in value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not hint:
        raise UserError(f"{where} must be of type {hint.__name__}, not {value!r}")
    return value


def _check_network(name: str, network: NetworkConfig) -> None:
    _choose(network.encoder, f"{name}.encoder", "transformer", "mean")
    _choose(network.init, f"{name}.init", "normal", "uniform")
    _require(network.dim >= 1, f"{name}.dim", network.dim, "at least 1")
    if isinstance(network, FusedNetworkConfig):
        _choose(network.operation, f"{name}.operation", "concat", "sum")
    if network.encoder == "transformer":
        _require(network.layers >= 1, f"{name}.layers", network.layers, "at least 1")
        _require(
            network.heads >= 1 and network.width % network.heads == 0,
            f"{name}.heads",
            network.heads,
            f"a divisor of the width of its embeddings ({network.width})",
        )
    _require(0 <= network.dropout < 1, f"{name}.dropout", network.dropout, "in [0, 1)")
    tau, rate, decay = network.temperature, network.learning_rate, network.weight_decay
    _require(0 < tau < math.inf, f"{name}.temperature", tau, "above 0 and finite")
    _require(0 < rate < math.inf, f"{name}.learning_rate", rate, "above 0 and finite")
    _require(0 <= decay < math.inf, f"{name}.weight_decay", decay, "at least 0 and finite")
    _require(network.decay_every >= 0, f"{name}.decay_every", network.decay_every, "at least 0")
    _require(0 < network.decay_factor <= 1, f"{name}.decay_factor", network.decay_factor, "in (0, 1]")
    if isinstance(network, TextNetworkConfig):
        _require(
            all(width >= 1 for width in network.mlp_hidden),
            f"{name}.mlp_hidden",
            network.mlp_hidden,
            "widths of at least 1",
        )
        _require(0 <= network.item_dropout < 1, f"{name}.item_dropout", network.item_dropout, "in [0, 1)")


def _require(holds: bool, name: str, value: Any, may_be: str) -> None:
    if not holds:
        raise UserError(f"configuration: {name} is {value}; it must be {may_be}")


def _choose(value: str, name: str, *known: str) -> None:
    if value not in known:
        raise UserError(f"configuration: {name} is '{value}'; {nearest(value, known)}")
