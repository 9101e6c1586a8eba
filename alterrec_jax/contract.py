"""What every system is made of: features, batches, item tables, networks, objectives, stages, components and views.

A system ranks by dot products of a session vector with item vectors, by sums of rows of an item-item matrix, or by a
weighted sum of such. Scoring, mining, evaluation, recommendation, export and sharding are written once over these
records and know no model.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from alterrec_jax.sharding import mesh
from alterrec_jax.sharding.per_item import sharded_shapes

Params = Any
BatchArray = Any  # a jax.Array, or a NumPy array that is not on the device yet

PACKED, PREFIX = "packed", "prefix"
LAYOUTS = (PACKED, PREFIX)
"""How sessions lie in a batch. `packed`: a session is a segment, and a causal encoder embeds all of its prefixes in one
pass. `prefix`: each prefix is a segment of its own, for encoders that read a prefix as a whole."""

WHOLE = "whole"
"""The layout `packed` of training batches in which a session's last item, that nothing follows, stands at the end of
its segment, too. It ends no prefix that is to be learned; objectives that hide items of whole sessions read it."""


class Context(NamedTuple):
    """What is known and not learned.

    Attributes:
      features: by name, what is known of the items, over the mesh's item axis: float [item, width], int32 [item], or,
        of attributes, int32 [item, most].
      graphs: by name, what was counted from the training sessions alone.
    """

    features: Mapping[str, Any]
    graphs: Mapping[str, Any]


class SessionBatch(NamedTuple):
    """Several sessions a row, of static shape (`alterrec_jax.data.packing`).

    Attributes:
      items: int32 [row, position], item numbers; 0 where there is none.
      positions: int32 [row, position], the place of an item in its session, from 0.
      segments: int32 [row, position], numbers the segments of a row from 0; -1 where there is no item.
      targets: int32 [prefix], the item that follows the prefix; 0 where `is_target` is False.
      is_target: bool [prefix], which prefixes are to be learned from; the others are padding.
      ends: int32 [prefix], where a prefix ends: row * length + position, counted from the first row of the prefix's own
        device along the mesh's axis `data`. None where every position ends one, as it does in the layout `packed`.
      interaction: int32 [prefix], the number of the prefix's last interaction among those of all sessions; it
        identifies a prefix however sessions are packed. None where nobody asks.
      users: int32 [row, position], the user's number; -1 where unknown. None where no network reads users.
    """

    items: BatchArray
    positions: BatchArray
    segments: BatchArray
    targets: BatchArray
    is_target: BatchArray
    ends: BatchArray = None
    interaction: BatchArray = None
    users: BatchArray = None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Neighbours:
    """A sparse item-item matrix: what an item of a session adds to the scores of others.

    Attributes:
      items: int32 [item, neighbour], the numbers of those that a row names, each once.
      weights: float32 [item, neighbour], what it adds to each; 0 where a row names fewer.
    """

    items: BatchArray
    weights: BatchArray

    def __len__(self) -> int:
        return len(self.items)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ItemSums:
    """Session embeddings for `Neighbours`: a prefix's scores are the sum of its items' rows, each times its weight.

    Attributes:
      items: int32 [prefix, place], item numbers.
      weights: float32 [prefix, place]; 0 where there is no item.
    """

    items: BatchArray
    weights: BatchArray

    def __len__(self) -> int:
        return len(self.items)


class ItemTables(NamedTuple):
    """What a network makes of the items, once a step.

    Attributes:
      candidates: float32 [item, dim], what session embeddings are multiplied with; or `Neighbours`.
      own_inputs: any tree of arrays [item, ...], what the session encoder looks up; None if that is `candidates`.
      users: float32 [user, dim], what it looks up of who a session belongs to; None where it reads no users, and in an
        export, which knows nobody.
    """

    candidates: Any
    own_inputs: Any = None
    users: Any = None

    @property
    def inputs(self) -> Any:
        """What the session encoder looks up."""
        return self.candidates if self.own_inputs is None else self.own_inputs


class InitFn(Protocol):
    """init(key, context) -> params."""

    def __call__(self, key: jax.Array, context: Context) -> Params: ...


class ItemTablesFn(Protocol):
    """item_tables(params, context, key=None) -> ItemTables; a key turns dropout on."""

    def __call__(self, params: Params, context: Context, key: jax.Array | None = None) -> ItemTables: ...


class SessionEmbeddingsFn(Protocol):
    """session_embeddings(params, tables, batch, key=None) -> float32 or bfloat16 [prefix, dim], or `ItemSums`.

    `tables` are those of the same parameters. Items are looked up in `tables.inputs` only (`sharding.lookup`), never by
    number in the parameters, so that an export may renumber them, and users in `tables.users`. One that returns
    `ItemSums` gets whole tables, and may read all of them. A key turns dropout on.
    """

    def __call__(
        self, params: Params, tables: ItemTables, batch: SessionBatch, key: jax.Array | None = None
    ) -> Any: ...


class FitFn(Protocol):
    """fit(train) -> params, from the training sessions (`data.dataset.Sessions`) alone."""

    def __call__(self, train: Any) -> Params: ...


class Reads(NamedTuple):
    """What a network is given besides sessions.

    Attributes:
      features: names of item features that it needs.
      optional: names of item features that it uses where they are known.
      graphs: names of graphs of training sessions (`alterrec_jax.data.graphs`).
      users: whether it reads who a session belongs to.
    """

    features: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    graphs: tuple[str, ...] = ()
    users: bool = False


class Network(NamedTuple):
    """A model as pure functions over a tree of parameters.

    Attributes:
      init, item_tables, session_embeddings: the functions. Session embeddings are divided by the temperature, so scores
        are plain dot products, as exact as the embeddings are.
      catalogue_size: how many items have rows in the tables; rows behind them are padding.
      dim: the width of candidates and session embeddings; 0 of one that scores by `Neighbours`.
      per_item: paths like "items/table" of the parameters that hold one row an item, which devices share. A run that
        starts from another one on newer data gets their rows by item id.
      per_class: paths of the parameters that hold one row for each number of an id feature (category, brand,
        attributes), and the feature's name; such a run gets their rows by the class.
      reads: what it is given besides sessions.
      layout: one of LAYOUTS.
      places_new_items: whether an item that was not in training has a vector, for it is made from features alone.
      grouped_by: id features of which it asks alone whether two items have the same value, so that the numbers of these
        mean nothing.
      per_user: paths of the parameters that hold one row a user of training; such a run starts with fresh ones.
      fit: of a network that no step trains: what makes its parameters when a run begins. None where steps do.
    """

    init: InitFn
    item_tables: ItemTablesFn
    session_embeddings: SessionEmbeddingsFn
    catalogue_size: int
    dim: int
    per_item: tuple[str, ...] = ()
    reads: Reads = Reads()
    layout: str = PACKED
    places_new_items: bool = False
    per_class: Mapping[str, str] = {}
    grouped_by: tuple[str, ...] = ()
    per_user: tuple[str, ...] = ()
    fit: FitFn | None = None


class Component(NamedTuple):
    """Something that scores.

    Attributes:
      network: its functions.
      trained: the name of the trained network whose parameters they take.
    """

    network: Network
    trained: str


View = Mapping[str, float]
"""A weighted sum of components, by name: {"id": 0.5, "text": 0.5}."""


class FrozenView(NamedTuple):
    """A view whose networks do not train in this stage. Its scores are one dot product, vectors side by side, and what
    neighbours add.

    Attributes:
      params: by component.
      tables: by component, made once a stage, without dropout.
      candidates: float32 [item, sum of dims], the components' vectors side by side.
    """

    params: Mapping[str, Params]
    tables: Mapping[str, ItemTables]
    candidates: jax.Array


class Objective(NamedTuple):
    """What a step minimises.

    Attributes:
      loss: a pure function; the step minimises the total of its terms, divided by the number of prefixes.
      mine: what the step does without gradient before the loss; None where nothing is mined.
      cached_positives: where a prefix has the same window in every epoch of a stage, so that it is mined once and kept:
        how many positives are kept with it. None where windows are not kept.
    """

    loss: "LossFn"
    mine: "MineFn | None" = None
    cached_positives: int | None = None


class LossFn(Protocol):
    """loss(params, context, batch, key, mined) -> the sum over the batch's prefixes of each term, by the term's name.

    `params` are those of the networks that train, by name; `mined` is what `mine` returned.
    """

    def __call__(
        self, params: Mapping[str, Params], context: Context, batch: SessionBatch, key: jax.Array, mined: Any
    ) -> dict[str, jax.Array]: ...


class MineFn(Protocol):
    """mine(params, context, frozen, batch, key, windows, reuse) -> (mined, windows).

    `windows` is the cache of a stage that keeps them, or None; with `reuse` they are read from it, else written to it.
    """

    def __call__(
        self,
        params: Mapping[str, Params],
        context: Context,
        frozen: FrozenView | None,
        batch: SessionBatch,
        key: jax.Array,
        windows: Any,
        reuse: bool,
    ) -> tuple[Any, Any]: ...


class Stage(NamedTuple):
    """Some consecutive epochs: who trains, on what, against whom, by which optimizer.

    Attributes:
      trains: names of the networks that change.
      objective: the name of what is minimised, one of the system's objectives.
      epochs: how many; 0 where the run ends before it, so that an optimizer is the same however long the run is.
      optimizer: the name of one of the system's optimizers; its state outlives the stage.
      peer: the frozen view whose ranking is mined; empty if none is.
      frozen: paths of parameters, like "id/encoder", that do not change though their network trains.
      uncut: how many epochs it would have, had the run not ended within it; 0 where it is whole. A run that is
        lengthened goes on as if it had not been cut.
      chooses: whether validation of its epochs chooses the model, and patience counts them. Those of pretraining are
        validated and logged, and the latest stands as the best until a stage that chooses begins.
    """

    trains: tuple[str, ...]
    objective: str
    epochs: int
    optimizer: str
    peer: tuple[tuple[str, float], ...] = ()
    frozen: tuple[str, ...] = ()
    uncut: int = 0
    chooses: bool = True


class CatalogueInfo(NamedTuple):
    """What a system must know of a dataset before it is built.

    Attributes:
      items: how many can be recommended.
      classes: by name of an id feature (category, brand, attributes), how many ids it has; 0 is "unknown".
      users: how many users training knows.
      constant: the features that are the same for every item, unknown for all of them say.
      ordered: whether the order within a session means something.
      price_coverage: the share of the items that have a price.
    """

    items: int
    classes: Mapping[str, int] = {}
    users: int = 0
    constant: frozenset[str] = frozenset()
    ordered: bool = True
    price_coverage: float = 0.0


class System(NamedTuple):
    """What a configuration builds.

    Attributes:
      networks: what trains, by name.
      init_numbers: of each network, the number that its initial random key is folded with.
      components: what scores, by name.
      views: of each view, the weights of its components; the main view, which chooses the model, first.
      objectives: what stages minimise, by name: builders, called once a stage.
      optimizers: records with the settings of `alterrec_jax.config.OptimizerConfig`, by name.
      optimized: of each optimizer, the networks whose parameters it changes.
      stages: who trains when.
      terms: names of the terms of losses that are logged one by one; none where a loss is one term.
      notes: sentences that whoever trains it should read.
      fitted: names of views whose weights are fitted on validation after every epoch (`evaluation.fusion`); those in
        `views` stand where nothing is fitted yet.
      train_layout: the layout of training batches, `whole` among them, where objectives want another one than networks
        do: a cloze masks whole sessions, and its network reads prefixes. Empty: that of the networks.
    """

    networks: Mapping[str, Network]
    init_numbers: Mapping[str, int]
    components: Mapping[str, Component]
    views: Mapping[str, View]
    objectives: Mapping[str, Callable[["Stage"], Objective]]
    optimizers: Mapping[str, Any]
    optimized: Mapping[str, tuple[str, ...]]
    stages: tuple[Stage, ...]
    terms: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    fitted: tuple[str, ...] = ()
    train_layout: str = ""

    @property
    def main(self) -> str:
        """The view that chooses the model and recommends."""
        return next(iter(self.views))

    @property
    def layout(self) -> str:
        """Of training batches: `prefix` if any network needs it, unless objectives want another."""
        if self.train_layout:
            return self.train_layout
        return PREFIX if any(network.layout == PREFIX for network in self.networks.values()) else PACKED

    @property
    def scoring_reads(self) -> Reads:
        """All that the components read. What trains may read more, for its losses."""
        return _joined(component.network.reads for component in self.components.values())

    @property
    def reads(self) -> Reads:
        """All that the components and the networks read."""
        return _joined((self.scoring_reads, *(network.reads for network in self.networks.values())))


def _joined(several: Iterable[Reads]) -> Reads:
    """All of them, each name once."""
    every = list(several)

    def names(of: Callable[[Reads], tuple[str, ...]]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for reads in every for name in of(reads)))

    return Reads(
        names(lambda reads: reads.features),
        names(lambda reads: reads.optional),
        names(lambda reads: reads.graphs),
        any(reads.users for reads in every),
    )


def tells_items_apart(network: Network, catalogue: CatalogueInfo) -> bool:
    """Whether a network can rank: one made from features alone ties all items where these are the same for each."""
    reads = (*network.reads.features, *network.reads.optional)
    return not network.places_new_items or not catalogue.constant.issuperset(reads)


def at_prefixes(hidden: jax.Array, batch: SessionBatch) -> jax.Array:
    """[prefix, dim] from [row, position, dim]: what stands where each prefix ends.

    Every device along the mesh's axis `data` picks from its own rows. Draw dropout before this, not behind it: how
    prefixes are padded depends on the mesh.
    """
    flat = hidden.reshape(-1, hidden.shape[-1])
    if batch.ends is None:
        return flat
    shards = mesh.size(mesh.DATA)
    if shards == 1:
        return flat[batch.ends]
    ends = batch.ends.reshape(shards, -1, 1)
    return jnp.take_along_axis(flat.reshape(shards, -1, flat.shape[-1]), ends, axis=1).reshape(-1, flat.shape[-1])


def make_item_tables(network: Network, params: Params, context: Context) -> ItemTables:
    """The tables without dropout, made once for many uses.

    A parameter that is the table as it stands is handed on; a compiled function would copy it.
    """
    reads = network.reads
    eager = not (reads.features or reads.optional or reads.graphs)
    return (network.item_tables if eager else jax.jit(network.item_tables))(params, context)


def param_shapes(network: Network, context: Context) -> Params:
    """The shapes of a network's parameters, and where they lie."""
    key = jax.eval_shape(jax.random.key, 0)
    return sharded_shapes(network.per_item, jax.eval_shape(network.init, key, context))
