"""CoHHN (Zhang et al., SIGIR 2022): what a session likes and what it pays, each read with the other in mind.

Items, price levels (`data.price_levels`) and categories have learned rows, which some layers mix with each other and
with the sessions of training (`nn.hypergraph`). They make an item's v and its level's u. Of a prefix of n items:

    p = multi-head self-attention over its u, read at the last item; biased queries, keys and values, no output map
    i = sum of b_t v_t,  b_t = w_2 . sigmoid(G_1 tanh(W_1 [e_(n-t) ; v_t]) + G_2 (mean of its v)) + c

with position embeddings e that count from the last item, 0. Both halves then guide each other (* is elementwise):

    a = tanh(P_1 (p * i)),  b = tanh(P_2 (p + i)),  r_i = sigmoid(C_1 a + J_1 b),  r_p = sigmoid(C_2 a + J_2 b)
    m_p = tanh(W_p (r_p * p) + U_p ((1 - r_p) * i)),  m_i = tanh(W_i (r_i * i) + U_i ((1 - r_i) * p))
    q = [(i + m_p) * m_i ; (p + m_i) * m_p],  y_j = q . [v_j ; u_(level of j)]

The loss is the softmax over the catalogue. Needs prices, of half of the catalogue's items at least unless
`sparse_prices`. Level 0, where nobody knows, and the unknown category have learned rows like others. Without
categories all items are of one, and levels are among all prices.

This is the released forward pass, whose a_r (`nn.hypergraph`) is one number a row, where the paper has a vector. Its
mistakes are not kept: a softmax over all nodes, before those that are no members are left out, may underflow; prices,
categories and levels are counted over held-out sessions, too; dropout is on in the first epoch only; the best epoch is
chosen on test, for each metric another. Departures besides: biases that only ever add up are one; items whose level is
unknown stay (they are dropped there); every prefix of a session is learned, not the longest alone. The graph holds what
training sessions have before their last item, and so all but the last of the transitions that are to be predicted.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from alterrec_jax.config import OptimizerConfig, RunConfig, require_divisor, setting
from alterrec_jax.contract import (
    PACKED,
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
from alterrec_jax.data.price_levels import RELATIVE_PRICE, price_levels, require_prices
from alterrec_jax.models.registry import register
from alterrec_jax.models.single import halves_of, single_network_system
from alterrec_jax.models.unimodal import empty_batch, uniform_params
from alterrec_jax.nn.causal_attention import CausalAttention
from alterrec_jax.nn.hypergraph import HypergraphLayers
from alterrec_jax.nn.item_tables import learned_items
from alterrec_jax.nn.segments import recent, recent_mask
from alterrec_jax.numerics import layer_precision
from alterrec_jax.sharding import mesh
from alterrec_jax.sharding.lookup import lookup
from alterrec_jax.sharding.per_item import zero_padding_rows

GRAPH, CATEGORY = "session_hypergraph", "category"


@dataclasses.dataclass(frozen=True)
class CoHHNNetworkConfig(OptimizerConfig):
    """The network; defaults are those of the released code for its first dataset, groceries."""

    dim: int = setting(128, "width d of an item's and of a price's embedding; scores are of twice the width", low=1)
    levels: int = setting(50, "K: into how many levels the prices of a category are cut", low=1)
    layers: int = setting(2, "layers that mix items, prices, categories and sessions", low=1)
    heads: int = setting(4, "attention heads over the prices of a session; a divisor of dim", low=1)
    gate_dropout: float = setting(0.5, "rate on what a gate makes of a row and two others", low=0, below=1)
    mean_dropout: float = setting(0.7, "rate on means of the rows that belong to a level or category", low=0, below=1)
    attention_dropout: float = setting(0.2, "rate on attention weights", low=0, below=1)
    sparse_prices: bool = setting(False, "whether to train where fewer than half of the items have a price")


@register("cohhn", title="CoHHN", paper="Zhang et al., SIGIR 2022", needs="prices; categories help", layout=PACKED)
@dataclasses.dataclass(frozen=True)
class CoHHNConfig(RunConfig):
    """CoHHN."""

    batch_prefixes: int = setting(100, "prefixes a step, rounded to whole rows", low=1)
    max_length: int = setting(20, "items of a session that are seen, the latest", low=1)
    epochs: int = setting(20, "epochs in all", low=1)
    network: CoHHNNetworkConfig = dataclasses.field(default_factory=CoHHNNetworkConfig)

    def check(self) -> "CoHHNConfig":
        """As `RunConfig.check`."""
        super().check()
        require_divisor("network.heads", self.network.heads, "network.dim", self.network.dim)
        return self

    def build(self, catalogue: CatalogueInfo) -> System:
        """The system, for a catalogue.

        Raises:
          UserError: too few items have a price.
        """
        require_prices(catalogue, "cohhn", "network.sparse_prices", self.network.sparse_prices)
        network = build_network(self.network, catalogue, self.max_length, self.precision)
        notes = () if CATEGORY in catalogue.classes else (WITHOUT_CATEGORIES,)
        parts = halves_of(network, (INTEREST, PRICE))
        return single_network_system("cohhn", network, self.network, self.epochs, parts=parts, notes=notes)


INTEREST, PRICE = "interest", "price"
"""The views of both halves of a score: items by themselves, and the levels of their prices."""

WITHOUT_CATEGORIES = (
    "cohhn: the items have no categories, so that all are of one and price levels are among all prices; "
    "--category_column of preparation brings them"
)


def build_network(config: CoHHNNetworkConfig, catalogue: CatalogueInfo, max_length: int, dtype: str) -> Network:
    """The pure functions of CoHHN."""
    items, dim, categories = catalogue.items, config.dim, catalogue.classes.get(CATEGORY, 1)
    of_items = learned_items(items, dim)
    encoder = SessionEncoder(max_length, config.heads, config.attention_dropout, dtype)
    rates = config.gate_dropout, config.mean_dropout
    layers = HypergraphLayers(config.layers, config.levels + 2, categories, *rates, dtype)
    per_item, categorized = ("items/table",), CATEGORY in catalogue.classes

    def known(context: Context) -> tuple[jax.Array, jax.Array]:
        """int32 [item] twice, levels and categories."""
        level = price_levels(context.features[RELATIVE_PRICE], config.levels)
        category = context.features[CATEGORY] if categorized else jnp.zeros_like(level)
        return level[:items], category[:items]

    def everywhere(array: jax.Array) -> jax.Array:
        return mesh.with_sharding_constraint(array, mesh.REPLICATED)

    def item_tables(params: Params, context: Context, key: jax.Array | None = None) -> ItemTables:
        table = of_items.embed(params["items"], context)
        # Every device computes all of it, for a session or a level may hold any item. What goes in and out must say so:
        # XLA adds up a row of padding, too, where it divides the sums over a level among devices.
        rows, level, category = (everywhere(array) for array in (table[:items], *known(context)))
        rngs, graph = {} if key is None else {"dropout": key}, context.graphs[GRAPH]
        found: Any = layers.apply({"params": params["layers"]}, rows, level, category, graph, key is None, rngs=rngs)
        both = everywhere(jnp.concatenate([found[0], found[1][level]], axis=1))
        padded = jnp.pad(both, ((0, len(table) - items), (0, 0)))
        return ItemTables(mesh.with_sharding_constraint(padded, mesh.ITEMS))

    def session_embeddings(
        params: Params, tables: ItemTables, batch: SessionBatch, key: jax.Array | None = None
    ) -> jax.Array:
        liked, paid = jnp.split(lookup(tables.inputs, batch.items), 2, axis=-1)
        rngs = {} if key is None else {"dropout": key}
        queries: Any = encoder.apply({"params": params["encoder"]}, liked, paid, batch, key is None, rngs=rngs)
        return at_prefixes(queries.astype(dtype), batch)

    def init(key: jax.Array, context: Context) -> Params:
        table_key, layers_key, encoder_key, uniform_key = jax.random.split(key, 4)
        inputs = jnp.zeros((1, max_length, dim))
        nodes = jnp.zeros((items, dim)), *known(context), context.graphs[GRAPH]
        params = {
            "items": of_items.init(table_key, context),
            "layers": layers.init(layers_key, *nodes, True)["params"],
            "encoder": encoder.init(encoder_key, inputs, inputs, empty_batch(max_length), True)["params"],
        }
        return zero_padding_rows(per_item, uniform_params(uniform_key, params, dim), items)

    of_classes = ("categories", "category_prices", "category_items") if categorized else ()
    return Network(
        init,
        item_tables,
        session_embeddings,
        items,
        2 * dim,
        per_item,
        Reads(features=(RELATIVE_PRICE, CATEGORY) if categorized else (RELATIVE_PRICE,), graphs=(GRAPH,)),
        per_class={f"layers/{name}": CATEGORY for name in of_classes},
    )


class SessionEncoder(nn.Module):
    """What a session likes, what it pays, and both guided by each other."""

    max_length: int
    heads: int
    attention_dropout: float
    dtype: str

    @nn.compact
    def __call__(self, liked: jax.Array, paid: jax.Array, batch: SessionBatch, deterministic: bool) -> jax.Array:
        """float32 [row, position, dim], v of items and u of their levels -> float32 [row, position, 2 dim]."""
        dim, exact = liked.shape[-1], layer_precision(self.dtype)

        def dense(name: str, values: jax.Array, bias: bool = True) -> jax.Array:
            return nn.Dense(dim, use_bias=bias, name=name, **exact)(values).astype(jnp.float32)

        def dense_of_both(name: str, first: jax.Array, second: jax.Array) -> jax.Array:
            return dense(f"{name}_first", first) + dense(f"{name}_second", second, bias=False)

        attention = CausalAttention(self.heads, self.attention_dropout, self.dtype, name="price")
        price = attention(paid, batch, deterministic)
        interest = Interest(self.max_length, self.dtype, name="interest")(liked, batch)
        product = jnp.tanh(dense("product", price * interest))
        total = jnp.tanh(dense("sum", price + interest))
        keep_interest = jax.nn.sigmoid(dense_of_both("keep_interest", product, total))
        keep_price = jax.nn.sigmoid(dense_of_both("keep_price", product, total))
        of_price = jnp.tanh(dense_of_both("of_price", keep_price * price, (1 - keep_price) * interest))
        of_interest = jnp.tanh(dense_of_both("of_interest", keep_interest * interest, (1 - keep_interest) * price))
        return jnp.concatenate([(interest + of_price) * of_interest, (price + of_interest) * of_price], axis=-1)


class Interest(nn.Module):
    """i, of every prefix."""

    window: int
    dtype: str

    @nn.compact
    def __call__(self, liked: jax.Array, batch: SessionBatch) -> jax.Array:
        """float32 [row, position, dim] -> the same."""
        dim, exact = liked.shape[-1], layer_precision(self.dtype)
        among = recent_mask(batch, self.window).astype(jnp.float32)  # [row, position, age]
        latest = recent(liked, self.window)  # [row, position, age, dim]

        def dense(name: str, bias: bool = False, width: int = dim) -> nn.Dense:
            return nn.Dense(width, use_bias=bias, name=name, **exact)

        def pooled(weights: jax.Array) -> jax.Array:
            return jnp.einsum("rpa,rpad->rpd", weights * among, latest, precision="highest")

        mean = pooled(1 / jnp.maximum(jnp.sum(among, axis=2, keepdims=True), 1))
        ages = self.param("ages", nn.initializers.normal(0.02), (self.window, dim))
        # W_1 [e ; v] as two products, each of fewer rows than there are pairs of position and age.
        mapped = recent(dense("items", bias=True)(liked), self.window) + dense("of_ages")(ages)[None, None]
        gate = jax.nn.sigmoid(dense("gate", bias=True)(jnp.tanh(mapped)) + dense("gate_of_mean")(mean)[:, :, None])
        return pooled(dense("weight", bias=True, width=1)(gate)[..., 0].astype(jnp.float32))
