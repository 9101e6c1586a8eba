"""An item as a mean of what is known of it, field by field, weighed by an attention (FDSA's "vanilla attention").

A field of an item is a vector u of width d: of a text relu(W v + b), of a category or a brand a learned row, of
attributes the mean of the learned rows of its values. An item is

    g = sum over fields f of a_f u_f,  a = softmax over f of w . relu(W u_f + b) + c

where the softmax is over the fields that the item has. Of one field a = 1, and an item with none has g = 0.

It is made where items are looked up, which are many fewer than the catalogue has.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from alterrec_jax.contract import CatalogueInfo, Context, Params, Reads
from alterrec_jax.data.dataset_files import TEXT
from alterrec_jax.errors import UserError
from alterrec_jax.nn.item_tables import START, VectorTable
from alterrec_jax.numerics import layer_precision
from alterrec_jax.sharding import mesh

RANDOM = "random"
"""The parameter that holds a random vector for each item in place of its text's; no step is to change it."""


class ItemFields(NamedTuple):
    """What is known of items, and what is made of it.

    Attributes:
      init: (key, context) -> params.
      known: (params, context) -> by name of a field, [item, width]: vectors, or ids, 0 for none.
      embed: (params, what is known of some items, by field [..., width]) -> float32 [..., dim].
      per_item, reads, per_class: as of `contract.Network`.
    """

    init: Any
    known: Any
    embed: Any
    per_item: tuple[str, ...]
    reads: Reads
    per_class: Mapping[str, str]


def item_fields(
    names: tuple[str, ...], catalogue: CatalogueInfo, dim: int, *, precision: str, random_width: int = 0
) -> ItemFields:
    """g, from those of the named fields that the dataset has.

    Args:
      names: text, category, brand, attributes.
      catalogue: how many items there are, and how many classes.
      dim: width.
      precision: of products.
      random_width: of random vectors in place of the text's own, which are not read then; 0: the text's own.

    Raises:
      UserError: the dataset has none of them. (Whether it has texts shows where the context is made.)
    """
    id_fields = tuple(name for name in names if name != TEXT)
    classes = {name: catalogue.classes[name] for name in id_fields if name in catalogue.classes}
    if TEXT not in names and not classes:
        raise UserError(f"the dataset's items have no {' and no '.join(names)}; prepare it with such a column")
    random = TEXT in names and random_width > 0
    reads = id_fields if random or TEXT not in names else (TEXT, *id_fields)
    possible = tuple(name for name in reads if name == TEXT or name in classes)
    needed = possible if len(possible) == 1 and not random else ()  # an item must be made of something
    mean = FieldMean(classes, dim, precision)

    def known(params: Params, context: Context) -> dict[str, jax.Array]:
        found = {name: context.features[name] for name in reads if name in context.features}
        found |= {TEXT: jax.lax.stop_gradient(params[RANDOM])} if random else {}
        return {name: rows if rows.ndim == 2 else rows[:, None] for name, rows in found.items()}

    def init(key: jax.Array, context: Context) -> Params:
        key, random_key = jax.random.split(key)
        shape = (mesh.padded(catalogue.items, mesh.MODEL), random_width)
        vectors = {RANDOM: START * jax.random.normal(random_key, shape)} if random else {}
        some = {name: rows[:1] for name, rows in known(vectors, context).items()}  # their widths alone matter
        return {**mean.init(key, some)["params"], **vectors}

    def embed(params: Params, found: Mapping[str, jax.Array]) -> jax.Array:
        learned = {name: part for name, part in params.items() if name != RANDOM}
        return mean.apply({"params": learned}, found)  # type: ignore[return-value]

    return ItemFields(
        init,
        known,
        embed,
        (RANDOM,) if random else (),
        Reads(features=needed, optional=tuple(name for name in reads if name not in needed)),
        {f"{name}/embedding": name for name in id_fields},
    )


class FieldMean(nn.Module):
    """g, of the fields that it is given.

    Attributes:
      classes: by name of an id field, how many ids it has; 0 is "unknown", and its row has no effect.
      dim: width.
      dtype: of what products take.
    """

    classes: Mapping[str, int]
    dim: int
    dtype: str

    @nn.compact
    def __call__(self, known: Mapping[str, jax.Array]) -> jax.Array:
        """By field [..., width], vectors or ids -> float32 [..., dim]."""
        found = [
            self._ids(name, rows) if name in self.classes else self._vectors(name, rows)
            for name, rows in sorted(known.items())
        ]
        if len(found) == 1:
            ((field, has),) = found
            return jnp.where(has[..., None], field, 0)
        fields, has = jnp.stack([field for field, _ in found], -2), jnp.stack([has for _, has in found], -1)
        exact = {**layer_precision(self.dtype), "kernel_init": nn.initializers.normal(START)}
        hidden = nn.relu(nn.Dense(self.dim, name="attention", **exact)(fields))
        logits = nn.Dense(1, name="weight", **exact)(hidden)[..., 0].astype(jnp.float32)
        weights = jax.nn.softmax(jnp.where(has, logits, -1e9), axis=-1)
        return jnp.einsum("...f,...fd->...d", jnp.where(has, weights, 0), fields, precision="highest")

    def _vectors(self, name: str, vectors: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The field, float32 [..., dim], and bool [...], which items have it: their vector is not zero."""
        linear = VectorTable(
            self.dim, self.dtype, unit_variance=True, hidden=(), output_relu=True, norm=False, name=name
        )
        return linear(vectors, None), jnp.any(vectors != 0, axis=-1)

    def _ids(self, name: str, ids: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The same of ids, int32 [..., most]: the mean of their rows."""
        table = nn.Embed(self.classes[name], self.dim, embedding_init=nn.initializers.normal(START), name=name)
        known = ids > 0
        total = jnp.sum(jnp.where(known[..., None], table(ids), 0), axis=-2)
        return total / jnp.maximum(jnp.sum(known, axis=-1), 1)[..., None], jnp.any(known, axis=-1)
