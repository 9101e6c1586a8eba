"""LLM2BERT4Rec (Harte et al., RecSys 2023): BERT4Rec whose item table starts from vectors of the items' texts.

With V the text vectors of the items, E starts as the first d principal components of V (centred, neither whitened nor
rescaled) and trains on; only the start knows the texts. The network fills gaps as `models.bert4rec` does, in the form
that the authors wrote:

    h = blocks(E_s + P),  z = GELU(W h + b),  y_v = z . E_v

Neither LayerNorm nor dropout on the input, none behind the head, no bias of the items (what is called one in their code
is one number for all items, which no ranking and no softmax sees); LayerNorm's epsilon is 1e-5, and feed-forward layers
are 4d wide. Heads need not divide d: each is floor(d / heads) wide, and a map leads from all of them back to d. MASK
has a start of its own, random. Positions count from the end, so that the MASK behind a prefix always has the last one.

With `start.method=random` it is their BERT4Rec. `start` has the other starts too: a random projection, which their
extended paper (Boz et al., 2024) compares, and the raw vectors.

Defaults are those of the LLM2BERT4Rec that they released for Amazon Beauty, of 19 items and MASK. Its vectors were
OpenAI's (text-embedding-ada-002, 1536 wide); others give other results.

Departures from the released code. Short sessions are not filled up (there pads are MASKs, which every item attends to).
Components are fitted on the catalogue's items that have a text, not on all products of a file; items without one get
normal numbers with the components' spread. A session is masked once an epoch: its last item alone, with probability
`mask_last`, or a share `mask_rate` of its items, one at least; there an epoch has it eleven times, once with its last
item masked and ten times each item with probability `mask_rate`. Items before the last 20 are learned, too. Weights
begin as flax's, MASK and a random table from N(0, 0.02); there weights are Glorot-uniform, of one seed for all, and
MASK and table uniform within 0.05. The gradient is not clipped; there each variable's is, to a norm of 5.
"""

import dataclasses

from alterrec_jax.config import RunConfig, require, setting
from alterrec_jax.contract import PREFIX, CatalogueInfo, Network, System
from alterrec_jax.losses.cloze import EncodeFn
from alterrec_jax.models.bert4rec import ClozeConfig, ClozeEncoder, cloze_network, cloze_system
from alterrec_jax.models.registry import register
from alterrec_jax.nn.item_tables import NORM_EPSILON, learned_items
from alterrec_jax.nn.table_starts import PCA, TableStart
from alterrec_jax.nn.transformer import TransformerEncoder, TransformerSettings


@dataclasses.dataclass(frozen=True)
class LLM2BERT4RecNetworkConfig(ClozeConfig):
    """The network; defaults are the authors' for Amazon Beauty."""

    dim: int = setting(208, "width d of item and session embeddings", low=1)
    layers: int = setting(3, "Transformer blocks", low=1)
    heads: int = setting(3, "attention heads, each dim / heads wide, rounded down", low=1)
    dropout: float = setting(0.0, "rate behind each sublayer of the Transformer", low=0, below=1)
    mask_rate: float = setting(0.5, "the share of a session's items that is masked, one at least", above=0, high=1)
    learning_rate: float = setting(1e-4, "learning rate of Adam", above=0)
    weight_decay: float = setting(0.002, "decoupled weight decay (AdamW); 0: none", low=0)


@register(
    "llm2bert4rec",
    title="LLM2BERT4Rec",
    paper="Harte et al., RecSys 2023",
    needs="text or other vectors, at the start alone",
    layout=PREFIX,
)
@dataclasses.dataclass(frozen=True)
class LLM2BERT4RecConfig(RunConfig):
    """LLM2BERT4Rec."""

    batch_prefixes: int = setting(
        2048, "prefixes a step, rounded to whole rows; a session has one less than items", low=1
    )
    max_length: int = setting(19, "items of a session that an encoder sees, and positions of a row", low=1)
    start: TableStart = TableStart(PCA)
    network: LLM2BERT4RecNetworkConfig = dataclasses.field(default_factory=LLM2BERT4RecNetworkConfig)

    def check(self) -> "LLM2BERT4RecConfig":
        """As `RunConfig.check`."""
        super().check()
        heads, dim = self.network.heads, self.network.dim
        require(heads <= dim, "network.heads", heads, f"at most network.dim ({dim})")
        return self

    def build(self, catalogue: CatalogueInfo) -> System:
        """The system, for a catalogue."""
        network, encode = build_network(self.network, self.start, catalogue.items, self.max_length, self.precision)
        return cloze_system("llm2bert4rec", network, encode, self.network, self.epochs)


def build_network(
    config: LLM2BERT4RecNetworkConfig, start: TableStart, items: int, max_length: int, dtype: str
) -> tuple[Network, EncodeFn]:
    """The pure functions of LLM2BERT4Rec, and what it makes of any sessions with hidden items."""
    settings = TransformerSettings(
        config.layers,
        config.heads,
        config.dropout,
        dtype,
        attention_dropout=0.0,
        activation="gelu",
        attention_bias=True,
        norm_epsilon=NORM_EPSILON,
        head_dim=config.dim // config.heads,
        bare_input=True,
    )
    transformer = TransformerEncoder(settings, max_length + 1, causal=False)
    encoder = ClozeEncoder(transformer, head_norm=False, from_end=True)
    return cloze_network(learned_items(items, config.dim, start=start), encoder, items, config.dim, bias=False)
