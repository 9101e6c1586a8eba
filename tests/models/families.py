"""Tiny configurations for the tests that run over the registry: one at least of every family that trains."""

from alterrec_jax.config import ProtocolConfig, RunConfig
from alterrec_jax.models.alterrec import AlterRecConfig, MiningConfig
from alterrec_jax.models.core import COREConfig, CORENetworkConfig
from alterrec_jax.models.msgifsr import MSGIFSRConfig, MSGIFSRNetworkConfig
from alterrec_jax.models.neighbours import NeighbourConfig
from alterrec_jax.models.nfrec import FusedNetworkConfig, NFRecConfig
from alterrec_jax.models.sasrec import LLM2SASRecConfig, SASRecConfig, TransformerOnIdsConfig
from alterrec_jax.models.sr_gnn import SRGNNConfig, SRGNNNetworkConfig
from alterrec_jax.models.unimodal import (
    AttributeNetworkConfig,
    IdNetworkConfig,
    VectorNetworkConfig,
    VectorsConfig,
)

LENGTH, BATCH = 11, 24
PROTOCOL = ProtocolConfig(exclude_session_items="no")
RATE = 0.03

TINY: dict[str, RunConfig] = {
    "alterrec": AlterRecConfig(
        max_length=LENGTH,
        batch_prefixes=BATCH,
        protocol=PROTOCOL,
        epochs=4,
        warmup_epochs=1,
        turn_epochs=1,
        networks={
            "id": IdNetworkConfig(dim=6, layers=1, heads=2, dropout=0.3, learning_rate=RATE),
            "text": VectorNetworkConfig(dim=8, layers=1, heads=2, dropout=0.3, learning_rate=RATE, mlp_hidden=(17,)),
        },
        mining=MiningConfig(k1=1, k2=20, augment=False),
    ),
    "alterrec of three": AlterRecConfig(
        max_length=LENGTH,
        batch_prefixes=BATCH,
        protocol=PROTOCOL,
        epochs=6,
        warmup_epochs=1,
        turn_epochs=1,
        networks={
            "id": IdNetworkConfig(peer="rest", encoder="mean", dim=6, learning_rate=RATE),
            "text": VectorNetworkConfig(peer="id", encoder="mean", dim=4, learning_rate=RATE, mlp_hidden=(7,)),
            "attributes": AttributeNetworkConfig(peer="rest", encoder="mean", dim=5, learning_rate=RATE),
        },
        mining=MiningConfig(k1=3, k2=20, p=2),
    ),
    "alterrec with neighbours": AlterRecConfig(
        max_length=LENGTH,
        batch_prefixes=BATCH,
        protocol=PROTOCOL,
        epochs=4,
        warmup_epochs=1,
        turn_epochs=1,
        networks={
            "id": IdNetworkConfig(peer="rest", encoder="mean", dim=6, learning_rate=RATE),
            "text": VectorNetworkConfig(peer="together", encoder="mean", dim=4, learning_rate=RATE, mlp_hidden=(7,)),
            "together": NeighbourConfig(ridge=1.0, neighbours=9),
            "following": NeighbourConfig(relation="following", decay=0.5, ridge=1.0),
        },
        mining=MiningConfig(negatives="weighted", augment=False),
    ),
    "nfrec": NFRecConfig(
        max_length=LENGTH,
        batch_prefixes=BATCH,
        protocol=PROTOCOL,
        epochs=2,
        network=FusedNetworkConfig(encoder="transformer", dim=6, layers=1, dropout=0.3, learning_rate=RATE),
        text=VectorsConfig(mlp_hidden=(7,)),
    ),
    "sasrec": SASRecConfig(
        max_length=LENGTH,
        batch_prefixes=BATCH,
        protocol=PROTOCOL,
        epochs=2,
        network=TransformerOnIdsConfig(dim=6, layers=1, dropout=0.3, learning_rate=RATE),
    ),
    "llm2sasrec": LLM2SASRecConfig(
        max_length=LENGTH,
        batch_prefixes=BATCH,
        protocol=PROTOCOL,
        epochs=2,
        network=TransformerOnIdsConfig(dim=4, layers=1, dropout=0.3, learning_rate=RATE),
    ),
    "core": COREConfig(
        max_length=LENGTH,
        batch_prefixes=BATCH,
        protocol=PROTOCOL,
        epochs=2,
        network=CORENetworkConfig(dim=6, layers=1, inner=5, dropout=0.3, learning_rate=RATE),
    ),
    "sr_gnn": SRGNNConfig(
        max_length=LENGTH,
        batch_prefixes=BATCH,
        protocol=PROTOCOL,
        epochs=2,
        network=SRGNNNetworkConfig(dim=8, learning_rate=RATE, decay_every=0),
    ),
    "msgifsr": MSGIFSRConfig(
        max_length=LENGTH,
        batch_prefixes=BATCH,
        protocol=PROTOCOL,
        epochs=2,
        network=MSGIFSRNetworkConfig(dim=8, heads=2, dropout=0.3, learning_rate=RATE, decay_every=0),
    ),
}
