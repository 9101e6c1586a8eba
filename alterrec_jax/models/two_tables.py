"""Items as DIMO and SRIM have them: a learned row for the ID and a row for the modality, both spread over a graph.

A node of the graph is an item, and A says in how many training sessions two stand together. With D its degrees, both
tables X pass through the same layers:

    residual   X <- (X + D^-1 A X) / 2
    sum        X <- X + D^-1 A X            (released code; rows grow up to 2^layers)
    weighted   X <- D^-1 A X W_l            (as SRIM prints it, eq. 4; W_l of each table)

An item that never stood together with another keeps its row. What comes out lies side by side, [id ; modality], and is
both what a session encoder looks up and what is scored. Dropout falls on the tables before the first layer.
"""

import dataclasses

import jax
import jax.numpy as jnp

from alterrec_jax.config import OptimizerConfig, setting
from alterrec_jax.contract import Context, Params, Reads
from alterrec_jax.data.dataset_files import TEXT, TEXT_AND_IMAGE
from alterrec_jax.data.graphs import NeighbourLists
from alterrec_jax.nn.gnn import sum_of_neighbours
from alterrec_jax.nn.item_tables import ItemEncoder, learned_items, vector_items
from alterrec_jax.nn.table_starts import PCA, RANDOM_PROJECTION, TableStart, started_table
from alterrec_jax.nn.vectors import dropout
from alterrec_jax.sharding import mesh

ID, MODALITY = "id", "modality"
PARTS = (ID, MODALITY)
FUSED = "fused"
"""The network of both, its component and its view, beside those of either half."""

GRAPH = "cooccurrence"
RESIDUAL, SUM, WEIGHTED = "residual", "sum", "weighted"
LINEAR = "linear"


@dataclasses.dataclass(frozen=True)
class TwoTablesConfig(OptimizerConfig):
    """The items of a network, and its optimizer."""

    dim: int = setting(100, "width d of the ID and of the modality embeddings, which lie side by side", low=1)
    layers: int = setting(4, "graph layers; 0: none", low=0)
    gcn: str = setting(
        RESIDUAL,
        "a graph layer: residual, the mean of an item and its neighbours' mean; sum, their sum (released code); or "
        "weighted, a linear map of the neighbours' mean (as printed)",
        choices=(RESIDUAL, SUM, WEIGHTED),
    )
    modality: str = setting(
        PCA,
        "what the modality embeddings are: a learned table that starts from the vectors' principal components or from "
        "a random projection of them, or a learned linear map of the vectors",
        choices=(PCA, RANDOM_PROJECTION, LINEAR),
    )
    image_words: bool = setting(
        True, "whether the vectors are those of texts with words for the images, where the dataset has them"
    )
    table_dropout: float = setting(0.3, "rate on both tables, before the graph", low=0, below=1)


def two_tables(config: TwoTablesConfig, items: int, precision: str) -> ItemEncoder:
    """What makes the rows [id ; modality], float32 [item, 2 * dim].

    Args:
      config: of what, and how.
      items: how many.
      precision: of the linear map of vectors.
    """
    dim = config.dim
    of_ids, of_vectors = learned_items(items, dim), vector_items(TEXT, dim, hidden=(), precision=precision)
    linear = config.modality == LINEAR
    per_item = ("id/table",) if linear else ("id/table", "modality/table")
    optional = (TEXT_AND_IMAGE,) if config.image_words else ()
    reads = Reads(features=(TEXT,), optional=optional, graphs=(GRAPH,) if config.layers else ())

    def with_vectors(context: Context) -> Context:
        """The context whose vectors of texts are those that are to be read."""
        found = [context.features[name] for name in (*optional, TEXT) if name in context.features]
        return Context({TEXT: found[0]}, context.graphs)

    def init(key: jax.Array, context: Context) -> Params:
        id_key, modality_key, maps_key = jax.random.split(key, 3)

        def uniform(key: jax.Array, *shape: int) -> jax.Array:
            return jax.random.uniform(key, shape, minval=-(dim**-0.5), maxval=dim**-0.5)

        context = with_vectors(context)
        if linear:
            modality = of_vectors.init(modality_key, context)
        else:
            start = TableStart(config.modality)
            modality = {"table": started_table(start, context.features[TEXT], dim, modality_key)}
        params = {ID: {"table": uniform(id_key, mesh.padded(items, mesh.MODEL), dim)}, MODALITY: modality}
        if config.gcn == WEIGHTED and config.layers:
            maps = uniform(maps_key, len(PARTS), config.layers, dim, dim)
            params["maps"] = dict(zip(PARTS, maps, strict=True))
        return params

    def table_of(part: str, params: Params, context: Context) -> jax.Array:
        maker = of_vectors if linear and part == MODALITY else of_ids
        table: jax.Array = maker.embed(params[part], with_vectors(context))
        return table

    def embed(params: Params, context: Context, key: jax.Array | None = None) -> jax.Array:
        tables = [table_of(part, params, context) for part in PARTS]
        rows = len(tables[0])
        # Every device computes all nodes: a neighbour may be any of them.
        nodes = mesh.with_sharding_constraint(jnp.concatenate(tables, axis=1), mesh.REPLICATED)[:items]
        nodes = dropout(key, nodes, config.table_dropout)
        if config.layers:
            maps = [params["maps"][part] for part in PARTS] if config.gcn == WEIGHTED else None
            nodes = spread(context.graphs[GRAPH], nodes, config.layers, config.gcn, maps)
        return mesh.with_sharding_constraint(jnp.pad(nodes, ((0, rows - items), (0, 0))), mesh.ITEMS)

    return ItemEncoder(init, embed, per_item, reads)


def spread(
    graph: NeighbourLists, nodes: jax.Array, layers: int, gcn: str, maps: list[jax.Array] | None = None
) -> jax.Array:
    """The nodes behind some graph layers.

    Args:
      graph: its weights are the same both ways.
      nodes: float32 [node, width].
      layers, gcn: how many, and of which kind.
      maps: of `weighted`, float32 [layer, dim, dim] of each of the parts of equal width that lie side by side.
    """
    alone = (graph.degree == 0)[:, None]
    for layer in range(layers):
        around = sum_of_neighbours(graph, nodes) / jnp.maximum(graph.degree, 1)[:, None]
        if maps is not None:
            parts = zip(jnp.split(around, len(maps), axis=1), maps, strict=True)
            around = jnp.concatenate([jnp.matmul(x, w[layer], precision="highest") for x, w in parts], axis=1)
        if gcn == SUM:
            nodes = nodes + around
        else:
            nodes = jnp.where(alone, nodes, around if gcn == WEIGHTED else (nodes + around) / 2)
    return nodes
