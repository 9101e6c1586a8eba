"""Atten-Mixer (Zhang et al., WSDM 2023): no graph and no recurrence; the last 1, 2 .. J items of a prefix each ask all
of it, and their attention is mixed.

With x_i = unit(dropout(unit(E_i))), zeros before the first item, and H heads that share the width:

    u_j  = Q_j [x_n ; .. ; x_{n-j+1}] + b_j for j = 1 .. J, each coordinate divided by its norm over the J levels
    a_ij = softmax over i of 2 sigmoid((W_0 u_j) . (W_1 x_i))              in each head
    w_i  = dropout(softmax over i of 2 (sum over j of a_ij^p)^(1/p))       in each head
    g = LayerNorm(sum of w_i W_2 x_i),  q = unit(W_t [g ; x_n]),  y_v = q . dropout(unit(E_v)) / temperature

It is the paper's model as its released code states it, without the two mistakes of that code: there W_0 u and W_1 x are
split into heads by a reshape that wants a transpose before it, so that the weight of a position is made from the key of
another one, which one depending on the longest session of the file; and the first softmax runs over padding too. Here
heads are parts of the width, and both softmaxes run over the prefix alone. There is no option for the mistakes.

Departures of the code from the paper that stand here: the items of a level are concatenated, in their order, where the
paper has deep sets, which know none; and the division is by the norm over levels, not over coordinates. So a single
level (J = 1) becomes signs, whose gradient is 0: it attends by what its Q_1 began as. Departure of ours: all prefixes
of a session share the dropout of their inputs, which falls on positions (theirs on the distinct items of a prefix).
Their program takes the test set for validation and does not shuffle; here validation chooses.
"""

import dataclasses

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
    SessionBatch,
    System,
    at_prefixes,
)
from alterrec_jax.models.registry import register
from alterrec_jax.models.single import single_network_system
from alterrec_jax.models.unimodal import empty_batch, encoded, uniform_params
from alterrec_jax.nn.item_tables import learned_items
from alterrec_jax.nn.segments import causal_mask
from alterrec_jax.nn.vectors import dropout, unit
from alterrec_jax.numerics import layer_precision, product
from alterrec_jax.sharding import mesh
from alterrec_jax.sharding.lookup import lookup
from alterrec_jax.sharding.per_item import zero_padding_rows

_SHARPNESS = 2.0  # what both softmaxes multiply by, in the released code


@dataclasses.dataclass(frozen=True)
class AttenMixerNetworkConfig(OptimizerConfig):
    """The network; defaults are the authors'."""

    dim: int = setting(256, "width d of item and session embeddings", low=1)
    levels: int = setting(7, "J: queries are made of the last 1 .. J items", low=1)
    heads: int = setting(8, "attention heads; a divisor of dim", low=1)
    power: int = setting(4, "p of the norm that mixes the levels' attention", low=1, high=8)
    item_dropout: float = setting(
        0.1, "rate on the items' vectors: inputs, and by another mask candidates", low=0, below=1
    )
    attention_dropout: float = setting(0.1, "rate on the mixed attention weights", low=0, below=1)
    temperature: float = setting(1 / 16, "cosines are divided by it", above=0)
    l2: float = setting(1e-5, "L2 added to the gradient before Adam (PyTorch's weight_decay); 0: none", low=0)
    decay_every: int = setting(3, "epochs after which the learning rate is multiplied by decay_factor; 0: never", low=0)


@register("atten_mixer", title="Atten-Mixer", paper="Zhang et al., WSDM 2023", layout=PACKED)
@dataclasses.dataclass(frozen=True)
class AttenMixerConfig(RunConfig):
    """Atten-Mixer."""

    batch_prefixes: int = setting(100, "prefixes a step, rounded to whole rows", low=1)
    epochs: int = setting(10, "epochs in all", low=1)
    patience: int = setting(3, "stop after so many epochs without a better validation; 0: never", low=0)
    network: AttenMixerNetworkConfig = dataclasses.field(default_factory=AttenMixerNetworkConfig)

    def check(self) -> "AttenMixerConfig":
        """As `RunConfig.check`."""
        super().check()
        require_divisor("network.heads", self.network.heads, "network.dim", self.network.dim)
        return self

    def build(self, catalogue: CatalogueInfo) -> System:
        """The system, for a catalogue."""
        network = build_network(self.network, catalogue.items, self.max_length, self.precision)
        return single_network_system("atten_mixer", network, self.network, self.epochs)


def build_network(config: AttenMixerNetworkConfig, items: int, max_length: int, dtype: str) -> Network:
    """The pure functions of Atten-Mixer."""
    of_items, encoder = learned_items(items, config.dim), AttentionMixer(config, dtype)
    per_item = ("items/table",)

    def item_tables(params: Params, context: Context, key: jax.Array | None = None) -> ItemTables:
        table = mesh.with_sharding_constraint(unit(of_items.embed(params["items"], context)), mesh.ITEMS)
        if key is None:
            return ItemTables(table)
        return ItemTables(mesh.with_sharding_constraint(dropout(key, table, config.item_dropout), mesh.ITEMS), table)

    def session_embeddings(
        params: Params, tables: ItemTables, batch: SessionBatch, key: jax.Array | None = None
    ) -> jax.Array:
        inputs = lookup(tables.inputs, batch.items)
        queries: jax.Array = encoded(encoder, params["encoder"], inputs, batch, key)
        return at_prefixes((queries / config.temperature).astype(dtype), batch)

    def init(key: jax.Array, context: Context) -> Params:
        table_key, encoder_key, uniform_key = jax.random.split(key, 3)
        inputs = jnp.zeros((1, max_length, config.dim))
        params = {
            "items": of_items.init(table_key, context),
            "encoder": encoder.init(encoder_key, inputs, empty_batch(max_length), True)["params"],
        }
        return zero_padding_rows(per_item, uniform_params(uniform_key, params, config.dim), items)

    return Network(init, item_tables, session_embeddings, items, config.dim, per_item)


class AttentionMixer(nn.Module):
    """The session vector of each prefix."""

    config: AttenMixerNetworkConfig
    dtype: str

    @nn.compact
    def __call__(self, inputs: jax.Array, batch: SessionBatch, deterministic: bool) -> jax.Array:
        """float32 [row, position, dim] -> float32 [row, position, dim], of length 1; junk where a row holds no item."""
        config, exact, dim = self.config, layer_precision(self.dtype), inputs.shape[-1]
        inputs = unit(nn.Dropout(config.item_dropout)(inputs, deterministic=deterministic))

        def split(name: str, vectors: jax.Array) -> jax.Array:
            mapped = nn.Dense(dim, name=name, **exact)(vectors).astype(jnp.float32)
            return mapped.reshape(*mapped.shape[:-1], config.heads, dim // config.heads)

        queries = split("query", unit(LastItems(config.levels, self.dtype, name="levels")(inputs, batch), axis=-2))
        keys, values = split("key", inputs), split("value", inputs)
        affinity = jax.nn.sigmoid(jnp.einsum("rqjhe,rkhe->rhjqk", queries, keys, precision="highest"))
        weights = mixed_weights(affinity, causal_mask(batch), config.power)
        weights = nn.Dropout(config.attention_dropout)(weights, deterministic=deterministic)
        pooled = jnp.einsum("rhqk,rkhe->rqhe", weights, values, precision="highest").reshape(inputs.shape)
        pooled = nn.LayerNorm(1e-8, use_fast_variance=False, name="norm")(pooled)
        read = jnp.concatenate([pooled, inputs], axis=-1)
        return unit(nn.Dense(dim, name="output", **exact)(read).astype(jnp.float32))


def mixed_weights(affinity: jax.Array, visible: jax.Array, power: int) -> jax.Array:
    """float32 [row, head, query position, key position]: over the keys of each prefix their sum is 1.

    Args:
      affinity: float32 [row, head, level, query position, key position], between 0 and 1.
      visible: bool [row, query position, key position], which keys belong to the prefix.
      power: p of the norm over levels.
    """
    of_levels = jax.nn.softmax(jnp.where(visible[:, None, None], _SHARPNESS * affinity, -1e9), axis=-1)
    # A root has no gradient at 0, where the keys are that do not belong to the prefix.
    total = jnp.where(visible[:, None], jnp.sum(of_levels**power, axis=2), 1.0)
    return jax.nn.softmax(jnp.where(visible[:, None], _SHARPNESS * total ** (1 / power), -1e9), axis=-1)


class LastItems(nn.Module):
    """u_1 .. u_J of each prefix, by one product: each item is mapped for all levels and places in which it will stand.

    The kernel's columns are J blocks for the last item of a prefix, one a level, then J - 1 for the one before it,
    which level 1 does not see, and so on: J (J + 1) / 2 blocks in all.
    """

    levels: int
    dtype: str

    @nn.compact
    def __call__(self, inputs: jax.Array, batch: SessionBatch) -> jax.Array:
        """float32 [row, position, dim] -> float32 [row, position, level, dim], not normalised."""
        levels, (rows, length, dim) = self.levels, inputs.shape
        blocks = levels * (levels + 1) // 2
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (dim, blocks * dim))
        bias = self.param("bias", nn.initializers.zeros, (levels, dim))
        mapped = product(inputs, kernel, self.dtype).reshape(rows, length, blocks, dim)
        found, first = jnp.broadcast_to(bias, (rows, length, levels, dim)), 0
        for back in range(min(levels, length)):
            of_place = mapped[:, : length - back, first : first + levels - back]
            moved = jnp.pad(of_place, ((0, 0), (back, 0), (back, 0), (0, 0)))
            found += jnp.where((batch.positions >= back)[:, :, None, None], moved, 0.0)
            first += levels - back
        return found
