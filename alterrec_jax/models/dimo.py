"""DIMO (Zhang et al., SIGIR 2024): sessions in two halves, of items' IDs and of their texts, kept apart.

Items have a learned row for the ID and one for the modality, and both tables are spread over the graph of items that
stood together in training sessions (`alterrec_jax.models.two_tables`). Of either half, with x the rows of a prefix of n
items and in each head a slice of the width w,

    a_i = softmax over i of (W_q x_n + b_q) . (W_k x_i + b_k) / sqrt(w),  q = sum over i of a_i (W_v x_i + b_v)

so there is no map behind the heads, nothing is added to q, and positions are not known. A score is the sum of two dot
products, q_id . e_id + q_mo . e_mo. With CE the softmax over the catalogue,

    L = CE + a L_co + b L_pro + c L_cf

where L_co, of some items drawn in each step, is `losses.cooccurrence`, and L_pro and L_cf are `losses.dimo`.

Departures from the released code:

* its graph, its lists of companions and its flags are counted over training and test sessions, targets included: an
  edge leads from each test prefix to its answer. Here they are of training sessions alone, and the flag of a prefix is
  without its own session, in which items always meet. No number here compares with the published ones;
* its initialisation overwrites the text vectors, so that no text reaches the model. Here texts do;
* it hands q_mo over for p_id and p_id for q_mo, so that its L_pro draws the modalities together (`proxies`:
  `released`), and its L_cf takes the row of the item with the number before the target's;
* its graph layers are sums, by which rows grow up to 2^layers, and scores to the square of that (`gcn`: `sum`);
* its losses are sums of decimal logarithms times 0.001, here they are means of natural ones. For its batches of 50 that
  makes weights of 0.02 for L_pro and L_cf, and of 4 for L_co, which is over all items in every step there;
* here L_co compares with items drawn from all that an item never met (there with nearly the same ten for each), two
  items co-occur once a session, however often it holds them, and every prefix is learned, not the longest alone.

In training the graph holds the pair that is to be predicted, too; in evaluation it does not.

It needs text vectors, and is refused without. Without image words the modality is text alone. An item that was in no
session with another keeps its own rows; one that was not in training cannot be recommended.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from alterrec_jax.config import RunConfig, require_divisor, setting
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
from alterrec_jax.losses.cooccurrence import COOCCURRENCE
from alterrec_jax.losses.dimo import COUNTERFACTUAL, MAPS, MAPS_OF, OFTEN, PROXY, DIMOLoss, dimo_objective
from alterrec_jax.losses.id_and_modality import COMPANIONS, EncodeFn, Prefixes
from alterrec_jax.losses.objectives import NEXT_ITEM
from alterrec_jax.models.registry import register
from alterrec_jax.models.single import halves_of, single_network_system
from alterrec_jax.models.two_tables import FUSED, PARTS, TwoTablesConfig, two_tables
from alterrec_jax.models.unimodal import empty_batch, encoded, uniform_params
from alterrec_jax.nn.causal_attention import CausalAttention
from alterrec_jax.nn.direct_attention import prefix_mean
from alterrec_jax.sharding.lookup import lookup
from alterrec_jax.sharding.per_item import zero_padding_rows

INTENDED, RELEASED = "intended", "released"


@dataclasses.dataclass(frozen=True)
class DIMONetworkConfig(TwoTablesConfig):
    """The network."""

    heads: int = setting(4, "attention heads; a divisor of dim", low=1)
    attention_dropout: float = setting(0.2, "rate on attention weights", low=0, below=1)
    proxies: str = setting(
        INTENDED,
        "what the proxy loss takes for the modality's vector and for the ID's proxy: these, or each for the other "
        "(released code)",
        choices=(INTENDED, RELEASED),
    )
    cooccurrence_weight: float = setting(0.02, "a: of the co-occurrence loss, a mean over items", low=0)
    proxy_weight: float = setting(0.02, "b: of the proxy loss, a mean over prefixes", low=0)
    counterfactual_weight: float = setting(0.02, "c: of the counterfactual loss, a mean over prefixes", low=0)
    items_compared: int = setting(512, "items that the co-occurrence loss draws in a step", low=1)


@register("dimo", title="DIMO", paper="Zhang et al., SIGIR 2024", needs="text vectors", layout=PACKED)
@dataclasses.dataclass(frozen=True)
class DIMOConfig(RunConfig):
    """DIMO."""

    batch_prefixes: int = setting(50, "prefixes a step, rounded to whole rows", low=1)
    max_length: int = setting(20, "items of a session that an encoder sees, and positions of a row", low=1)
    epochs: int = setting(20, "epochs in all", low=1)
    network: DIMONetworkConfig = dataclasses.field(default_factory=DIMONetworkConfig)

    def check(self) -> "DIMOConfig":
        """As `RunConfig.check`."""
        super().check()
        require_divisor("network.heads", self.network.heads, "network.dim", self.network.dim)
        return self

    def build(self, catalogue: CatalogueInfo) -> System:
        """The system, for a catalogue."""
        config = self.network
        whole, encode = build_network(config, catalogue.items, self.max_length, self.precision)
        weights = {
            COOCCURRENCE: config.cooccurrence_weight,
            PROXY: config.proxy_weight,
            COUNTERFACTUAL: config.counterfactual_weight,
        }
        loss = DIMOLoss(weights, config.items_compared, config.proxies == RELEASED, self.precision)
        system = single_network_system(
            FUSED,
            whole,
            config,
            self.epochs,
            objective=dimo_objective(FUSED, whole, encode, loss),
            parts=halves_of(whole, PARTS),
        )
        # What losses read, nobody reads who only scores.
        read = {COOCCURRENCE: COMPANIONS, COUNTERFACTUAL: OFTEN}
        graphs = (*whole.reads.graphs, *(graph for term, graph in read.items() if term in loss.terms))
        trained = whole._replace(reads=whole.reads._replace(graphs=graphs))
        return system._replace(networks={FUSED: trained}, terms=(NEXT_ITEM, *loss.terms) if loss.terms else ())


class Built(NamedTuple):
    """DIMO's functions. Attributes: network; encode, which its loss calls."""

    network: Network
    encode: EncodeFn


def build_network(config: DIMONetworkConfig, items: int, max_length: int, dtype: str) -> Built:
    """The pure functions of DIMO.

    Args:
      config: of the network.
      items: how many can be recommended.
      max_length: the longest prefix.
      dtype: that of what products take.
    """
    dim, of_items = config.dim, two_tables(config, items, dtype)
    attention = CausalAttention(config.heads, config.attention_dropout, dtype)
    per_item = tuple(f"items/{path}" for path in of_items.per_item)

    def item_tables(params: Params, context: Context, key: jax.Array | None = None) -> ItemTables:
        return ItemTables(of_items.embed(params["items"], context, key))

    def attended(params: Params, rows: jax.Array, batch: SessionBatch, key: jax.Array | None) -> jax.Array:
        """float32 [prefix, 2 * dim], q of both halves."""
        keys = (None, None) if key is None else jax.random.split(key)
        found = [
            encoded(attention, params["sessions"][part], half, batch, half_key)
            for part, half, half_key in zip(PARTS, jnp.split(rows, 2, axis=-1), keys, strict=True)
        ]
        return at_prefixes(jnp.concatenate(found, axis=-1), batch)

    def encode(params: Params, tables: ItemTables, batch: SessionBatch, key: jax.Array | None = None) -> Prefixes:
        rows = lookup(tables.inputs, batch.items)
        mean = jnp.einsum("rjk,rkd->rjd", prefix_mean(batch), rows, precision="highest")
        both = attended(params, rows, batch, key), at_prefixes(mean, batch)
        return Prefixes(*(half for found in both for half in jnp.split(found, 2, axis=1)))

    def session_embeddings(
        params: Params, tables: ItemTables, batch: SessionBatch, key: jax.Array | None = None
    ) -> jax.Array:
        return attended(params, lookup(tables.inputs, batch.items), batch, key).astype(dtype)

    def init(key: jax.Array, context: Context) -> Params:
        table_key, uniform_key, *part_keys = jax.random.split(key, 2 + len(PARTS))
        inputs = jnp.zeros((1, max_length, dim))
        layers = {
            "sessions": {
                part: attention.init(part_key, inputs, empty_batch(max_length), True)["params"]
                for part, part_key in zip(PARTS, part_keys, strict=True)
            },
            MAPS: {
                name: {"kernel": jnp.zeros((dim, len(some) * dim)), "bias": jnp.zeros(len(some) * dim)}
                for name, some in MAPS_OF.items()
            },
        }
        params = {"items": of_items.init(table_key, context), **uniform_params(uniform_key, layers, dim)}
        return zero_padding_rows(per_item, params, items)

    network = Network(init, item_tables, session_embeddings, items, 2 * dim, per_item, of_items.reads)
    return Built(network, encode)
