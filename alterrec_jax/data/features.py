"""What is known of the items and not learned, by name: vectors (text and others), ids (category, brand and such), and
where a price stands among those of its category."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from alterrec_jax.contract import CatalogueInfo, Context, Reads
from alterrec_jax.data.dataset import Dataset
from alterrec_jax.data.dataset_files import DROPPED, IMAGE_FEATURES, TEXT, TEXT_DROPPED
from alterrec_jax.data.graphs import GRAPHS
from alterrec_jax.data.price_levels import PRICE_FLAGS, RELATIVE_PRICE, price_coverage, relative_prices
from alterrec_jax.errors import UserError
from alterrec_jax.sharding import mesh

ATTRIBUTES = "attributes"
ID_FEATURES = ("category", "brand", ATTRIBUTES)
"""Columns of the items that become numbers: 0 is "unknown", the others are the values that the catalogue has. Of
attributes an item has several, and its row is filled up with zeros."""

_ROWS_AT_ONCE = 4096
_FLAGS = {
    TEXT: "--text_columns",
    TEXT_DROPPED: "--word_drop=0.15",
    ATTRIBUTES: "--attribute_columns",
    RELATIVE_PRICE: PRICE_FLAGS,
}


def catalogue_info(dataset: Dataset) -> CatalogueInfo:
    """What a system must know of a dataset before it is built."""
    classes = {name: len(class_values(dataset, name)) + 1 for name in ID_FEATURES if name in dataset.items.columns}
    priced = (RELATIVE_PRICE,) if "price" in dataset.items.columns else ()
    constant = frozenset(name for name in (*dataset.vectors, *classes, *priced) if _is_constant(dataset, name))
    coverage = price_coverage(dataset.items.head(dataset.catalogue_size))
    return CatalogueInfo(dataset.catalogue_size, classes, dataset.known_users, constant, dataset.ordered, coverage)


def missing_items(dataset: Dataset, name: str) -> int:
    """Of how many items of the catalogue a feature that the dataset has is unknown."""
    rows = feature_rows(dataset, name)
    assert rows is not None
    return int(np.count_nonzero(~np.any(rows.reshape(len(rows), -1), axis=1)))


def _is_constant(dataset: Dataset, name: str) -> bool:
    """Whether a feature is the same for every item of the catalogue."""
    vectors = feature_rows(dataset, name)
    assert vectors is not None
    for start in range(0, len(vectors), _ROWS_AT_ONCE):  # the first rows tell, nearly always
        some = vectors[start : start + _ROWS_AT_ONCE]
        if not np.array_equal(some, np.broadcast_to(vectors[:1], some.shape)):
            return False
    return True


def make_context(
    dataset: Dataset, reads: Reads, precision: str, new_items: Mapping[str, np.ndarray] | None = None
) -> Context:
    """What a system reads, on the devices: each holds the rows of its own items.

    Args:
      dataset: its catalogue's items, and its training sessions, are all that is looked at.
      reads: what is wanted.
      precision: dtype of vectors.
      new_items: by name of a feature, float32 [new item, width], rows that are put behind the catalogue's.

    Raises:
      UserError: the dataset lacks a feature that is needed.
    """
    features: dict[str, jax.Array] = {}
    for name in (*reads.features, *reads.optional):
        rows = _rows_read(dataset, reads, name)
        if rows is None:
            continue
        if new_items is not None and name in new_items:
            rows = np.concatenate([rows, new_items[name]])
        features[name] = mesh.put_rows(rows, _dtype(name, precision))
    graphs = {name: mesh.put(GRAPHS[name](dataset.splits["train"], dataset.catalogue_size)) for name in reads.graphs}
    return Context(features, graphs)


def context_shapes(dataset: Dataset, reads: Reads, precision: str) -> Context:
    """The shapes of what `make_context` makes, without putting anything on a device.

    Raises:
      UserError: as there.
    """
    features: dict[str, jax.ShapeDtypeStruct] = {}
    for name in (*reads.features, *reads.optional):
        rows = _rows_read(dataset, reads, name)
        if rows is not None:
            shape = (mesh.padded(len(rows), mesh.MODEL), *rows.shape[1:])
            features[name] = jax.ShapeDtypeStruct(shape, _dtype(name, precision))
    graphs = {name: GRAPHS[name](dataset.splits["train"], dataset.catalogue_size) for name in reads.graphs}
    return Context(features, jax.tree.map(lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype), graphs))


def _dtype(name: str, precision: str) -> jax.typing.DTypeLike:
    """Of a feature on the devices. Levels are cut from relative prices, which bfloat16 would move to others."""
    if name in ID_FEATURES:
        return jnp.int32
    return jnp.float32 if name == RELATIVE_PRICE else jnp.dtype(precision)


def _rows_read(dataset: Dataset, reads: Reads, name: str) -> np.ndarray | None:
    """As `feature_rows`; a feature that is not optional must be there."""
    rows = feature_rows(dataset, name)
    if rows is None and name not in reads.optional:
        raise UserError(_missing(dataset, name))
    return rows


def feature_rows(dataset: Dataset, name: str) -> np.ndarray | None:
    """Of vectors float32 [catalogue, width], of an id feature int32 [catalogue], of attributes int32 [catalogue, most],
    of relative prices float32 [catalogue, 1].

    None where the dataset has none.
    """
    if name in ID_FEATURES:
        return _class_ids(dataset, name) if name in dataset.items.columns else None
    if name == RELATIVE_PRICE:
        catalogue = dataset.items.head(dataset.catalogue_size)
        return relative_prices(catalogue) if "price" in catalogue.columns else None
    vectors = dataset.vectors.get(name)
    return None if vectors is None else vectors[: dataset.catalogue_size]


def class_values(dataset: Dataset, name: str) -> list[str]:
    """The values of a column that items of the catalogue have, sorted: their places, from 1, are their numbers."""
    column = dataset.items[name].head(dataset.catalogue_size)
    return (column.explode() if name == ATTRIBUTES else column).drop_nulls().unique().sort().to_list()


def _class_ids(dataset: Dataset, name: str) -> np.ndarray:
    number = {value: place for place, value in enumerate(class_values(dataset, name), 1)}
    column = dataset.items[name].head(dataset.catalogue_size).to_list()
    if name != ATTRIBUTES:
        return np.array([0 if value is None else number[value] for value in column], np.int32)
    most = max((len(values or ()) for values in column), default=0)
    ids = np.zeros((len(column), max(most, 1)), np.int32)
    for row, values in zip(ids, column, strict=True):
        row[: len(values or ())] = [number[value] for value in values or ()]
    return ids


def preparation_flag(name: str) -> str:
    """The flag of preparation, or the command, that brings a feature."""
    if name in _FLAGS:
        return _FLAGS[name]
    if name.endswith(DROPPED):  # texts without words, which no text model makes of the whole ones
        return f"--vectors={name}=FILE.npy"
    if name in IMAGE_FEATURES:
        return f"data_tools.label_images or --vectors={name}=FILE.npy"
    return f"--{name}_column" if name in ID_FEATURES else f"--vectors={name}=FILE.npy or --text_models={name}=MODEL"


def _missing(dataset: Dataset, name: str) -> str:
    if name == TEXT:
        return (
            f"this system needs text of the items, which {dataset.path} holds no vectors of; prepare it without "
            "--text_model=none"
        )
    flag = preparation_flag(name)
    return f"this system needs {name} of the items, which {dataset.path} lacks; prepare it with {flag}"
