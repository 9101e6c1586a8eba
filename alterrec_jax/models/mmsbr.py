"""MMSBR (Zhang et al., TKDE 2023): what texts and images say, gathered in pivots, and prices as normal distributions.

An item's vector v is made of four learned rows, its pivots, to which its text and its image speak in turn
(`nn.pivots`): a Transformer of six layers over eight tokens, for all items in each step. What a prefix is about is

    i = sum over t of b_t v_t,  b_t = w . sigmoid(G v_t + g + M mean(v)) + c

A price level has rows of a mean and of a spread. Those of a prefix, with rows of categories, go through an attention
that weighs by the distance of normal distributions (`nn.gaussians`), read at the last item: m_s and s_s. An item has
m_j = mean + category and s_j = elu(spread + category) + 1. With W2 the squared Wasserstein distance of the two,

    score = i . v_j - lambda W2     ("additive")
    score = (i . v_j) (1 - lambda W2)     ("gated"; lambda = -1 in the released code: prices farther away score higher)

Both are one dot product. Additive vectors are 3 d + 2 wide; gated ones d (2 d + 3), the products of all entries of v_j
with all of W2's side: exact, and dear, 34 kB an item where d = 64. The loss is the cross-entropy over the catalogue,
and the contrast of `losses.modality_contrast`.

It needs texts, and prices for half of the catalogue (`price=False` does without: the score is i . v_j). What else it
reads, it does without where a dataset has none, and a run says so: `image` (half of the layers), `image_words`, what
the image says by the encoder of the texts (their contrast), `image_of_text`, which users bring (the images' contrast),
category (prices stand alone). An item that was not in training has no pivots, and cannot be recommended.

Departures from the released code, most of them from its mistakes:

* a distance lowers the score, see above;
* the attention of the pivots' layers is normalised over what is attended to; there over what attends;
* texts, images and their counterparts start from the vectors' principal components, those of both kinds on the axes of
  the first; there random numbers overwrite them. They are learned, as there. LayerNorms begin as such, all else within
  +-1/sqrt(d);
* the contrast is a mean of natural logarithms over 1,024 items drawn in each step; there a sum of decimal ones over all
  of n items, whose weight of 0.01 is one of 0.01 n / ln 10 here;
* price levels are those of `data.price_levels`; there bins of equal width between the cheapest and the dearest of a
  category. An item without a level has that of row 0; there it is dropped;
* every prefix is learned, there that of the last item; dropout stays on after the first epoch;
* validation chooses the epoch, there the test set does, another one for each metric.
"""

import dataclasses
from collections.abc import Mapping

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
    Reads,
    SessionBatch,
    System,
    at_prefixes,
)
from alterrec_jax.data.dataset_files import IMAGE, IMAGE_WORDS, TEXT
from alterrec_jax.data.price_levels import LEAST_COVERAGE, PRICE_FLAGS, RELATIVE_PRICE, price_levels
from alterrec_jax.errors import UserError
from alterrec_jax.losses.modality_contrast import SAME_ITEM, ModalityContrast, with_modality_contrast
from alterrec_jax.losses.objectives import NEXT_ITEM, full_softmax
from alterrec_jax.models.registry import register
from alterrec_jax.models.single import FULL, part_of, single_network_system
from alterrec_jax.models.unimodal import empty_batch, encoded, uniform_params
from alterrec_jax.nn.gaussians import Gaussian, PriceGaussians, distance_key, distance_query
from alterrec_jax.nn.pivots import PIVOTS, PivotTransformer, items_of_pivots
from alterrec_jax.nn.pooling import GatedMeanEncoder
from alterrec_jax.nn.table_starts import modality_tables
from alterrec_jax.sharding import mesh
from alterrec_jax.sharding.lookup import lookup
from alterrec_jax.sharding.per_item import zero_padding_rows

NAME, TITLE = "mmsbr", "MMSBR"
CATEGORY = "category"
COUNTERPARTS = {TEXT: IMAGE_WORDS, IMAGE: "image_of_text"}
"""Of each modality, what the other one says in its space."""

ADDITIVE, GATED = "additive", "gated"
INTEREST = "interest"
"""The view of i . v alone, the first columns of either score."""
VECTORS, PRICES = "vectors", "prices"
"""What is looked up of items: v, and int32 [item, 2], the numbers of level and category."""


@dataclasses.dataclass(frozen=True)
class MMSBRNetworkConfig(OptimizerConfig):
    """The network; defaults are the authors'."""

    dim: int = setting(64, "width d of item and session embeddings", low=1)
    vector_dim: int = setting(64, "width of what texts and images start from; at most that of their vectors", low=1)
    pivots: int = setting(4, "learned rows an item", low=1)
    tokens: int = setting(4, "what a text or an image is split into", low=1)
    pairs: int = setting(3, "pairs of layers, one for texts and one for images; without images half of them", low=1)
    heads: int = setting(4, "attention heads, among tokens and among prices; a divisor of dim", low=1)
    fusion_dropout: float = setting(0.6, "rate on tokens and inside their layers", low=0, below=1)
    dropout: float = setting(0.2, "rate on items' vectors, and in the attention among prices", low=0, below=1)
    price: bool = setting(True, "whether prices are read; half of the catalogue must have one then")
    price_levels: int = setting(100, "K: levels of a category's prices", low=1)
    price_weight: float = setting(1.0, "lambda: of W2 in the score; gated with -1 is released code")
    score: str = setting(
        ADDITIVE, "how W2 enters the score; gated takes d (2 d + 3) numbers an item", choices=(ADDITIVE, GATED)
    )


@dataclasses.dataclass(frozen=True)
class ContrastConfig:
    """The contrast of modalities."""

    weight: float = setting(0.01, "of the contrast; 0: none", low=0)
    sample: int = setting(1024, "items drawn in a step, each of which is compared with all", low=2)
    hardest: int = setting(100, "how many of them count for an item: the nearest", low=1)


@register(NAME, title=TITLE, paper="Zhang et al., TKDE 2023", needs="text, prices", layout=PACKED)
@dataclasses.dataclass(frozen=True)
class MMSBRConfig(RunConfig):
    """MMSBR."""

    epochs: int = setting(100, "epochs in all", low=1)
    patience: int = setting(10, "stop after so many epochs without a better validation; 0: never", low=0)
    network: MMSBRNetworkConfig = dataclasses.field(default_factory=MMSBRNetworkConfig)
    contrast: ContrastConfig = dataclasses.field(default_factory=ContrastConfig)

    def check(self) -> "MMSBRConfig":
        """As `RunConfig.check`."""
        super().check()
        require_divisor("network.heads", self.network.heads, "network.dim", self.network.dim)
        return self

    def build(self, catalogue: CatalogueInfo) -> System:
        """The system, for a catalogue.

        Raises:
          UserError: it is to read prices, and too few items have one.
        """
        if self.network.price and catalogue.price_coverage < LEAST_COVERAGE:
            raise UserError(
                f"{NAME} reads prices, but the column price has one for {catalogue.price_coverage:.0%} of the "
                f"catalogue's items, of which {LEAST_COVERAGE:.0%} must have one; prepare the dataset with "
                f"{PRICE_FLAGS}, or do without: --config.network.price=False"
            )
        contrasted, given = self.contrast.weight > 0, self.contrast
        network = build_network(self.network, catalogue, contrasted, self.max_length, self.precision)
        parts = {INTEREST: part_of(network, slice(self.network.dim))} if self.network.price else {}
        system = single_network_system(NAME, network, self.network, self.epochs, parts=parts)
        if not contrasted:
            return system
        contrast = ModalityContrast(tuple(COUNTERPARTS.items()), given.weight, given.sample, given.hardest)
        objective = with_modality_contrast(full_softmax(NAME, network), NAME, contrast, catalogue.items)
        return system._replace(objectives={FULL: lambda stage: objective}, terms=(NEXT_ITEM, SAME_ITEM))


def build_network(
    config: MMSBRNetworkConfig, catalogue: CatalogueInfo, contrasted: bool, max_length: int, dtype: str
) -> Network:
    """The pure functions of MMSBR.

    Args:
      config: of the network.
      catalogue: what is known of the items.
      contrasted: whether there are tables of the modalities' counterparts, for the contrast alone.
      max_length: the longest prefix that is read.
      dtype: of what products take.
    """
    dim, modalities = config.dim, tuple(COUNTERPARTS)
    fusion = PivotTransformer(
        modalities, config.pairs, config.heads, config.tokens, config.fusion_dropout, config.dropout, dtype
    )
    interest, categories = GatedMeanEncoder(dtype), catalogue.classes.get(CATEGORY, 0) if config.price else 0
    prices = PriceGaussians(config.price_levels + 2, categories, dim, config.heads, config.dropout, dtype)
    others = tuple(COUNTERPARTS.values()) if contrasted else ()
    per_item = tuple(f"items/{name}" for name in (PIVOTS, *modalities, *others))

    def item_tables(params: Params, context: Context, key: jax.Array | None = None) -> ItemTables:
        rows = {name: table for name, table in params["items"].items() if name not in others}
        vectors = items_of_pivots(fusion, params["fusion"], rows, key)
        if not config.price:
            return ItemTables(vectors, {VECTORS: vectors})
        levels = price_levels(context.features[RELATIVE_PRICE], config.price_levels)
        known = jnp.stack([levels, context.features[CATEGORY] if categories else jnp.zeros_like(levels)], axis=1)
        of_items: Gaussian = prices.apply({"params": params["prices"]}, known, method="of_items")  # type: ignore[assignment]
        candidates = joined(config.score, vectors, distance_key(of_items))
        return ItemTables(mesh.with_sharding_constraint(candidates, mesh.ITEMS), {VECTORS: vectors, PRICES: known})

    def session_embeddings(
        params: Params, tables: ItemTables, batch: SessionBatch, key: jax.Array | None = None
    ) -> jax.Array:
        inputs = jax.tree.map(lambda rows: lookup(rows, batch.items), tables.inputs)
        queries = at_prefixes(interest.apply({"params": params["interest"]}, inputs[VECTORS], batch), batch)  # type: ignore[arg-type]
        if config.price:
            of_prefixes: Gaussian = encoded(prices, params["prices"], inputs[PRICES], batch, key)
            near = distance_query(of_prefixes, config.price_weight)
            queries = joined(config.score, queries, at_prefixes(near, batch))
        return queries.astype(dtype)

    def init(key: jax.Array, context: Context) -> Params:
        fusion_key, interest_key, price_key, uniform_key = jax.random.split(key, 4)
        tables = started_tables(context.features, config.vector_dim, contrasted)
        pivots = jnp.zeros((mesh.padded(catalogue.items, mesh.MODEL), config.pivots, dim))
        some, batch = {name: tables[name][:1] for name in modalities if name in tables}, empty_batch(max_length)
        params = {
            "items": {PIVOTS: pivots},
            "fusion": fusion.init(fusion_key, pivots[:1], some)["params"],
            "interest": interest.init(interest_key, jnp.zeros((1, max_length, dim)), batch)["params"],
        }
        if config.price:
            known = jnp.zeros((1, max_length, 2), jnp.int32)
            params["prices"] = prices.init(price_key, known, batch, True)["params"]
        drawn = uniform_params(uniform_key, params, dim)
        norm = jax.tree_util.DictKey("norm")
        params = jax.tree_util.tree_map_with_path(
            lambda path, fresh, other: fresh if norm in path else other, params, drawn
        )
        params["items"] |= tables
        return zero_padding_rows(per_item, params, catalogue.items)

    needed = (TEXT, RELATIVE_PRICE) if config.price else (TEXT,)
    width = {ADDITIVE: 3 * dim + 2, GATED: dim * (2 * dim + 3)}[config.score] if config.price else dim
    return Network(
        init,
        item_tables,
        session_embeddings,
        catalogue.items,
        width,
        per_item,
        Reads(needed, optional=(IMAGE, *others, *((CATEGORY,) if config.price else ()))),
        per_class={f"prices/{CATEGORY}/embedding": CATEGORY} if categories else {},
    )


def started_tables(features: Mapping[str, jax.Array], width: int, contrasted: bool) -> dict[str, jax.Array]:
    """By name of a modality or, where they are contrasted, a counterpart: float32 [item, at most width]."""
    tables = {}
    for name, other in COUNTERPARTS.items():
        if name in features:
            tables[name], start = modality_tables(features[name], features.get(other) if contrasted else None, width)
            tables |= {} if start is None else {other: start}
    return tables


def joined(score: str, interest: jax.Array, distance: jax.Array) -> jax.Array:
    """[..., width], whose dot product with the same of the other side is the score, of the dot products of both parts.

    Those of `interest` [..., dim] multiply to i . v_j, those of `distance` [..., 2 dim + 2] to -lambda W2.
    """
    if score == GATED:
        distance = (interest[..., :, None] * distance[..., None, :]).reshape(*interest.shape[:-1], -1)
    return jnp.concatenate([interest, distance], axis=-1)
