"""SRIM (Liang and Yang, 2025): sessions by their items' IDs and by their modality, each with an attention.

Items have a row for the ID and one for the modality, which are spread over the graph of what stands together in
training sessions (`models.two_tables`, eqs. 4 and 6; the modality is text, with words for the image where the dataset
has them, eqs. 1-3). Of a prefix, each goes through the direct attention of `nn.direct_attention` (eqs. 7 and 8):

    q = mean over t of s_t,   s = softmax((X W_Q + b) X^T / sqrt(d / heads)) X

and scores are q_id . E_id + q_mo . E_mo (eq. 14): dot products of vectors that lie side by side, so the views `id` and
`modality` are what each half adds. The loss is that of `losses.srim` (eqs. 9-17).

Defaults are the equations, with repairs, and the settings of the paper's text. Departures from both paper and code:

* the graph, the flags of joint inference and the companions of L_co are counted from training sessions alone, and a
  flag leaves out the prefix's own session. The published numbers seem to be of a graph that joins each test prefix to
  its answer, as DIMO's is (SRIM's preprocessing is not released): they are nothing to be reached;
* the modality's table starts from principal components, or is a linear map; in the released code its initialisation
  overwrites them, so that no text reaches the model;
* every prefix of a session is learned, where there the last item alone is.

Departures from the paper: queries have a bias (code); a layer is (X + D^-1 A X) / 2, for eq. 4 as printed forgets items
without neighbours and smooths all others (`gcn`: `weighted`; the code has the sum, `sum`); what `losses.srim` repairs.
Departures from the code: the readout is the mean (`readout`: `last`); losses are means, of the right sign, on arguments
in the intended order (`losses.form`: `released` has the code's, but for one mistake: L_joint there takes the row of the
item with the number before the target's). `experiments/configs/srim_official.py` sets all of these.

The paper's variants: -IdMo is `losses.alignment=False`, -JoIn `losses.joint_inference=False`, -DirAtt and LinAtt are
`network.attention=linear`, NoAtt is `none`. The two phases that its abstract speaks of, each modality alone and then
both, are in neither its equations nor its code: `independent_epochs`.

In training the graph holds the pair that is to be predicted, too, as any graph of the training sessions does; in
evaluation it does not. Many layers smooth all rows into one on dense data: choose `layers` on validation.

It needs text vectors, and is refused without. Without image words the modality is text alone. An item that was not in
training cannot be recommended.
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
    Objective,
    Params,
    SessionBatch,
    Stage,
    System,
    at_prefixes,
)
from alterrec_jax.losses.cooccurrence import COOCCURRENCE
from alterrec_jax.losses.id_and_modality import COMPANIONS, EncodeFn, Prefixes
from alterrec_jax.losses.objectives import NEXT_ITEM
from alterrec_jax.losses.srim import (
    ALIGNMENT,
    ID_ALONE,
    JOINT_INFERENCE,
    MAPS,
    MAPS_OF_ALIGNMENT,
    MET,
    MODALITY_ALONE,
    REPAIRED,
    SRIMLoss,
    independent_objective,
    joint_objective,
)
from alterrec_jax.models.registry import register
from alterrec_jax.models.single import halves_of, single_network_system
from alterrec_jax.models.two_tables import FUSED, PARTS, TwoTablesConfig, two_tables
from alterrec_jax.models.unimodal import uniform_params
from alterrec_jax.nn.direct_attention import LAST, MEAN, attended, prefix_mean
from alterrec_jax.numerics import product
from alterrec_jax.sharding.lookup import lookup
from alterrec_jax.sharding.per_item import zero_padding_rows

DIRECT, LINEAR_ATTENTION, NO_ATTENTION = "direct", "linear", "none"
INDEPENDENT = "independent"
"""The stage in which each modality trains alone, and its optimizer."""


@dataclasses.dataclass(frozen=True)
class SRIMNetworkConfig(TwoTablesConfig):
    """The network; defaults are the paper's."""

    heads: int = setting(2, "attention heads of each modality; a divisor of dim", low=1)
    attention: str = setting(
        DIRECT,
        "direct: queries are mapped, keys and values are not; linear: queries are the rows, too; none: no attention",
        choices=(DIRECT, LINEAR_ATTENTION, NO_ATTENTION),
    )
    readout: str = setting(
        MEAN, "of what attention makes of a prefix's items: the mean, or the last (released code)", choices=(MEAN, LAST)
    )
    attention_dropout: float = setting(0.2, "rate on the attention weights", low=0, below=1)
    l2: float = setting(1e-5, "L2 added to the gradient before Adam (PyTorch's weight_decay); 0: none", low=0)


@dataclasses.dataclass(frozen=True)
class SRIMLossConfig:
    """What is added to the cross-entropy."""

    alignment: bool = setting(True, "whether modalities are aligned (eq. 11); without it the paper's variant -IdMo")
    joint_inference: bool = setting(True, "whether each finds the next item (eq. 13); without it the variant -JoIn")
    cooccurrence: bool = setting(True, "whether items resemble those that they often stand with (eq. 17)")
    beta: float = setting(0.01, "weight of these", low=0)
    form: str = setting(
        REPAIRED, "repaired: means, as the paper describes them; or as the released code has them", choices=tuple(MAPS)
    )
    cooccurrence_items: int = setting(512, "items that a step compares with their companions; released: all", low=1)

    @property
    def terms(self) -> tuple[str, ...]:
        """Which terms there are."""
        return tuple(term for term in (ALIGNMENT, JOINT_INFERENCE, COOCCURRENCE) if getattr(self, term))


@register("srim", title="SRIM", paper="Liang and Yang, 2025", needs="text vectors", layout=PACKED)
@dataclasses.dataclass(frozen=True)
class SRIMConfig(RunConfig):
    """SRIM."""

    batch_prefixes: int = setting(50, "prefixes a step, rounded to whole rows", low=1)
    max_length: int = setting(20, "items of a session that an encoder sees, and positions of a row", low=1)
    epochs: int = setting(20, "epochs in all, those of each modality alone among them", low=1)
    independent_epochs: int = setting(0, "in the first so many epochs each modality trains alone; 0: none", low=0)
    network: SRIMNetworkConfig = dataclasses.field(default_factory=SRIMNetworkConfig)
    losses: SRIMLossConfig = dataclasses.field(default_factory=SRIMLossConfig)

    def check(self) -> "SRIMConfig":
        """As `RunConfig.check`."""
        super().check()
        require_divisor("network.heads", self.network.heads, "network.dim", self.network.dim)
        return self

    def build(self, catalogue: CatalogueInfo) -> System:
        """The system, for a catalogue."""
        given, terms = self.losses, self.losses.terms
        maps = MAPS[given.form] if ALIGNMENT in terms else 0
        whole, encode = build_network(self.network, catalogue.items, self.precision, maps)
        loss = SRIMLoss(terms, given.beta, given.form, given.cooccurrence_items, self.precision)
        objective = joint_objective(FUSED, whole, encode, loss)
        parts = halves_of(whole, PARTS)
        system = single_network_system(FUSED, whole, self.network, self.epochs, objective=objective, parts=parts)
        # What losses read, nobody reads who only scores.
        read = {COOCCURRENCE: COMPANIONS, JOINT_INFERENCE: MET}
        graphs = (*whole.reads.graphs, *(graph for term, graph in read.items() if term in terms))
        trained = whole._replace(reads=whole.reads._replace(graphs=graphs))
        system = system._replace(networks={FUSED: trained}, terms=(NEXT_ITEM, *terms) if terms else ())
        if not self.independent_epochs:
            return system
        return self._with_phases(system, independent_objective(FUSED, whole, encode, self.precision))

    def _with_phases(self, system: System, objective: Objective) -> System:
        """The system whose modalities train alone first. What only the joint loss reads stays as it is."""
        epochs, optimizer = min(self.independent_epochs, self.epochs), self.network
        still = (f"{FUSED}/{MAPS_OF_ALIGNMENT}",) if self.losses.alignment else ()
        independent = Stage((FUSED,), INDEPENDENT, epochs, INDEPENDENT, frozen=still, chooses=False)
        (joint,) = system.stages
        return system._replace(
            objectives={**system.objectives, INDEPENDENT: lambda stage: objective},
            optimizers={**system.optimizers, INDEPENDENT: dataclasses.replace(optimizer, decay_every=0)},
            optimized={**system.optimized, INDEPENDENT: (FUSED,)},
            stages=(independent, joint._replace(epochs=self.epochs - epochs)),
            terms=(NEXT_ITEM, *self.losses.terms, ID_ALONE, MODALITY_ALONE),
        )


class Built(NamedTuple):
    """SRIM's functions. Attributes: network; encode, which its losses call."""

    network: Network
    encode: EncodeFn


def build_network(config: SRIMNetworkConfig, items: int, dtype: str, maps: int = 0) -> Built:
    """The pure functions of SRIM.

    Args:
      config: of the network.
      items: how many can be recommended.
      dtype: that of what products take.
      maps: how many maps of the alignment are among its parameters.
    """
    dim, of_items = config.dim, two_tables(config, items, dtype)
    per_item = tuple(f"items/{path}" for path in of_items.per_item)

    def item_tables(params: Params, context: Context, key: jax.Array | None = None) -> ItemTables:
        return ItemTables(of_items.embed(params["items"], context, key))

    def attention(params: Params, rows: jax.Array, batch: SessionBatch, key: jax.Array | None) -> jax.Array:
        """float32 [row, position, 2 * dim]: the heads of both modalities beside each other."""
        if config.attention == NO_ATTENTION:
            mean = config.readout == MEAN
            return jnp.einsum("rjk,rkd->rjd", prefix_mean(batch), rows, precision="highest") if mean else rows
        queries = rows
        if config.attention == DIRECT:
            linear = [(params["queries"][part], half) for part, half in zip(PARTS, jnp.split(rows, 2, -1), strict=True)]
            mapped = [product(half, one["kernel"], dtype) + one["bias"][None, None] for one, half in linear]
            queries = jnp.concatenate(mapped, axis=-1)
        return attended(queries, rows, batch, 2 * config.heads, config.readout, config.attention_dropout, key)

    def encode(params: Params, tables: ItemTables, batch: SessionBatch, key: jax.Array | None = None) -> Prefixes:
        rows = lookup(tables.inputs, batch.items)
        mean = jnp.einsum("rjk,rkd->rjd", prefix_mean(batch), rows, precision="highest")
        found = (at_prefixes(hidden, batch) for hidden in (attention(params, rows, batch, key), mean))
        return Prefixes(*(half for both in found for half in jnp.split(both, 2, axis=1)))

    def session_embeddings(
        params: Params, tables: ItemTables, batch: SessionBatch, key: jax.Array | None = None
    ) -> jax.Array:
        prefixes = encode(params, tables, batch, key)
        return jnp.concatenate([prefixes.q_id, prefixes.q_mo], axis=1).astype(dtype)

    def init(key: jax.Array, context: Context) -> Params:
        table_key, uniform_key = jax.random.split(key)
        linear = {"kernel": jnp.zeros((dim, dim)), "bias": jnp.zeros(dim)}
        layers: Params = {"queries": dict.fromkeys(PARTS, linear)} if config.attention == DIRECT else {}
        layers |= {MAPS_OF_ALIGNMENT: {str(number): linear for number in range(1, maps + 1)}} if maps else {}
        params = {"items": of_items.init(table_key, context), **uniform_params(uniform_key, layers, dim)}
        return zero_padding_rows(per_item, params, items)

    network = Network(init, item_tables, session_embeddings, items, 2 * dim, per_item, of_items.reads)
    return Built(network, encode)
