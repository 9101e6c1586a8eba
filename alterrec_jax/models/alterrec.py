"""AlterRec's two networks: one shape of session encoder, on an ID table and on a text table."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from alterrec_jax.blocks import rows_in_blocks
from alterrec_jax.config import AlterRecConfig, NetworkConfig
from alterrec_jax.models.encoders import MeanEncoder, TransformerEncoder
from alterrec_jax.models.item_tables import IdTable, TextTable
from alterrec_jax.models.network import Network, PackedRows, Params

_ROWS_AT_ONCE = 2**14  # items whose text passes through the MLP together


def build_networks(config: AlterRecConfig, items: int) -> dict[str, Network]:
    """The ID and the text network of a configuration, for a catalogue of so many items."""
    text = config.text
    id_table = IdTable(items, config.id.dim, config.id.item_norm)
    text_table = TextTable(
        dim=text.dim,
        dtype=config.precision,
        unit_variance=text.unit_variance,
        hidden=text.mlp_hidden,
        output_relu=text.mlp_output_relu,
        dropout=text.item_dropout,
        norm=text.item_norm,
    )
    return {
        "id": build_network(config.id, id_table, config.max_length, config.precision),
        "text": build_network(text, text_table, config.max_length, config.precision),
    }


def item_features(text_vectors: np.ndarray, precision: str) -> dict[str, jax.Array | None]:
    """What each network knows of the items: nothing, and their text vectors [item, d_text], of that precision."""
    return {"id": None, "text": jnp.asarray(text_vectors, precision)}


def build_network(config: NetworkConfig, item_table: nn.Module, max_length: int, dtype: str) -> Network:
    """Joins an item table and a session encoder into a `Network`.

    The table is called with the features, where there are any, and told whether dropout is off. `dtype` is that of
    what products take; session embeddings have it.
    """
    encoder = (
        MeanEncoder(config.dropout)
        if config.encoder == "mean"
        else TransformerEncoder(config.layers, config.heads, config.dropout, max_length, dtype)
    )

    def item_embeddings(params: Params, features: jax.Array | None, key: jax.Array | None = None) -> jax.Array:
        def of_rows(params: Params, rows: jax.Array | None, key: jax.Array | None) -> jax.Array:
            inputs: tuple[Any, ...] = () if rows is None else (rows, key is None)
            rngs = {} if key is None else {"dropout": key}
            return item_table.apply({"params": params}, *inputs, rngs=rngs)  # type: ignore[return-value]

        if features is None:
            return of_rows(params["items"], None, key)
        return rows_in_blocks(of_rows, params["items"], features, key, _ROWS_AT_ONCE)

    def session_embeddings(
        params: Params, table: jax.Array, rows: PackedRows, key: jax.Array | None = None
    ) -> jax.Array:
        rngs = {} if key is None else {"dropout": key}
        variables = {"params": params["encoder"]}
        hidden: jax.Array = encoder.apply(variables, table[rows.items], rows, key is None, rngs=rngs)  # type: ignore[assignment]
        return (hidden / config.temperature).astype(dtype)

    def init(key: jax.Array, features: jax.Array | None) -> Params:
        table_key, encoder_key, uniform_key = jax.random.split(key, 3)
        inputs: tuple[Any, ...] = () if features is None else (features[:1], True)  # their width alone matters
        one = jnp.zeros((1, max_length), jnp.int32)
        rows = PackedRows(one, one, one, one, one.astype(bool))
        params = {
            "items": item_table.init(table_key, *inputs)["params"],
            "encoder": encoder.init(encoder_key, jnp.zeros((1, max_length, config.dim)), rows, True).get("params", {}),
        }
        return _uniform(uniform_key, params, config.dim) if config.init == "uniform" else params

    return Network(init, item_embeddings, session_embeddings)


def _uniform(key: jax.Array, params: Params, dim: int) -> Params:
    """Every parameter, gains and biases included, uniform in +-1/sqrt(dim) (released code)."""
    leaves, tree = jax.tree.flatten(params)
    bound = dim**-0.5
    keys = jax.random.split(key, len(leaves))
    drawn = [jax.random.uniform(k, leaf.shape, leaf.dtype, -bound, bound) for k, leaf in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(tree, drawn)
