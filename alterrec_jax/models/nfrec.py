"""NFRec, the paper's naive fusion (appendix A): one network on item embeddings fused of ID and text, trained jointly.

Its parts, "ID in NFRec" and "text in NFRec" (appendix B), are the same network with the other half of every item
embedding set to zero, of the session's items and of the candidates alike. For the mean encoder on concatenated
embeddings that is exactly the split of eqs. 7-8, and the two scores add up to the whole. With `sum` they do not: the
products of one half with the other belong to neither. Nor do they with a Transformer, which is not linear; a part then
tells what the network can do with one half alone.
"""

import jax
import jax.numpy as jnp

from alterrec_jax.config import AlterRecConfig
from alterrec_jax.contract import Network, Params
from alterrec_jax.models.alterrec import build_network
from alterrec_jax.nn.item_tables import ItemEncoder, id_items, text_items

PARTS = ("id", "text")


def build_fused(config: AlterRecConfig, items: int) -> dict[str, Network]:
    """The network "fused" of a configuration, and its parts "id" and "text": other functions of the same parameters."""
    fused = config.fused
    encoders = {
        "id": id_items(items, fused.dim, fused.item_norm),
        "text": text_items(config.text, fused, config.precision),
    }
    return {
        name: build_network(
            fused, items, _fused_items(encoders, fused.operation, kept), config.max_length, config.precision
        )
        for name, kept in (("fused", PARTS), ("id", ("id",)), ("text", ("text",)))
    }


def _fused_items(encoders: dict[str, ItemEncoder], operation: str, kept: tuple[str, ...]) -> ItemEncoder:
    """Z = X + H, or [X, H], with zeros in place of what is not kept."""

    def init(key: jax.Array, features: jax.Array | None) -> Params:
        keys = jax.random.split(key, len(PARTS))
        return {name: encoders[name].init(k, features) for name, k in zip(PARTS, keys, strict=True)}

    def embed(params: Params, features: jax.Array | None, key: jax.Array | None = None) -> jax.Array:
        halves = {name: encoders[name].embed(params[name], features, key) for name in kept}
        if operation == "sum":
            return sum(halves.values(), jnp.zeros((), jnp.float32))
        nothing = jnp.zeros_like(next(iter(halves.values())))
        return jnp.concatenate([halves.get(name, nothing) for name in PARTS], axis=1)

    return ItemEncoder(init, embed)
