"""MGS (Lai et al., SIGIR 2022): a session graph whose every item has a mirror, made of other items with its attributes.

Peers of an item are the other items of the catalogue that have its category, say, or its brand. With h_i the row of an
item, and N_k some of its peers by attribute k,

    e_ij = LeakyReLU(w_k . [h_i ; h_j]),  m_i^k = sum over j in N_k of softmax(e_i)_j h_j,
    m_i = D(W_c [m_i^1 ; ..]),  of one attribute m_i = m_i^1

The nodes of a prefix are its distinct items. From x_i = h_i, `steps` times (o is a product by coordinate),

    x_i <- sum of softmax over neighbours j of (LeakyReLU(w_t . (x_i o x_j))) x_j, t the type of the edge (`nn.gnn`)
    x_i <- x_i + a_i (m_i - x_i),  a_i = (W_q x_i) . (W_k m_i) / sqrt(d)
    m_i <- sum over nodes j of softmax((W_q' m_i) . (W_k' x_j) / sqrt(d)) m_j

and then, with p a position embedding that counts nodes from the latest one, and l = x of the last item,

    x <- g o h + (1 - g) o x,  g = sigmoid(W_h [h ; x]),   y_i = x_i + p_i
    z = sum over nodes of b_i y_i,  b_i = w . sigmoid(G_1 y_i + G_2 m_i + G_3 l + b)
    q = D(c o l + (1 - c) o z),  c = mu sigmoid(W_g [z ; l])

Scores are dot products with the raw item table. The loss is the softmax over the catalogue, and a contrast of mirrors
from two draws of peers (`losses.mirror_contrast`); the m_i above is made from both draws.

It needs the category or the brand of the items, best both; without brands, or without categories, it does with the
other. Peers are made of rows that are learned, so an item that was not in training cannot be recommended.

Departures from the released code:

* it draws peers anew wherever an item stands; here a step draws once for each item, up to `peers` of them by attribute,
  without replacement as there. Evaluation weighs all peers, and is a function of the prefix; there it draws, too;
* an item without peers is its own mirror; there it gets the row of padding, which is trained;
* padding stands in no denominator of the contrast;
* peers are items of the catalogue; there they may be items of the test sessions alone;
* the learning rate falls after every third epoch; there after the third alone. It chooses its epoch on the test set,
  one for each metric; here validation does.

Defaults are the authors' for Diginetica, where mu = 0: the last item has no part in q but through the weights b. For
30music they are peers = 5, dropout = 0.2, last_item = 1.2, contrast = 1.5, temperature = 0.05, and for Tmall peers = 5,
dropout = 0.4, last_item = 0.5, contrast = 1, temperature = 0.05, steps = 6, dim = 160.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from alterrec_jax.config import OptimizerConfig, RunConfig, require, setting
from alterrec_jax.contract import (
    PREFIX,
    CatalogueInfo,
    Context,
    ItemTables,
    Network,
    Params,
    Reads,
    SessionBatch,
    System,
    at_prefixes,
)
from alterrec_jax.errors import UserError
from alterrec_jax.losses.mirror_contrast import CONTRAST, MirrorViews, ViewsFn, mirror_contrast
from alterrec_jax.losses.objectives import NEXT_ITEM
from alterrec_jax.models.registry import register
from alterrec_jax.models.single import single_network_system
from alterrec_jax.models.unimodal import empty_batch, uniform_params
from alterrec_jax.nn.item_tables import learned_items
from alterrec_jax.nn.mirror_graph import MirrorGraphEncoder, node_columns
from alterrec_jax.nn.peers import PeerOrder, mean_of_all_peers, means_of_drawn_peers, shuffled_peers
from alterrec_jax.nn.vectors import dropout
from alterrec_jax.numerics import product
from alterrec_jax.sharding import mesh
from alterrec_jax.sharding.lookup import lookup
from alterrec_jax.sharding.per_item import zero_padding_rows

NAME, FEATURES = "mgs", ("category", "brand")


@dataclasses.dataclass(frozen=True)
class MGSNetworkConfig(OptimizerConfig):
    """The network and its loss; defaults are the authors' for Diginetica."""

    features: tuple[str, ...] = setting(
        FEATURES, "what peers have in common, one or both; what the dataset lacks is left out", choices=FEATURES
    )
    dim: int = setting(100, "width d of item and session embeddings", low=1)
    steps: int = setting(4, "graph layers", low=1)
    peers: int = setting(40, "in training, the most peers of an item in a draw, by attribute", low=1)
    mirror_dropout: float = setting(0.5, "rate on mirrors that are made of two attributes", low=0, below=1)
    dropout: float = setting(0.0, "rate on session embeddings", low=0, below=1)
    last_item: float = setting(0.0, "mu: the largest share of the last item in a session embedding; 0: none", low=0)
    contrast: float = setting(2.5, "phi: weight of the contrast of mirrors; 0: none", low=0)
    temperature: float = setting(0.1, "tau: products of mirrors are divided by it", above=0)
    l2: float = setting(1e-5, "L2 added to the gradient before Adam (PyTorch's weight_decay); 0: none", low=0)
    decay_every: int = setting(3, "epochs after which the learning rate is multiplied by decay_factor; 0: never", low=0)


@register(NAME, title="MGS", paper="Lai et al., SIGIR 2022", needs="category or brand", layout=PREFIX)
@dataclasses.dataclass(frozen=True)
class MGSConfig(RunConfig):
    """MGS."""

    batch_prefixes: int = setting(512, "prefixes a step", low=1)
    epochs: int = setting(16, "epochs in all", low=1)
    patience: int = setting(3, "stop after so many epochs without a better validation; 0: never", low=0)
    network: MGSNetworkConfig = dataclasses.field(default_factory=MGSNetworkConfig)

    def check(self) -> "MGSConfig":
        """As `RunConfig.check`."""
        super().check()
        named = self.network.features
        once = len(set(named)) == len(named) > 0
        require(once, "network.features", named, "category or brand or both, each once")
        return self

    def build(self, catalogue: CatalogueInfo) -> System:
        """The system, for a catalogue.

        Raises:
          UserError: no item has any of the features that peers are to have in common.
        """
        config = self.network
        known = tuple(name for name in config.features if catalogue.classes.get(name, 1) > 1)
        lacking = [name for name in config.features if name not in known]
        if not known:
            flags = " or ".join(f"--{name}_column" for name in lacking)
            raise UserError(
                f"mgs makes mirrors of items that have {' or '.join(lacking)} in common, but the dataset's items have "
                f"none; prepare it with {flags}, or choose others (network.features)"
            )
        notes = tuple(f"mgs: the items have no {name}; peers have the {known[0]} in common" for name in lacking)
        network, views = build_network(config, known, catalogue.items, self.max_length, self.precision)
        if not config.contrast:
            return single_network_system(NAME, network, config, self.epochs, notes=notes)
        objective = mirror_contrast(NAME, network, views, config.contrast, config.temperature)
        system = single_network_system(NAME, network, config, self.epochs, objective=objective, notes=notes)
        return system._replace(terms=(NEXT_ITEM, CONTRAST))


class Mirrored(NamedTuple):
    """What is looked up without dropout: rows, and mirrors of all peers, float32 [item, dim] each."""

    rows: jax.Array
    mirrors: jax.Array


class Drawn(NamedTuple):
    """What is looked up in training: rows, float32 [item, dim], and by attribute two orders to draw peers from."""

    rows: jax.Array
    orders: tuple[tuple[PeerOrder, PeerOrder], ...]


def build_network(
    config: MGSNetworkConfig, features: tuple[str, ...], items: int, max_length: int, dtype: str
) -> tuple[Network, ViewsFn]:
    """The pure functions of MGS, and that of what its loss compares.

    Args:
      config: of the network.
      features: those of its features that the dataset has.
      items: how many can be recommended.
      max_length: the longest prefix that is seen.
      dtype: that of what products take.
    """
    of_items = learned_items(items, config.dim)
    encoder = MirrorGraphEncoder(config.steps, config.last_item, config.dropout, max_length, dtype)
    per_item = ("items/table",)

    def item_tables(params: Params, context: Context, key: jax.Array | None = None) -> ItemTables:
        table = of_items.embed(params["items"], context, key)
        # Every device knows the values of all items: a peer may be any of them.
        values = [mesh.with_sharding_constraint(context.features[name], mesh.REPLICATED)[:items] for name in features]
        if key is not None:
            keys = jax.random.split(key, (len(features), 2))
            orders = tuple(
                (shuffled_peers(one, some), shuffled_peers(other, some))
                for (one, other), some in zip(keys, values, strict=True)
            )
            return ItemTables(table, Drawn(table, orders))
        rows = mesh.with_sharding_constraint(table, mesh.REPLICATED)[:items]
        by_feature = [
            mean_of_all_peers(some, rows, weights) for some, weights in zip(values, params["peers"], strict=True)
        ]
        mirrors = jnp.pad(joined(params, by_feature), ((0, len(table) - items), (0, 0)))
        return ItemTables(table, Mirrored(table, mesh.with_sharding_constraint(mirrors, mesh.ITEMS)))

    def joined(params: Params, by_feature: list[jax.Array], key: jax.Array | None = None) -> jax.Array:
        """m, float32 [..., dim], from the mirrors by attribute."""
        if len(by_feature) == 1:
            return by_feature[0]
        both = product(jnp.concatenate(by_feature, axis=-1), params["join"], dtype)
        return dropout(key, both, config.mirror_dropout)

    def views(params: Params, tables: ItemTables, batch: SessionBatch, key: jax.Array | None) -> MirrorViews:
        looked_up = tables.inputs
        rows = lookup(looked_up.rows, batch.items)
        if isinstance(looked_up, Mirrored):
            mirrors = lookup(looked_up.mirrors, batch.items)
            pair, encoder_key = (mirrors, mirrors), key
        else:
            assert key is not None, "draws are those of a step, which has a key"
            *keys, encoder_key = jax.random.split(key, 4)
            by_feature = [
                means_of_drawn_peers(looked_up.rows, batch.items, rows, weights, orders, config.peers)
                for weights, orders in zip(params["peers"], looked_up.orders, strict=True)
            ]
            one, other, mirrors = (
                joined(params, list(some), k) for some, k in zip(zip(*by_feature, strict=True), keys, strict=True)
            )
            pair = one, other
        rngs = {} if encoder_key is None else {"dropout": encoder_key}
        hidden = encoder.apply({"params": params["encoder"]}, rows, mirrors, batch, encoder_key is None, rngs=rngs)
        queries = at_prefixes(hidden.astype(dtype), batch)  # type: ignore[union-attr]
        return MirrorViews(queries, pair, node_columns(batch))

    def session_embeddings(
        params: Params, tables: ItemTables, batch: SessionBatch, key: jax.Array | None = None
    ) -> jax.Array:
        return views(params, tables, batch, key).queries

    def init(key: jax.Array, context: Context) -> Params:
        table_key, encoder_key, uniform_key = jax.random.split(key, 3)
        inputs = jnp.zeros((1, max_length, config.dim))
        params = {
            "items": of_items.init(table_key, context),
            "peers": jnp.zeros((len(features), 2, config.dim)),
            "encoder": encoder.init(encoder_key, inputs, inputs, empty_batch(max_length), True)["params"],
        }
        if len(features) > 1:
            params["join"] = jnp.zeros((len(features) * config.dim, config.dim))
        return zero_padding_rows(per_item, uniform_params(uniform_key, params, config.dim), items)

    network = Network(
        init,
        item_tables,
        session_embeddings,
        items,
        config.dim,
        per_item,
        Reads(features=features),
        layout=PREFIX,
        grouped_by=features,
    )
    return network, views
