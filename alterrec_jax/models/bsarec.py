"""BSARec (Shin et al., AAAI 2024): a Transformer in each of whose blocks a low-pass filter stands beside the attention.

A prefix is a row of exactly L columns that ends with its last item, pads before it. With h the row, M the projection on
its lowest frequencies (`nn.frequency`) and b learned, a block is

    F = LN(h + D(M h + b^2 * (h - M h))),  G = LN(h + D(attention of h)),  u = alpha F + (1 - alpha) G
    h' = LN(u + D(W_2 GELU(W_1 u)))

and the session vector is the last column of the last block. Its input is LN(x + the vector of the column). Scores are
dot products with the raw item table.

As in the released code, what is seen depends on the padding: pads have a vector, the filter is circular and mixes them
with the items, and a pad attends to all L columns, where an item attends to the items up to itself. (There, -10,000 is
added to scores that are masked, which cancels where a row has no other; we leave the mask of such a row out, which is
the same but for the rounding of such sums.) The vector of the pad is learned as that of an item that never comes: from
the softmax alone.

`padding="none"` is a variant of ours, without pads: a prefix of n items is filtered by the projection of length n, and
as it needs no row of its own, several share one. The last item still has the last column's vector.

Departures: the paper's coefficient is b, the released code's b^2; the code is followed. The pad is a class in training
only, and no candidate afterwards; the authors rank it, too. They also train on the empty prefix, a row of pads, which
is left out, and on the last L items of a user; here each prefix has its own last L.
"""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from alterrec_jax.config import OptimizerConfig, RunConfig, require_divisor, setting
from alterrec_jax.contract import (
    PREFIX,
    CatalogueInfo,
    Context,
    ItemTables,
    Network,
    Objective,
    Params,
    SessionBatch,
    System,
    at_prefixes,
)
from alterrec_jax.hard_negatives.sets import WholeCatalogue
from alterrec_jax.losses.objectives import NEXT_ITEM, embed
from alterrec_jax.losses.softmax import sampled_softmax_loss
from alterrec_jax.losses.streamed import log_sum_exp
from alterrec_jax.models.registry import register
from alterrec_jax.models.single import single_network_system
from alterrec_jax.nn.frequency import FilteredRow, FilteredTransformer, low_pass, low_pass_by_length
from alterrec_jax.nn.item_tables import START, learned_items
from alterrec_jax.nn.segments import causal_mask, right_aligned, same_segment
from alterrec_jax.nn.transformer import TransformerSettings, recbole_transformer
from alterrec_jax.numerics import product
from alterrec_jax.sharding.lookup import lookup
from alterrec_jax.sharding.per_item import zero_padding_rows

OFFICIAL, NONE = "official", "none"


@dataclasses.dataclass(frozen=True)
class BSARecNetworkConfig(OptimizerConfig):
    """The network; defaults are those of the released code."""

    padding: str = setting(
        OFFICIAL,
        "official: a prefix is padded to max_length, as released; none: it is filtered at its own length (ours)",
        choices=(OFFICIAL, NONE),
    )
    dim: int = setting(64, "width d of item and session embeddings", low=1)
    layers: int = setting(2, "blocks", low=1)
    heads: int = setting(2, "attention heads; a divisor of dim", low=1)
    alpha: float = setting(0.9, "weight of the filter in a block; the attention has the rest", low=0, high=1)
    cutoff: int = setting(
        3, "c: the filter keeps the lowest c // 2 + 1 frequencies, that of the mean among them", low=0
    )
    dropout: float = setting(0.5, "rate on the input and behind each sublayer", low=0, below=1)
    attention_dropout: float = setting(0.5, "rate on the attention weights", low=0, below=1)

    def transformer(self, dtype: str) -> TransformerSettings:
        """The attention and feed-forward layers of a block."""
        return recbole_transformer(self.layers, self.heads, self.dropout, self.attention_dropout, 4 * self.dim, dtype)


@register("bsarec", title="BSARec", paper="Shin et al., AAAI 2024", layout=PREFIX)
@dataclasses.dataclass(frozen=True)
class BSARecConfig(RunConfig):
    """BSARec."""

    batch_prefixes: int = setting(256, "prefixes a step", low=1)
    epochs: int = setting(200, "epochs in all", low=1)
    patience: int = setting(10, "stop after so many epochs without a better validation; 0: never", low=0)
    network: BSARecNetworkConfig = dataclasses.field(default_factory=BSARecNetworkConfig)

    def check(self) -> "BSARecConfig":
        """As `RunConfig.check`."""
        super().check()
        require_divisor("network.heads", self.network.heads, "network.dim", self.network.dim)
        return self

    def build(self, catalogue: CatalogueInfo) -> System:
        """The system, for a catalogue."""
        network = build_network(self.network, catalogue.items, self.max_length, self.precision)
        objective = softmax_with_pad("bsarec", network) if self.network.padding == OFFICIAL else None
        return single_network_system("bsarec", network, self.network, self.epochs, objective=objective)


def build_network(config: BSARecNetworkConfig, items: int, max_length: int, dtype: str) -> Network:
    """The pure functions of BSARec."""
    of_items, per_item, padded = learned_items(items, config.dim), ("items/table",), config.padding == OFFICIAL
    # Of the last block nobody reads more than the prefixes' ends, which stand in one column if rows are padded.
    last = 1 if padded else max_length
    encoder = FilteredTransformer(config.transformer(dtype), max_length, config.alpha, last)

    def item_tables(params: Params, context: Context, key: jax.Array | None = None) -> ItemTables:
        return ItemTables(of_items.embed(params["items"], context, key))

    def session_embeddings(
        params: Params, tables: ItemTables, batch: SessionBatch, key: jax.Array | None = None
    ) -> jax.Array:
        if padded:
            rows, axes = _padded_rows(tables.inputs, params["pad"], batch, config.cutoff)
        else:
            rows, axes = _packed_rows(tables.inputs, batch, config.cutoff)

        def of_row(row: FilteredRow) -> jax.Array:
            # By the row's number, so that dropout does not depend on where the mesh puts rows of padding.
            rngs = {} if key is None else {"dropout": jax.random.fold_in(key, row.number)}
            found = encoder.apply({"params": params["encoder"]}, row, key is None, rngs=rngs)
            return found.astype(dtype)  # type: ignore[union-attr]

        hidden = jax.vmap(of_row, (axes,))(rows)
        return hidden[:, 0] if padded else at_prefixes(hidden, batch)

    def init(key: jax.Array, context: Context) -> Params:
        table_key, pad_key, encoder_key = jax.random.split(key, 3)
        columns, square = jnp.arange(max_length), jnp.ones((max_length, max_length))
        row = FilteredRow(jnp.zeros((max_length, config.dim)), columns, square, square.astype(bool), 0)
        params = {
            "items": of_items.init(table_key, context),
            "encoder": encoder.init(encoder_key, row, True)["params"],
        }
        pad = {"pad": START * jax.random.normal(pad_key, (config.dim,))} if padded else {}
        return zero_padding_rows(per_item, params | pad, items)

    return Network(init, item_tables, session_embeddings, items, config.dim, per_item, layout=PREFIX)


def _padded_rows(table: jax.Array, pad: jax.Array, batch: SessionBatch, cutoff: int) -> tuple[FilteredRow, FilteredRow]:
    """A row for each prefix, and along which axis the arrays have one: None where all rows share them."""
    items, is_item, number = right_aligned(batch)
    length = items.shape[1]
    inputs = jnp.where(is_item[:, :, None], lookup(table, items), jax.lax.stop_gradient(pad)[None, None])
    mask = (np.tri(length, dtype=bool)[None] & is_item[:, None, :]) | ~is_item[:, :, None]
    low = jnp.asarray(low_pass(length, cutoff), table.dtype)
    return FilteredRow(inputs, jnp.arange(length), low, mask, number), FilteredRow(0, None, None, 0, 0)


def _packed_rows(table: jax.Array, batch: SessionBatch, cutoff: int) -> tuple[FilteredRow, FilteredRow]:
    """The rows as they are, several prefixes in each, whose last items have the last column; as `_padded_rows`."""
    rows, length = batch.items.shape
    together = same_segment(batch)
    lengths = jnp.sum(together, axis=2, dtype=jnp.int32)
    columns = jnp.minimum(length - lengths + batch.positions, length - 1)
    apart = np.arange(length)[:, None] - np.arange(length)[None] + length - 1
    filters = jnp.asarray(low_pass_by_length(length, cutoff), table.dtype)
    low = jnp.where(together, filters[lengths[:, :, None], apart[None]], 0)
    row = FilteredRow(lookup(table, batch.items), columns, low, causal_mask(batch), jnp.arange(rows))
    return row, FilteredRow(0, 0, 0, 0, 0)


def softmax_with_pad(name: str, network: Network) -> Objective:
    """Cross-entropy over the whole catalogue and the pad, an item that never comes."""

    def loss(
        params: Mapping[str, Params], context: Context, batch: SessionBatch, key: jax.Array, mined: None
    ) -> dict[str, jax.Array]:
        del mined
        table, queries = embed(network, params[name], context, batch, key)
        others = log_sum_exp(queries, table, WholeCatalogue(batch.targets), network.catalogue_size)
        of_pad = product(queries, params[name]["pad"], queries.dtype)
        of_targets = jnp.einsum("pd,pd->p", queries, lookup(table, batch.targets))
        losses = sampled_softmax_loss(of_targets, jnp.logaddexp(others, of_pad))
        return {NEXT_ITEM: jnp.sum(losses, where=batch.is_target)}

    return Objective(loss)
