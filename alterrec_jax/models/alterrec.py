"""AlterRec's two networks: one shape of session encoder, on an ID table and on a text table."""

from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np

from alterrec_jax.config import AlterRecConfig, NetworkConfig
from alterrec_jax.contract import Network, PackedRows, Params
from alterrec_jax.nn.item_tables import ItemEncoder, id_items, text_items, without_padding
from alterrec_jax.nn.transformer import MeanEncoder, TransformerEncoder
from alterrec_jax.sharding import mesh
from alterrec_jax.sharding.lookup import lookup


def build_networks(config: AlterRecConfig, items: int) -> dict[str, Network]:
    """The ID and the text network of a configuration, for a catalogue of so many items."""
    of_items = {
        "id": id_items(items, config.id.dim, config.id.item_norm),
        "text": text_items(config.text, config.text, config.precision),
    }
    return {
        name: build_network(part, items, of_items[name], config.max_length, config.precision)
        for name, part in (("id", config.id), ("text", config.text))
    }


def item_features(
    text_vectors: np.ndarray, precision: str, networks: Iterable[str] = ("id", "text", "fused")
) -> dict[str, jax.Array | None]:
    """What each network knows of the items: nothing, or their text vectors [item, d_text], of that precision.

    The vectors are put on the devices only if one of the networks reads them, each device's items there.
    """
    networks = set(networks)
    vectors = mesh.put_rows(text_vectors, jnp.dtype(precision)) if networks != {"id"} else None
    return {name: None if name == "id" else vectors for name in networks}


def build_network(config: NetworkConfig, items: int, of_items: ItemEncoder, max_length: int, dtype: str) -> Network:
    """Joins an item encoder and a session encoder into a `Network`.

    Args:
      config: of the session encoder.
      items: how many there are.
      of_items: makes their embeddings, of the width that the configuration has.
      max_length: the longest prefix that the encoder sees.
      dtype: that of what products take; session embeddings have it.
    """
    encoder = (
        MeanEncoder(config.dropout)
        if config.encoder == "mean"
        else TransformerEncoder(config.layers, config.heads, config.dropout, max_length, dtype)
    )

    def item_embeddings(params: Params, features: jax.Array | None, key: jax.Array | None = None) -> jax.Array:
        return of_items.embed(params["items"], features, key)

    def session_embeddings(
        params: Params, table: jax.Array, rows: PackedRows, key: jax.Array | None = None
    ) -> jax.Array:
        rngs = {} if key is None else {"dropout": key}
        variables = {"params": params["encoder"]}
        hidden: jax.Array = encoder.apply(  # type: ignore[assignment]
            variables, lookup(table, rows.items), rows, key is None, rngs=rngs
        )
        return (hidden / config.temperature).astype(dtype)

    def init(key: jax.Array, features: jax.Array | None) -> Params:
        table_key, encoder_key, uniform_key = jax.random.split(key, 3)
        one = jnp.zeros((1, max_length), jnp.int32)
        rows = PackedRows(one, one, one, one, one.astype(bool))
        hidden = jnp.zeros((1, max_length, config.width))
        params = {
            "items": of_items.init(table_key, features),
            "encoder": encoder.init(encoder_key, hidden, rows, True).get("params", {}),
        }
        params = _uniform(uniform_key, params, config.width) if config.init == "uniform" else params
        return without_padding(params, items)

    return Network(init, item_embeddings, session_embeddings, items)


def _uniform(key: jax.Array, params: Params, dim: int) -> Params:
    """Every parameter, gains and biases included, uniform in +-1/sqrt(dim) (released code)."""
    leaves, tree = jax.tree.flatten(params)
    bound = dim**-0.5
    keys = jax.random.split(key, len(leaves))
    drawn = [jax.random.uniform(k, leaf.shape, leaf.dtype, -bound, bound) for k, leaf in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(tree, drawn)
