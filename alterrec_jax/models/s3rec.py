"""S3-Rec (Zhou et al., CIKM 2020): a Transformer that is pretrained on items' attributes, then ranks as SASRec does.

The encoder has two post-LayerNorm blocks with GELU and biases everywhere, on LayerNorm(row of the item + row of its
position). In pretraining, the first `pretrain_epochs` of the `epochs`, an item sees its whole session, of which some
items are masked (`alterrec_jax.losses.s3_pretraining` has the four tasks). In fine-tuning an item sees those before it,
a prefix is read at its last item, scores are dot products with the items' rows, and the loss is the cross-entropy over
the catalogue. All parameters but the attributes' rows, MASK and the tasks' linear maps are those of both; the
optimizer begins anew.

Attributes are those of the dataset (`--attribute_columns` of preparation: brand and category path in the paper). With
`attributes_from_text=k` an item's only attribute is which of k clusters its text vector is in; their centres are found
when parameters are made, from the catalogue's vectors, and are parameters that no step changes.

Departures from the released code:

* terms are means over the places or sessions that they learn from, of the released weights; there they are sums, and a
  step grows with the batch. That of a place still is the sum over all attributes. The row of a padding attribute is
  left out of it;
* MIP and SP compare scores; `double_sigmoid` compares their sigmoids, as there, where the gradient vanishes if
  these are large, right or wrong;
* an example is a session; with `examples="prefixes"` it is a prefix of random length, drawn in each step. There it is
  each prefix of each session, so that an epoch has as many times more examples as sessions have items;
* a session of one item takes no part in SP (there the three sequences are equal); strangers are items of other
  sessions of the batch (there of all sessions, one's own among them);
* negatives, strangers and centres are of the catalogue; there held-out items are never negatives of their own user,
  and are among the strangers;
* rows are of whole sessions in both stages, so an epoch has some more steps than without pretraining;
* positions count from the session's first item; there from the end of a row of 50, behind pads;
* fine-tuning by cross-entropy over the catalogue instead of one sampled negative a place.

AAP and MAP first learn how frequent attributes are, and for some thousand steps, whatever their size, nothing else.
Hence the small batches, as the authors' pretraining has them.

RecBole's version pretrains positions on rows that are padded on the left and fine-tunes them on the right.
"""

import dataclasses

import jax
import jax.numpy as jnp

from alterrec_jax.config import OptimizerConfig, RunConfig, require_divisor, setting
from alterrec_jax.contract import (
    PACKED,
    WHOLE,
    CatalogueInfo,
    Context,
    ItemTables,
    Network,
    Objective,
    Params,
    Reads,
    SessionBatch,
    Stage,
    System,
    at_prefixes,
)
from alterrec_jax.data.dataset_files import TEXT
from alterrec_jax.data.features import ATTRIBUTES
from alterrec_jax.errors import UserError
from alterrec_jax.losses.s3_pretraining import S3_PRETRAINING, TASKS, EncodeFn, s3_pretraining
from alterrec_jax.models.registry import register
from alterrec_jax.models.single import FULL, single_network_system
from alterrec_jax.models.unimodal import empty_batch, encoded
from alterrec_jax.nn.clusters import cluster_centres, nearest_centre
from alterrec_jax.nn.item_tables import START, learned_items
from alterrec_jax.nn.transformer import TransformerEncoder, recbole_transformer
from alterrec_jax.sharding.lookup import lookup
from alterrec_jax.sharding.per_item import zero_padding_rows

NAME, PRETRAINING, CENTRES = "s3rec", "pretraining", "centres"
SESSIONS, PREFIXES = "sessions", "prefixes"


@dataclasses.dataclass(frozen=True)
class S3RecNetworkConfig(OptimizerConfig):
    """The network, and the optimizer of both stages; its rate falls in fine-tuning alone. Defaults are the authors'."""

    dim: int = setting(64, "width d of item and session embeddings", low=1)
    layers: int = setting(2, "Transformer blocks", low=1)
    heads: int = setting(2, "attention heads; a divisor of dim", low=1)
    inner: int = setting(256, "width of the feed-forward layers", low=1)
    dropout: float = setting(0.5, "rate inside the Transformer and on its input", low=0, below=1)
    attention_dropout: float = setting(0.5, "rate on the attention weights", low=0, below=1)


@dataclasses.dataclass(frozen=True)
class PretrainingConfig:
    """The four tasks of pretraining."""

    examples: str = setting(
        SESSIONS,
        "what is an example: a session, or a prefix of it of random length, drawn in each step",
        choices=(SESSIONS, PREFIXES),
    )
    mask_rate: float = setting(0.2, "probability of an item to be masked; the last one always is", low=0, high=1)
    aap: float = setting(0.2, "weight of associated attribute prediction, at items that are not masked", low=0)
    map: float = setting(1.0, "weight of masked attribute prediction", low=0)
    mip: float = setting(1.0, "weight of masked item prediction", low=0)
    sp: float = setting(0.5, "weight of segment prediction", low=0)
    double_sigmoid: bool = setting(False, "MIP and SP compare sigmoids of scores, not scores (released code)")
    attributes_from_text: int = setting(
        0, "attributes are so many clusters of the text vectors, say 256; 0: those of the dataset", low=0
    )


@register(
    NAME,
    title="S3-Rec",
    paper="Zhou et al., CIKM 2020",
    needs="attributes, or text, for its pretraining",
    layout=PACKED,
)
@dataclasses.dataclass(frozen=True)
class S3RecConfig(RunConfig):
    """S3-Rec."""

    batch_prefixes: int = setting(100, "prefixes a step, rounded to whole rows; few, for steps are what counts", low=1)
    epochs: int = setting(350, "epochs in all, those of pretraining among them", low=1)
    pretrain_epochs: int = setting(150, "the first so many epochs pretrain; 0: none", low=0)
    patience: int = setting(10, "stop after so many epochs without a better validation; 0: never", low=0)
    pretraining: PretrainingConfig = dataclasses.field(default_factory=PretrainingConfig)
    network: S3RecNetworkConfig = dataclasses.field(default_factory=S3RecNetworkConfig)

    def check(self) -> "S3RecConfig":
        """As `RunConfig.check`."""
        super().check()
        require_divisor("network.heads", self.network.heads, "network.dim", self.network.dim)
        return self

    def build(self, catalogue: CatalogueInfo) -> System:
        """The system, for a catalogue.

        Raises:
          UserError: it is to be pretrained, and the items have no attributes.
        """
        clusters = self.pretraining.attributes_from_text
        attributes = clusters or catalogue.classes.get(ATTRIBUTES, 1) - 1
        network, encode = build_network(
            self.network, catalogue.items, attributes, clusters > 0, self.max_length, self.precision
        )
        system = single_network_system(NAME, network, self.network, self.epochs)
        still = (f"{NAME}/{PRETRAINING}",) if attributes else ()  # weight decay would move it, for one
        fine_tuning = Stage((NAME,), FULL, max(self.epochs - self.pretrain_epochs, 0), NAME, frozen=still)
        if not self.pretrain_epochs:
            return system._replace(stages=(fine_tuning,))
        if not attributes:
            raise UserError(
                "s3rec needs attributes of the items to be pretrained; prepare the dataset with --attribute_columns, "
                "or let text do: pretraining.attributes_from_text=256"
            )
        objective = _objective(self.pretraining, network, encode)
        frozen = (f"{NAME}/{PRETRAINING}/{CENTRES}",) if clusters else ()
        epochs = min(self.pretrain_epochs, self.epochs)
        pretraining = Stage((NAME,), S3_PRETRAINING, epochs, PRETRAINING, frozen=frozen, chooses=False)
        only = "note: all of the epochs are pretraining, which learns no next item; start_from this run, or lengthen it"
        return system._replace(
            objectives={**system.objectives, S3_PRETRAINING: lambda stage: objective},
            optimizers={**system.optimizers, PRETRAINING: dataclasses.replace(self.network, decay_every=0)},
            optimized={**system.optimized, PRETRAINING: (NAME,)},
            stages=(pretraining, fine_tuning),
            terms=TASKS,
            notes=() if fine_tuning.epochs else (only,),
            train_layout=WHOLE,
        )


def build_network(
    config: S3RecNetworkConfig, items: int, attributes: int, from_text: bool, max_length: int, dtype: str
) -> tuple[Network, EncodeFn]:
    """The pure functions of S3-Rec, and what it makes of sessions in pretraining.

    Args:
      config: of the network.
      items: how many can be recommended.
      attributes: how many there are; 0 leaves out what only pretraining needs.
      from_text: whether they are clusters of text vectors.
      max_length: the longest prefix that is read.
      dtype: of what products take.
    """
    of_items, per_item, per_class = learned_items(items, config.dim), ("items/table",), {}
    settings = recbole_transformer(
        config.layers, config.heads, config.dropout, config.attention_dropout, config.inner, dtype
    )
    length = max_length + (attributes > 0)  # rows of whole sessions have one position more
    causal, bidirectional = (TransformerEncoder(settings, length, causal=causal) for causal in (True, False))
    if attributes and not from_text:
        per_class = {f"{PRETRAINING}/{ATTRIBUTES}": ATTRIBUTES}
    reads = Reads(features=(TEXT if from_text else ATTRIBUTES,) if attributes else ())

    def item_tables(params: Params, context: Context, key: jax.Array | None = None) -> ItemTables:
        return ItemTables(of_items.embed(params["items"], context, key))

    def session_embeddings(
        params: Params, tables: ItemTables, batch: SessionBatch, key: jax.Array | None = None
    ) -> jax.Array:
        hidden: jax.Array = encoded(causal, params["encoder"], lookup(tables.inputs, batch.items), batch, key)
        return at_prefixes(hidden.astype(dtype), batch)

    def encode(params: Params, inputs: jax.Array, sessions: SessionBatch, key: jax.Array | None = None) -> jax.Array:
        hidden: jax.Array = encoded(bidirectional, params["encoder"], inputs, sessions, key)
        return hidden

    def init(key: jax.Array, context: Context) -> Params:
        table_key, encoder_key, pretraining_key, centre_key = jax.random.split(key, 4)
        inputs = jnp.zeros((1, max_length, config.dim))
        params = {
            "items": of_items.init(table_key, context),
            "encoder": causal.init(encoder_key, inputs, empty_batch(max_length), True)["params"],
        }
        if attributes:
            params[PRETRAINING] = _pretraining_params(pretraining_key, attributes, config.dim)
        if attributes and from_text:
            params[PRETRAINING][CENTRES] = cluster_centres(centre_key, context.features[TEXT], attributes)
        return zero_padding_rows(per_item, params, items)

    network = Network(init, item_tables, session_embeddings, items, config.dim, per_item, reads, per_class=per_class)
    return network, encode


def _pretraining_params(key: jax.Array, attributes: int, dim: int) -> Params:
    """What only pretraining needs: MASK, the attributes' rows (row 0 is read by nobody) and a linear map a task."""
    mask_key, attribute_key, *keys = jax.random.split(key, 2 + len(TASKS))

    def normal(key: jax.Array, *shape: int) -> jax.Array:
        return START * jax.random.normal(key, shape)

    maps = {
        task: {"kernel": normal(task_key, dim, dim), "bias": jnp.zeros(dim)}
        for task, task_key in zip(TASKS, keys, strict=True)
    }
    return {"mask": normal(mask_key, dim), ATTRIBUTES: normal(attribute_key, 1 + attributes, dim), **maps}


def _objective(config: PretrainingConfig, network: Network, encode: EncodeFn) -> Objective:
    def attributes_of(params: Params, context: Context, items: jax.Array) -> jax.Array:
        if not config.attributes_from_text:
            return lookup(context.features[ATTRIBUTES], items)
        return nearest_centre(lookup(context.features[TEXT], items), params[PRETRAINING][CENTRES])[..., None]

    return s3_pretraining(
        NAME,
        network,
        encode,
        attributes_of,
        weights={task: getattr(config, task) for task in TASKS},
        mask_rate=config.mask_rate,
        prefixes=config.examples == PREFIXES,
        double_sigmoid=config.double_sigmoid,
    )
