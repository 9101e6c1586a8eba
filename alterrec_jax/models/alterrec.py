"""AlterRec (Li et al., 2024): networks on different item knowledge, trained in turns, each mined from another.

The paper alternates an ID and a text network (algorithm 1, eqs. 1-6). Here any number of networks alternate, on learned
ids, on any frozen vectors, on attributes; the peer that one mines is another network, or the others fused. A single
network is the same without a peer. Neighbours (`models.neighbours`) take part without training: they are fitted when
the run begins, and are fused and mined like the rest.

Departures from the paper, as its released code has them: the Transformer is post-LayerNorm with ReLU, without biases in
the attention, LayerNorm epsilon 1e-6 (1e-5 on item tables). Where else that code departs from the paper, a field gives
its reading, and `experiments/configs/official.py` sets them all.
"""

import dataclasses
from collections.abc import Sequence

from alterrec_jax.config import RunConfig, require, setting
from alterrec_jax.contract import (
    PACKED,
    CatalogueInfo,
    Component,
    Objective,
    Stage,
    System,
    View,
    tells_items_apart,
)
from alterrec_jax.errors import UserError, nearest
from alterrec_jax.hard_negatives.search import SELECTIONS
from alterrec_jax.losses.objectives import (
    WindowSettings,
    full_softmax,
    own_window,
    peer_weighted,
    peer_window,
    random_negatives,
)
from alterrec_jax.models.neighbours import FOLLOWING, NeighbourConfig, build_neighbours
from alterrec_jax.models.registry import register
from alterrec_jax.models.unimodal import (
    AnyNetworkConfig,
    IdNetworkConfig,
    VectorNetworkConfig,
    build_network,
    check_encoder,
    encoder_notes,
    item_encoder,
    optimizer_of,
)
from alterrec_jax.numerics import MemoryLimits
from alterrec_jax.stages import alternation

FUSED = "fused"
"""The view that joins all networks; it chooses the model."""

RANDOM, WINDOW, OWN_WINDOW, FULL, WEIGHTED = "random", "window", "own_window", "full", "weighted"
NEGATIVES = ("peer", "self", "uniform", "full", "weighted")
_OF_PEERS, _OF_ALL_ITEMS = ("peer", "weighted"), ("full", "weighted")
NEXT, REST = "next", "rest"
FITTED, FIXED = "fitted", "fixed"

_INIT_NUMBERS = {"id": 0, "text": 1}  # alone or with others, a network begins the same
_OTHERS_BEGIN_AT = 3


@dataclasses.dataclass(frozen=True)
class MiningConfig:
    """What each network learns from a ranking (section 4.2). Ranks count from 0."""

    negatives: str = setting(
        "peer",
        "what a network learns to tell the target from: a window of its peer's ranking, or of its own, after a warm-up "
        "on uniform items; uniform items; the full catalogue; or the full catalogue, each item weighted by the peer's "
        "score",
        choices=NEGATIVES,
    )
    peer_share: float = setting(
        0.5, "weighted: how much of the peer's score is added to the network's own in its loss", low=0
    )
    k1: int = setting(20, "first rank of the hard negatives", low=0)
    k2: int = setting(20_000, "one past their last rank; clipped to the catalogue", low=1)
    augment: bool = setting(True, "AlterRec_aug: learn from the peer's top p as positives too")
    p: int = setting(5, "how many augmented positives a prefix has; at most k1", low=0)
    beta: float = setting(0.5, "weight of augmented positives", low=0)
    beta_per: str = setting(
        "positive",
        "beta weighs each positive (eqs. 4-5), or all of a prefix together: beta / p each, as the code that made the "
        "paper's figures",
        choices=("positive", "prefix"),
    )
    selection: str = setting(
        "search", "how ranks are found: by counting, by lax.top_k, or approximately (fast on TPU)", choices=SELECTIONS
    )
    gpu_kernels: bool = setting(False, "sum long windows by kernels for NVIDIA GPUs, in bfloat16")
    hard_fraction: float = setting(
        1.0, "share of the window that is drawn; uniform items fill up the rest (released code: 0.5)", above=0, high=1
    )

    @property
    def positives(self) -> int:
        """How many augmented positives a prefix has."""
        return self.p if self.augment else 0

    def settings(self, items: int) -> WindowSettings:
        """Within a catalogue of so many items, to which k2 is clipped.

        Raises:
          UserError: k1 is not below the catalogue's size, so that no item is left.
        """
        if self.k1 >= items and self.negatives not in _OF_ALL_ITEMS:
            raise UserError(f"mining.k1 is {self.k1}, but the catalogue has {items} items; choose a smaller one")
        beta = self.beta / max(self.positives, 1) if self.beta_per == "prefix" else self.beta
        return WindowSettings(
            self.k1,
            min(self.k2, items),
            self.positives,
            beta,
            self.selection,
            self.hard_fraction,
            self.gpu_kernels,
        )


@register(
    "alterrec",
    title="AlterRec",
    paper="Li et al., 2024, arXiv 2402.08921",
    needs="what its networks are made of: text or other vectors, category, brand",
    layout=PACKED,
)
@dataclasses.dataclass(frozen=True)
class AlterRecConfig(RunConfig):
    """AlterRec, or one of its networks alone."""

    warmup_epochs: int = setting(2, "epochs with random negatives, for each network (m_random)", low=0)
    turn_epochs: int = setting(2, "epochs of a turn; its windows are mined in the first (m_gap)", low=1)
    networks: dict[str, AnyNetworkConfig | NeighbourConfig] = setting(
        {"id": IdNetworkConfig(), "text": VectorNetworkConfig()},
        "the networks, in the order of their turns, and neighbours, which have none",
    )
    fusion_weights: str = setting(
        FITTED,
        "the weights of the networks in the fused score: fitted on validation after every epoch, by the metric that "
        "chooses the model; or each network's own weight (eq. 6)",
        choices=(FITTED, FIXED),
    )
    mining: MiningConfig = dataclasses.field(default_factory=MiningConfig)

    def check(self) -> "AlterRecConfig":
        """As `RunConfig.check`."""
        super().check()
        mining = self.mining
        require(bool(self.trained), "networks", [*self.networks], "at least one network that trains")
        for name in self.networks:
            _check_name(name)
        for name, network in self.trained.items():
            check_encoder(f"networks.{name}", network)
            _check_peer(name, network.peer, tuple(self.networks))
        total = sum(network.weight for network in self.networks.values())
        require(total > 0, "networks.*.weight", 0, "above 0 for one network at least")
        if len(self.networks) == 1:
            only = next(iter(self.networks))
            may_be = f"'self', 'uniform' or 'full', for the network {only} alone has no peer"
            require(mining.negatives not in _OF_PEERS, "mining.negatives", mining.negatives, may_be)
        if mining.negatives != "peer":
            require(not mining.augment, "mining.augment", True, "False where the negatives are not the peer's")
        require(mining.k1 < mining.k2, "mining.k1", mining.k1, f"below mining.k2 ({mining.k2})")
        if mining.augment:
            may_be = f"0 to mining.k1 ({mining.k1}): a positive must not be a negative too"
            require(mining.p <= mining.k1, "mining.p", mining.p, may_be)
        if mining.gpu_kernels:
            may_be = "False, or precision 'bfloat16': in float32 a tile of scores does not fit a GPU's registers"
            require(self.precision == "bfloat16", "mining.gpu_kernels", True, may_be)
            whole = mining.hard_fraction == 1
            require(whole, "mining.gpu_kernels", True, "False where mining.hard_fraction is below 1")
        return self

    @property
    def trained(self) -> dict[str, AnyNetworkConfig]:
        """The networks that have turns."""
        return {name: part for name, part in self.networks.items() if not isinstance(part, NeighbourConfig)}

    @property
    def fusion(self) -> View:
        """The networks' own weights in the fusion; they add up to 1 (eq. 6, alpha for the first of two)."""
        first, *others = self.networks
        total = sum(network.weight for network in self.networks.values())
        shares = {name: network.weight / total for name, network in self.networks.items()}
        if len(others) == 1:
            return {first: shares[first], others[0]: 1 - shares[first]}
        return shares

    def peer_of(self, name: str, trained: Sequence[str]) -> View:
        """The frozen view whose ranking a network mines: another one, or all others as weighed in the fusion.

        Of the networks, only those that are trained are mined; the view is empty where none is left.
        """
        fitted = [other for other in self.networks if other not in self.trained]
        names, chosen = [*trained, *fitted], self.trained[name].peer
        if chosen == REST:
            rest = {other: self.fusion[other] for other in names if other != name and self.fusion[other]}
            return {other: weight / sum(rest.values()) for other, weight in rest.items()}
        other = trained[(trained.index(name) + 1) % len(trained)] if chosen == NEXT else chosen
        return {other: 1.0} if other in names and other != name else {}

    def _followers(self) -> list[str]:
        """The neighbours by what follows what, which an order that is random knows nothing of."""
        neighbours = {name: part for name, part in self.networks.items() if isinstance(part, NeighbourConfig)}
        return [name for name, part in neighbours.items() if part.relation == FOLLOWING]

    def build(
        self,
        catalogue: CatalogueInfo,
        limits: MemoryLimits = MemoryLimits(),  # noqa: B008
    ) -> System:
        """The system, for a catalogue; `limits` say how much a device holds at a time in its steps."""
        if not catalogue.ordered and (followers := self._followers()):
            others = {name: part for name, part in self.networks.items() if name not in followers}
            system = dataclasses.replace(self, networks=others).build(catalogue, limits)
            note = f"note: {' and '.join(followers)} left out, for nothing follows where the order is random"
            return system._replace(notes=(note, *system.notes))
        networks = {}
        for name, part in self.networks.items():
            if isinstance(part, NeighbourConfig):
                networks[name] = build_neighbours(part, catalogue, self.max_length)
                continue
            of_items = item_encoder(part, catalogue, self.precision, limits)
            networks[name] = build_network(part, catalogue, of_items, self.max_length, self.precision)
        # One that ties all items has nothing to learn or to teach. If all do, whoever is to train them refuses.
        able = [name for name in self.trained if tells_items_apart(networks[name], catalogue)]
        trained = able or list(self.trained)
        components = {name: Component(network, name) for name, network in networks.items()}
        alone: dict[str, View] = {name: {name: 1.0} for name in networks}
        views = {FUSED: self.fusion, **alone} if len(networks) > 1 else alone
        mining = self.mining
        window = mining.settings(catalogue.items)

        def random(stage: Stage) -> Objective:
            (name,) = stage.trains
            return random_negatives(name, networks[name], window.k2 - window.k1, limits)

        def full(stage: Stage) -> Objective:
            (name,) = stage.trains
            return full_softmax(name, networks[name], limits)

        def own(stage: Stage) -> Objective:
            (name,) = stage.trains
            return own_window(name, networks[name], window, limits)

        def of_peer(stage: Stage) -> Objective:
            (name,) = stage.trains
            return peer_window(name, networks[name], components, dict(stage.peer), window, limits)

        def weighted(stage: Stage) -> Objective:
            (name,) = stage.trains
            return peer_weighted(name, networks[name], components, dict(stage.peer), mining.peer_share, limits)

        peers = {name: self.peer_of(name, trained) for name in trained} if mining.negatives in _OF_PEERS else {}
        warmup = FULL if mining.negatives in _OF_ALL_ITEMS else RANDOM
        alone_on = "the full catalogue" if warmup == FULL else "uniform negatives"
        notes = [*encoder_notes(self.trained, catalogue)]
        notes += [
            f"note: the network {name} has no peer that ranks anything: its turns are on {alone_on}"
            for name, peer in peers.items()
            if not peer
        ]
        if mining.k2 > catalogue.items and mining.negatives not in _OF_ALL_ITEMS:
            items = catalogue.items
            notes.append(f"mining.k2 ({mining.k2}) exceeds the catalogue ({items} items): clipped to {items}")
        objective = dict(zip(NEGATIVES, (WINDOW, OWN_WINDOW, RANDOM, FULL, WEIGHTED), strict=True))[mining.negatives]
        return System(
            networks=networks,
            init_numbers={
                name: _INIT_NUMBERS.get(name, _OTHERS_BEGIN_AT + number) for number, name in enumerate(networks)
            },
            components=components,
            views=views,
            objectives={RANDOM: random, FULL: full, OWN_WINDOW: own, WINDOW: of_peer, WEIGHTED: weighted},
            optimizers={name: optimizer_of(part, catalogue) for name, part in self.trained.items()},
            optimized={name: (name,) for name in self.trained},
            stages=alternation(
                trained,
                self.epochs,
                warmup_epochs=self.warmup_epochs,
                turn_epochs=self.turn_epochs,
                warmup=warmup,
                objective=objective,
                peers=peers,
            ),
            notes=tuple(notes),
            fitted=(FUSED,) if len(networks) > 1 and self.fusion_weights == FITTED else (),
        )


def _check_name(name: str) -> None:
    """Refuses a network whose name a view, a file or an error could not tell from something else."""
    reserved = (FUSED, NEXT, REST, "self")
    if name in reserved or not name.isidentifier():
        raise UserError(
            f"configuration: a network is called '{name}'; choose a word that is none of {', '.join(reserved)}"
        )


def _check_peer(name: str, peer: str, known: tuple[str, ...]) -> None:
    """Refuses a peer that is none of the others."""
    others = [NEXT, REST, *(other for other in known if other != name)]
    if peer not in others:
        raise UserError(f"configuration: networks.{name}.peer is '{peer}'; {nearest(peer, others)}")
