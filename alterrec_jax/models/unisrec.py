"""UniSRec (Hou et al., KDD 2022): sessions of any shop, by the texts of their items.

Frozen text vectors pass through an adaptor of experts, A(v) (`alterrec_jax.nn.moe_adaptor`). Of a prefix, a causal
Transformer reads

    x_t = drop(LayerNorm(A(v_{s_t}) + p_t [+ e_{s_t}]))

at its last item, and with z_i = A(v_i) [+ e_i] scores are cosines: y_i = unit(h) . unit(z_i) / tau. In brackets the
learned item table of the mode `transductive`; without it, `inductive`, an item that was not in training is recommended
like any other.

The first `pretrain_epochs` of a run are pretraining: in-batch contrasts on texts alone, as
`alterrec_jax.losses.contrastive` has them, whose epochs do not choose the model. The others are fine-tuning, by the
softmax over the whole catalogue; with `freeze_encoder` the positions and the Transformer stay as they were pretrained,
and the adaptor, the item table and the LayerNorm on the input learn. A run may instead start from another one
(`start_from`), which was pretrained on other shops (`data_tools.join` makes one dataset of several); they share no
item, and need none.

Departures from the released code: a step adapts the catalogue once, so inputs and candidates have one dropout mask and
one noise an item, and all experts share the mask (in pretraining each place in a batch has its own, as there); pairs of
equal target are left out of the contrast (there their logit is set to 0 before the exponential, which adds 1 each to
the denominator); an item that is dropped is gone (there `scatter` writes it over the item before it, which is gone
instead); 0 is no candidate; a batch holds whole sessions, as `alterrec_jax.losses.contrastive` says. Vectors of unit
length, like those of all-MiniLM-L6-v2, are stretched to the length of BERT's (`unit_variance`).
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from alterrec_jax.config import OptimizerConfig, RunConfig, require, require_divisor, setting
from alterrec_jax.contract import (
    PACKED,
    CatalogueInfo,
    Component,
    Context,
    ItemTables,
    Network,
    Params,
    Reads,
    SessionBatch,
    Stage,
    System,
    at_prefixes,
)
from alterrec_jax.data.dataset_files import DROPPED, TEXT
from alterrec_jax.losses.contrastive import CONTRASTIVE, SAME_PREFIX, Contrast, EncodeFn, contrastive
from alterrec_jax.losses.objectives import NEXT_ITEM, full_softmax
from alterrec_jax.models.registry import register
from alterrec_jax.models.single import FULL, single_network_system
from alterrec_jax.models.unimodal import empty_batch, encoded
from alterrec_jax.nn.item_tables import learned_items
from alterrec_jax.nn.moe_adaptor import AdaptFn, MoEAdaptor, adapted_items
from alterrec_jax.nn.transformer import TransformerEncoder, recbole_transformer
from alterrec_jax.nn.vectors import unit
from alterrec_jax.sharding import mesh
from alterrec_jax.sharding.lookup import lookup
from alterrec_jax.sharding.per_item import zero_padding_rows

NAME = "unisrec"
"""Of the network, and of its optimizer in fine-tuning."""

PRETRAINING = "pretraining"
"""The optimizer of pretraining."""

TRANSDUCTIVE, INDUCTIVE = "transductive", "inductive"


@dataclasses.dataclass(frozen=True)
class UniSRecNetworkConfig(OptimizerConfig):
    """The network, and the optimizer of fine-tuning."""

    feature: str = setting(TEXT, "name of the text vectors in the dataset")
    dim: int = setting(300, "width d of item and session embeddings", low=1)
    experts: int = setting(8, "experts of the adaptor", low=1)
    adaptor_dropout: float = setting(0.2, "rate on the text vectors", low=0, below=1)
    unit_variance: bool = setting(
        True, "multiply text vectors by sqrt(width) first: yes if they have length 1, no if they are BERT's CLS vectors"
    )
    layers: int = setting(2, "Transformer blocks", low=1)
    heads: int = setting(2, "attention heads; a divisor of dim", low=1)
    inner: int = setting(256, "width of the feed-forward layers", low=1)
    dropout: float = setting(0.5, "rate inside the Transformer and on its input", low=0, below=1)
    attention_dropout: float = setting(0.5, "rate on its attention weights", low=0, below=1)
    temperature: float = setting(0.07, "tau: cosines are divided by it", above=0)


@dataclasses.dataclass(frozen=True)
class PretrainingConfig(OptimizerConfig):
    """The contrast of pretraining, and its optimizer."""

    weight: float = setting(1e-3, "lambda: of the contrast of prefixes with augmented ones", low=0)
    rate: float = setting(0.2, "share of the items that an augmentation drops or rewords", low=0, below=1)
    item_drop: float = setting(
        0.9,
        "share of the batches in which items are dropped; in the others words are, if the data have text_dropped",
        low=0,
        high=1,
    )


@register(NAME, title="UniSRec", paper="Hou et al., KDD 2022", needs="text", layout=PACKED)
@dataclasses.dataclass(frozen=True)
class UniSRecConfig(RunConfig):
    """UniSRec."""

    batch_prefixes: int = setting(2048, "prefixes a step, rounded to whole rows", low=1)
    mode: str = setting(
        TRANSDUCTIVE,
        "transductive: items have a learned row too; inductive: they are their texts alone, and may be new",
        choices=(TRANSDUCTIVE, INDUCTIVE),
    )
    pretrain_epochs: int = setting(0, "of the epochs, the first so many are pretraining", low=0)
    freeze_encoder: bool = setting(
        False, "whether fine-tuning leaves positions and Transformer as they were pretrained"
    )
    network: UniSRecNetworkConfig = dataclasses.field(default_factory=UniSRecNetworkConfig)
    pretraining: PretrainingConfig = dataclasses.field(default_factory=PretrainingConfig)

    def check(self) -> "UniSRecConfig":
        """As `RunConfig.check`."""
        super().check()
        require_divisor("network.heads", self.network.heads, "network.dim", self.network.dim)
        only = self.pretrain_epochs >= self.epochs
        require(
            self.mode == INDUCTIVE or not only,
            "mode",
            self.mode,
            f"{INDUCTIVE} where pretraining is all of a run (pretrain_epochs={self.pretrain_epochs}, "
            f"epochs={self.epochs}), for that learns no item table",
        )
        require(
            not self.freeze_encoder or bool(self.pretrain_epochs or self.start_from),
            "freeze_encoder",
            self.freeze_encoder,
            "False without pretrain_epochs or start_from, for nothing was pretrained",
        )
        return self

    def build(self, catalogue: CatalogueInfo) -> System:
        """The system, for a catalogue."""
        config, given, learns_ids = self.network, self.pretraining, self.mode == TRANSDUCTIVE
        network, adapt, encode = build_network(config, catalogue.items, self.max_length, self.precision, learns_ids)
        dropped = config.feature + DROPPED
        contrast = Contrast(
            config.feature, dropped, config.temperature, given.weight, given.rate, given.item_drop, self.precision
        )
        pretraining = Stage(
            (NAME,),
            CONTRASTIVE,
            min(self.pretrain_epochs, self.epochs),
            PRETRAINING,
            frozen=(f"{NAME}/items",) if learns_ids else (),
            chooses=False,
        )
        parts = ("positions", *(f"block_{layer}" for layer in range(config.layers)))
        frozen = tuple(f"{NAME}/encoder/{part}" for part in parts) if self.freeze_encoder else ()
        fine_tuning = Stage((NAME,), FULL, max(self.epochs - self.pretrain_epochs, 0), NAME, frozen=frozen)
        system = single_network_system(NAME, network, config, self.epochs)
        if not self.pretrain_epochs:
            return system._replace(stages=(fine_tuning,))
        pretrained = network._replace(reads=network.reads._replace(optional=(dropped,)))
        return system._replace(
            networks={NAME: pretrained},
            components={NAME: Component(network, NAME)},
            objectives={
                CONTRASTIVE: lambda stage: contrastive(NAME, adapt, encode, contrast),
                FULL: lambda stage: full_softmax(NAME, network),
            },
            optimizers={PRETRAINING: given, NAME: config},
            optimized={PRETRAINING: (NAME,), NAME: (NAME,)},
            stages=(pretraining, fine_tuning),
            terms=(NEXT_ITEM, SAME_PREFIX),
        )


class Built(NamedTuple):
    """UniSRec's functions. Attributes: network; adapt and encode, which pretraining calls."""

    network: Network
    adapt: AdaptFn
    encode: EncodeFn


def build_network(config: UniSRecNetworkConfig, items: int, max_length: int, dtype: str, learns_ids: bool) -> Built:
    """The pure functions of UniSRec.

    Args:
      config: of the network.
      items: how many can be recommended.
      max_length: the longest prefix that the encoder sees.
      dtype: that of what products take.
      learns_ids: whether items have a learned row.
    """
    adaptor = MoEAdaptor(config.dim, config.experts, dtype, config.unit_variance)
    of_texts, adapt_rows = adapted_items(config.feature, adaptor, config.adaptor_dropout)
    of_items = learned_items(items, config.dim)
    settings = recbole_transformer(
        config.layers, config.heads, config.dropout, config.attention_dropout, config.inner, dtype
    )
    encoder = TransformerEncoder(settings, max_length)
    per_item = ("items/table",) if learns_ids else ()

    def adapt(params: Params, vectors: jax.Array, key: jax.Array | None = None) -> jax.Array:
        return adapt_rows(params["adaptor"], vectors, key)

    def encode(params: Params, inputs: jax.Array, batch: SessionBatch, key: jax.Array | None = None) -> jax.Array:
        return unit(encoded(encoder, params["encoder"], inputs, batch, key))

    def item_tables(params: Params, context: Context, key: jax.Array | None = None) -> ItemTables:
        table = of_texts.embed(params["adaptor"], context, key)
        if learns_ids:
            table = mesh.with_sharding_constraint(table + of_items.embed(params["items"], context), mesh.ITEMS)
        return ItemTables(unit(table), table)

    def session_embeddings(
        params: Params, tables: ItemTables, batch: SessionBatch, key: jax.Array | None = None
    ) -> jax.Array:
        hidden = encode(params, lookup(tables.inputs, batch.items), batch, key)
        return at_prefixes((hidden / config.temperature).astype(dtype), batch)

    def init(key: jax.Array, context: Context) -> Params:
        adaptor_key, encoder_key, table_key = jax.random.split(key, 3)
        inputs = jnp.zeros((1, max_length, config.dim))
        params = {
            "adaptor": of_texts.init(adaptor_key, context),
            "encoder": encoder.init(encoder_key, inputs, empty_batch(max_length), True)["params"],
        }
        params |= {"items": of_items.init(table_key, context)} if learns_ids else {}
        return zero_padding_rows(per_item, params, items)

    network = Network(
        init,
        item_tables,
        session_embeddings,
        items,
        config.dim,
        per_item,
        Reads(features=(config.feature,)),
        places_new_items=not learns_ids,
    )
    return Built(network, adapt, encode)
