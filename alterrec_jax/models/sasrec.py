"""SASRec (Kang and McAuley, 2018): a causal Transformer on IDs, here by softmax over the whole catalogue.

The block is AlterRec's (post-LayerNorm, ReLU, no attention bias), so that it is the paper's baseline: AlterRec's ID
network alone. The paper of SASRec has pre-LayerNorm blocks and one sampled negative with binary cross-entropy; the
full softmax is what later work (and both papers' tables, by RecBole) trains it with, and is stronger.

LLM2SASRec (Harte et al., 2023; its SASRec form in their extended paper) is the same with an item table that starts from
the principal components of the items' text vectors, and trains on (`nn.table_starts`: centred, fitted on the
catalogue's items that have a vector; the authors fit on all products of their file).
"""

import dataclasses

from alterrec_jax.config import RunConfig, setting
from alterrec_jax.contract import PACKED, CatalogueInfo, System
from alterrec_jax.models.registry import register
from alterrec_jax.models.single import single_network_system
from alterrec_jax.models.unimodal import EncoderConfig, build_network, check_encoder, encoder_notes, optimizer_of
from alterrec_jax.nn.item_tables import learned_items
from alterrec_jax.nn.table_starts import PCA, TableStart


@dataclasses.dataclass(frozen=True)
class TransformerOnIdsConfig(EncoderConfig):
    """The only network of SASRec and LLM2SASRec."""

    dim: int = setting(64, "width d of item and session embeddings", low=1)
    dropout: float = setting(0.3, "rate inside the Transformer and on its input", low=0, below=1)


@register("sasrec", title="SASRec", paper="Kang and McAuley, 2018", layout=PACKED)
@dataclasses.dataclass(frozen=True)
class SASRecConfig(RunConfig):
    """SASRec."""

    network: TransformerOnIdsConfig = dataclasses.field(default_factory=TransformerOnIdsConfig)

    def check(self) -> "SASRecConfig":
        """As `RunConfig.check`."""
        super().check()
        check_encoder("network", self.network)
        return self

    def build(self, catalogue: CatalogueInfo) -> System:
        """The system, for a catalogue."""
        return self._system(catalogue, TableStart())

    def _system(self, catalogue: CatalogueInfo, start: TableStart) -> System:
        part = self.network
        items = learned_items(catalogue.items, part.dim, part.item_norm, start)
        network = build_network(part, catalogue, items, self.max_length, self.precision)
        notes = encoder_notes({"id": part}, catalogue)
        return single_network_system("id", network, optimizer_of(part, catalogue), self.epochs, notes=notes)


@register(
    "llm2sasrec",
    title="LLM2SASRec",
    paper="Harte et al., RecSys 2023; Boz et al., 2024",
    needs="text or other vectors, at the start alone",
    layout=PACKED,
)
@dataclasses.dataclass(frozen=True)
class LLM2SASRecConfig(SASRecConfig):
    """LLM2SASRec."""

    start: TableStart = TableStart(PCA)

    def build(self, catalogue: CatalogueInfo) -> System:
        """The system, for a catalogue."""
        return self._system(catalogue, self.start)
