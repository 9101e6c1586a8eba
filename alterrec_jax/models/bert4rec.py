"""BERT4Rec (Sun et al., CIKM 2019): a bidirectional Transformer that fills gaps.

Some items of a session are replaced by MASK. Of what two post-LayerNorm blocks without a causal mask make of the
session, h, the head reads the masked places:

    g = LayerNorm(GELU(W h + b)),  y_v = g . E_v + b_v

with E the table that inputs are looked up in too. The loss is the mean cross-entropy over masked places
(`alterrec_jax.losses.cloze`): in each session a share `mask_rate` of them, or, in a share `mask_last` of sessions, the
last one alone. A prefix is ranked by what g is at a MASK behind its last item. The session vector is [g, 1], and
candidates are [E, b]: the bias is a column.

The paper writes the head without its LayerNorm; the released code has it.

Departures from the released code: masks are drawn anew in each step (there ten copies of a session are masked once, and
an eleventh at its end, hence 1/11); a session longer than a row is cut into halves that overlap, and each item masked
in one of them (there windows a tenth of a row apart, each masked whole); MASK stands behind up to max_length items (one
less there); the softmax has no special tokens; there is no segment vector, which is constant, no gradient clipping, no
warm-up and no linear fall of the learning rate; weight decay falls on biases and gains too; the validation items are
not trained on.

RecBole's version drops the first item of every prefix at test, so all prefixes of one item are one; it never learns a
session's first item, nor its last one in training. None of this is here.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from alterrec_jax.config import OptimizerConfig, RunConfig, require_divisor, setting
from alterrec_jax.contract import (
    PREFIX,
    WHOLE,
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
from alterrec_jax.losses.cloze import CLOZE, EncodeFn, MaskedSessions, cloze
from alterrec_jax.models.registry import register
from alterrec_jax.models.single import single_network_system
from alterrec_jax.models.unimodal import empty_batch, encoded
from alterrec_jax.nn.item_tables import START, ItemEncoder, learned_items
from alterrec_jax.nn.segments import aligned_at_end, with_end_tokens
from alterrec_jax.nn.transformer import TransformerEncoder, recbole_transformer
from alterrec_jax.numerics import layer_precision
from alterrec_jax.sharding import mesh
from alterrec_jax.sharding.lookup import lookup
from alterrec_jax.sharding.per_item import zero_padding_rows


@dataclasses.dataclass(frozen=True)
class ClozeConfig(OptimizerConfig):
    """How gaps are made, and the optimizer."""

    mask_rate: float = setting(0.6, "rho: the share of a session's items that is masked, one at least", above=0, high=1)
    mask_last: float = setting(1 / 11, "share of sessions of which the last item alone is masked", low=0, high=1)


@dataclasses.dataclass(frozen=True)
class BERT4RecNetworkConfig(ClozeConfig):
    """The network; defaults are the authors' for Amazon Beauty."""

    dim: int = setting(64, "width d of item and session embeddings", low=1)
    layers: int = setting(2, "Transformer blocks", low=1)
    heads: int = setting(2, "attention heads; a divisor of dim", low=1)
    inner: int = setting(256, "width of the feed-forward layers", low=1)
    dropout: float = setting(0.5, "rate inside the Transformer and on its input", low=0, below=1)
    attention_dropout: float = setting(0.2, "rate on its attention weights", low=0, below=1)
    learning_rate: float = setting(1e-4, "learning rate of Adam", above=0)
    weight_decay: float = setting(0.01, "decoupled weight decay (AdamW); 0: none", low=0)


@register("bert4rec", title="BERT4Rec", paper="Sun et al., CIKM 2019", layout=PREFIX)
@dataclasses.dataclass(frozen=True)
class BERT4RecConfig(RunConfig):
    """BERT4Rec."""

    batch_prefixes: int = setting(
        2048, "prefixes a step, rounded to whole rows; a session has one less than items", low=1
    )
    network: BERT4RecNetworkConfig = dataclasses.field(default_factory=BERT4RecNetworkConfig)

    def check(self) -> "BERT4RecConfig":
        """As `RunConfig.check`."""
        super().check()
        require_divisor("network.heads", self.network.heads, "network.dim", self.network.dim)
        return self

    def build(self, catalogue: CatalogueInfo) -> System:
        """The system, for a catalogue."""
        network, encode = build_network(self.network, catalogue.items, self.max_length, self.precision)
        return cloze_system("bert4rec", network, encode, self.network, self.epochs)


def cloze_system(name: str, network: Network, encode: EncodeFn, config: ClozeConfig, epochs: int) -> System:
    """A system of one network that fills gaps: whole sessions train it, and it reads prefixes."""
    objective = cloze(name, network, encode, config.mask_rate, config.mask_last)
    return single_network_system(name, network, config, epochs)._replace(
        objectives={CLOZE: lambda stage: objective},
        stages=(Stage((name,), CLOZE, epochs, name),),
        train_layout=WHOLE,
    )


def build_network(config: BERT4RecNetworkConfig, items: int, max_length: int, dtype: str) -> tuple[Network, EncodeFn]:
    """The pure functions of BERT4Rec, and what it makes of any sessions with hidden items."""
    dropout, attention_dropout = config.dropout, config.attention_dropout
    settings = recbole_transformer(config.layers, config.heads, dropout, attention_dropout, config.inner, dtype)
    encoder = ClozeEncoder(TransformerEncoder(settings, max_length + 1, causal=False))
    return cloze_network(learned_items(items, config.dim), encoder, items, config.dim, bias=True)


def cloze_network(
    of_items: ItemEncoder, encoder: "ClozeEncoder", items: int, dim: int, *, bias: bool
) -> tuple[Network, EncodeFn]:
    """The pure functions of an item encoder and one that fills gaps, and what they make of sessions with hidden items.

    Args:
      of_items: makes the items' embeddings, of width `dim`.
      encoder: fills gaps.
      items: how many can be recommended.
      dim: the width.
      bias: whether each item has a bias in its score.
    """
    # Of the longest row: a prefix, and MASK behind it.
    max_length, dtype = encoder.transformer.max_length - 1, encoder.transformer.settings.dtype
    per_item = (*(f"items/{path}" for path in of_items.per_item), *(("item_bias",) if bias else ()))

    def item_tables(params: Params, context: Context, key: jax.Array | None = None) -> ItemTables:
        table = of_items.embed(params["items"], context, key)
        if not bias:
            return ItemTables(table)
        candidates = jnp.concatenate([table, params["item_bias"]], axis=1)
        return ItemTables(mesh.with_sharding_constraint(candidates, mesh.ITEMS), table)

    def encode(params: Params, tables: ItemTables, sessions: MaskedSessions, key: jax.Array | None = None) -> jax.Array:
        inputs = lookup(tables.inputs, sessions.tokens.items)
        hidden: jax.Array = encoded(encoder, params["encoder"], inputs, sessions, key)
        if bias:
            hidden = jnp.pad(hidden, ((0, 0), (0, 0), (0, 1)), constant_values=1)
        return hidden.astype(dtype)

    def session_embeddings(
        params: Params, tables: ItemTables, batch: SessionBatch, key: jax.Array | None = None
    ) -> jax.Array:
        return at_prefixes(encode(params, tables, masked_behind(batch), key), batch)

    def init(key: jax.Array, context: Context) -> Params:
        table_key, encoder_key = jax.random.split(key)
        inputs = jnp.zeros((1, 2 * max_length, dim))
        params = {
            "items": of_items.init(table_key, context),
            "encoder": encoder.init(encoder_key, inputs, masked_behind(empty_batch(max_length)), True)["params"],
        }
        if bias:
            params["item_bias"] = jnp.zeros((mesh.padded(items, mesh.MODEL), 1))
        return zero_padding_rows(per_item, params, items)

    width = dim + 1 if bias else dim
    network = Network(init, item_tables, session_embeddings, items, width, per_item, of_items.reads, PREFIX)
    return network, encode


def masked_behind(batch: SessionBatch) -> MaskedSessions:
    """Prefixes with a MASK behind the last item of each, which is read at the place of that item."""
    tokens, shape = with_end_tokens(batch), batch.items.shape
    ends = jnp.broadcast_to(jnp.arange(shape[1], 2 * shape[1])[None], shape)
    visible = jnp.zeros(shape, bool)
    return MaskedSessions(tokens, jnp.concatenate([visible, ~visible], axis=1), ends, ~visible)


class ClozeEncoder(nn.Module):
    """The Transformer with MASK for hidden items, and the head.

    Attributes:
      transformer: bidirectional.
      head_norm: whether a LayerNorm stands behind the head.
      from_end: whether positions are counted so that the last token of every session has the last one.
    """

    transformer: TransformerEncoder
    head_norm: bool = True
    from_end: bool = False

    @nn.compact
    def __call__(self, inputs: jax.Array, sessions: MaskedSessions, deterministic: bool) -> jax.Array:
        """float32 [row, token, dim] -> float32 [row, place, dim]."""
        dim, given = inputs.shape[-1], self.transformer.settings
        mask = self.param("mask", nn.initializers.normal(given.init_stddev or START), (dim,))
        seen = jnp.where(sessions.masked[..., None], mask, inputs)
        tokens = aligned_at_end(sessions.tokens, self.transformer.max_length) if self.from_end else sessions.tokens
        hidden = self.transformer(seen, tokens, deterministic)
        read = jnp.take_along_axis(hidden, sessions.places[..., None], axis=1)
        mapped = nn.Dense(dim, name="head", **layer_precision(given.dtype), **given.kernels)(read)
        mapped = nn.gelu(mapped.astype(jnp.float32), approximate=False)
        return given.norm("head_norm")(mapped) if self.head_norm else mapped
