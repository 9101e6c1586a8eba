"""FDSA (Zhang et al., IJCAI 2019): one Transformer over a session's items, one over what is known of them.

With e the learned rows of a prefix's items, g the vectors of their features (`nn.item_fields`), p learned positions, N
one LayerNorm and D dropout,

    h_I = T_I(D N(e + p)),  h_F = T_F(D N(g + p)),  q = D N(W [h_I ; h_F] + b)

where T are causal Transformers of the same shape, read at the last item. Positions and N are the same wherever they
stand. Scores are dot products with the raw item table; features stand on the side of the session alone, so an item
that was not in training cannot be recommended. The loss is the softmax over the catalogue.

The blocks are RecBole's (post-LayerNorm, GELU), as are the settings; the paper has those of SASRec, and one sampled
negative with binary cross-entropy. Features are one or several of the items' text, category, brand and attributes. Of
texts alone this is the variant of UniSRec's authors, relu(W v + b), which AlterRec's paper compares with.

Departures: a field that an item lacks has no weight in the attention, and an item without any has g = 0 (in RecBole
"unknown" is a value like others, and no value of a list a row of zeros that is weighed, too). Vectors of unit length
are multiplied by sqrt(width) before W, which then learns at the rate of other weights.

`text="random"`: the released variant draws the rows of every embedding anew when it begins, those with the text vectors
too, and freezes these: it never sees a text, nor did FDSA in AlterRec's paper, which is this variant. Here the same is
a choice, for comparison: fixed random vectors in place of the text's, a row an item.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from alterrec_jax.config import OptimizerConfig, RunConfig, require, require_divisor, setting
from alterrec_jax.contract import (
    PACKED,
    CatalogueInfo,
    Context,
    ItemTables,
    Network,
    Params,
    SessionBatch,
    Stage,
    System,
    at_prefixes,
)
from alterrec_jax.models.registry import register
from alterrec_jax.models.single import FULL, single_network_system
from alterrec_jax.models.unimodal import empty_batch
from alterrec_jax.nn.item_fields import RANDOM, item_fields
from alterrec_jax.nn.item_tables import learned_items
from alterrec_jax.nn.transformer import TransformerBlocks, TransformerSettings, recbole_transformer
from alterrec_jax.numerics import layer_precision
from alterrec_jax.sharding.lookup import lookup
from alterrec_jax.sharding.per_item import zero_padding_rows

REAL = "real"


@dataclasses.dataclass(frozen=True)
class FDSANetworkConfig(OptimizerConfig):
    """The network; defaults are RecBole's."""

    features: tuple[str, ...] = setting(
        ("text",),
        "what the second Transformer reads of an item, one or several; what the dataset lacks is left out",
        choices=("text", "category", "brand", "attributes"),
    )
    text: str = setting(
        REAL, "the text's vectors, or fixed random ones in their place (released code)", choices=(REAL, RANDOM)
    )
    random_width: int = setting(384, "width of random vectors; the text encoder's is 384", low=1)
    dim: int = setting(64, "width d of item and session embeddings", low=1)
    layers: int = setting(2, "blocks of each Transformer", low=1)
    heads: int = setting(2, "attention heads; a divisor of dim", low=1)
    inner: int = setting(256, "width of the feed-forward layers", low=1)
    dropout: float = setting(
        0.5, "rate inside the Transformers, on their inputs and on what is made of both", low=0, below=1
    )
    attention_dropout: float = setting(0.5, "rate on attention weights", low=0, below=1)


@register(
    "fdsa",
    title="FDSA",
    paper="Zhang et al., IJCAI 2019",
    needs="text, category, brand or attributes",
    layout=PACKED,
)
@dataclasses.dataclass(frozen=True)
class FDSAConfig(RunConfig):
    """FDSA."""

    batch_prefixes: int = setting(2048, "prefixes a step, rounded to whole rows", low=1)
    epochs: int = setting(300, "epochs in all", low=1)
    patience: int = setting(10, "stop after so many epochs without a better validation; 0: never", low=0)
    network: FDSANetworkConfig = dataclasses.field(default_factory=FDSANetworkConfig)

    def check(self) -> "FDSAConfig":
        """As `RunConfig.check`."""
        super().check()
        part = self.network
        require_divisor("network.heads", part.heads, "network.dim", part.dim)
        once = len(set(part.features)) == len(part.features) > 0
        require(once, "network.features", part.features, "at least one feature, each named once")
        with_text = part.text == REAL or "text" in part.features
        require(with_text, "network.text", part.text, f"{REAL} where text is not among network.features")
        return self

    def build(self, catalogue: CatalogueInfo) -> System:
        """The system, for a catalogue."""
        name = "fdsa"
        network = build_network(self.network, catalogue, self.max_length, self.precision)
        fixed = (f"{name}/features/{RANDOM}",) if self.network.text == RANDOM else ()
        stage = Stage((name,), FULL, self.epochs, name, frozen=fixed)
        return single_network_system(name, network, self.network, self.epochs)._replace(stages=(stage,))


def build_network(config: FDSANetworkConfig, catalogue: CatalogueInfo, max_length: int, dtype: str) -> Network:
    """The pure functions of FDSA."""
    of_items = learned_items(catalogue.items, config.dim)
    width = config.random_width if config.text == RANDOM else 0
    of_features = item_fields(config.features, catalogue, config.dim, precision=dtype, random_width=width)
    encoder = TwoStreams(
        recbole_transformer(config.layers, config.heads, config.dropout, config.attention_dropout, config.inner, dtype),
        max_length,
    )
    per_item = ("items/table", *(f"features/{path}" for path in of_features.per_item))

    def item_tables(params: Params, context: Context, key: jax.Array | None = None) -> ItemTables:
        table = of_items.embed(params["items"], context, key)
        return ItemTables(table, (table, of_features.known(params["features"], context)))

    def session_embeddings(
        params: Params, tables: ItemTables, batch: SessionBatch, key: jax.Array | None = None
    ) -> jax.Array:
        ids, known = jax.tree.map(lambda rows: lookup(rows, batch.items), tables.inputs)
        features = of_features.embed(params["features"], known)
        rngs = {} if key is None else {"dropout": key}
        found = encoder.apply({"params": params["encoder"]}, ids, features, batch, key is None, rngs=rngs)
        return at_prefixes(found.astype(dtype), batch)  # type: ignore[union-attr]

    def init(key: jax.Array, context: Context) -> Params:
        table_key, features_key, encoder_key = jax.random.split(key, 3)
        hidden = jnp.zeros((1, max_length, config.dim))
        params = {
            "items": of_items.init(table_key, context),
            "features": of_features.init(features_key, context),
            "encoder": encoder.init(encoder_key, hidden, hidden, empty_batch(max_length), True)["params"],
        }
        return zero_padding_rows(per_item, params, catalogue.items)

    return Network(
        init,
        item_tables,
        session_embeddings,
        catalogue.items,
        config.dim,
        per_item,
        of_features.reads,
        per_class={f"features/{path}": feature for path, feature in of_features.per_class.items()},
    )


class TwoStreams(nn.Module):
    """The two Transformers, and what is made of both."""

    settings: TransformerSettings
    max_length: int

    @nn.compact
    def __call__(self, ids: jax.Array, features: jax.Array, batch: SessionBatch, deterministic: bool) -> jax.Array:
        """float32 [row, position, dim], from two of these."""
        given, dim = self.settings, ids.shape[-1]
        start = nn.initializers.normal(given.init_stddev)
        places = nn.Embed(self.max_length, dim, embedding_init=start, name="positions")(batch.positions)
        norm, drop = given.norm("norm"), nn.Dropout(given.dropout, deterministic=deterministic)
        streams = [
            TransformerBlocks(given, name=name)(drop(norm(rows + places)), batch, deterministic)
            for name, rows in (("ids", ids), ("features", features))
        ]
        join = nn.Dense(dim, name="join", **layer_precision(given.dtype), **given.kernels)
        return drop(norm(join(jnp.concatenate(streams, axis=-1)).astype(ids.dtype)))
