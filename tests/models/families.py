"""Tiny configurations for the tests that run over the registry: one at least of every family that trains."""

from typing import Any

from alterrec_jax.config import ProtocolConfig, RunConfig
from alterrec_jax.models.alterrec import AlterRecConfig, MiningConfig
from alterrec_jax.models.atten_mixer import AttenMixerConfig, AttenMixerNetworkConfig
from alterrec_jax.models.bert4rec import BERT4RecConfig, BERT4RecNetworkConfig
from alterrec_jax.models.bsarec import BSARecConfig, BSARecNetworkConfig
from alterrec_jax.models.cohhn import CoHHNConfig, CoHHNNetworkConfig
from alterrec_jax.models.core import COREConfig, CORENetworkConfig
from alterrec_jax.models.dimo import DIMOConfig, DIMONetworkConfig
from alterrec_jax.models.fdsa import FDSAConfig, FDSANetworkConfig
from alterrec_jax.models.hg_gnn import HGGNNConfig, HGGNNNetworkConfig
from alterrec_jax.models.llm2bert4rec import LLM2BERT4RecConfig, LLM2BERT4RecNetworkConfig
from alterrec_jax.models.mgs import MGSConfig, MGSNetworkConfig
from alterrec_jax.models.mmsbr import MMSBRConfig, MMSBRNetworkConfig
from alterrec_jax.models.msgat import MSGATConfig, MSGATNetworkConfig
from alterrec_jax.models.msgifsr import MSGIFSRConfig, MSGIFSRNetworkConfig
from alterrec_jax.models.narm import NARMConfig, NARMNetworkConfig
from alterrec_jax.models.neighbours import NeighbourConfig
from alterrec_jax.models.nfrec import FusedNetworkConfig, NFRecConfig
from alterrec_jax.models.s3rec import S3RecConfig, S3RecNetworkConfig
from alterrec_jax.models.sasrec import LLM2SASRecConfig, SASRecConfig, TransformerOnIdsConfig
from alterrec_jax.models.sr_gnn import SRGNNConfig, SRGNNNetworkConfig
from alterrec_jax.models.srim import SRIMConfig, SRIMNetworkConfig
from alterrec_jax.models.unimodal import (
    AttributeNetworkConfig,
    IdNetworkConfig,
    VectorNetworkConfig,
    VectorsConfig,
)
from alterrec_jax.models.unisrec import INDUCTIVE, UniSRecConfig, UniSRecNetworkConfig
from alterrec_jax.nn.table_starts import RANDOM_PROJECTION, TableStart

LENGTH, BATCH = 11, 24
PROTOCOL = ProtocolConfig(exclude_session_items="no")
RATE = 0.03


def tiny(kind: type[RunConfig], epochs: int = 2, **fields: Any) -> RunConfig:
    """A configuration of the sizes that all share."""
    return kind(max_length=LENGTH, batch_prefixes=BATCH, protocol=PROTOCOL, epochs=epochs, **fields)


TINY: dict[str, RunConfig] = {
    "alterrec": tiny(
        AlterRecConfig,
        epochs=4,
        warmup_epochs=1,
        turn_epochs=1,
        networks={
            "id": IdNetworkConfig(dim=6, layers=1, heads=2, dropout=0.3, learning_rate=RATE),
            "text": VectorNetworkConfig(dim=8, layers=1, heads=2, dropout=0.3, learning_rate=RATE, mlp_hidden=(17,)),
        },
        mining=MiningConfig(k1=1, k2=20, augment=False),
    ),
    "alterrec of three": tiny(
        AlterRecConfig,
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
    "alterrec with neighbours": tiny(
        AlterRecConfig,
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
    "nfrec": tiny(
        NFRecConfig,
        network=FusedNetworkConfig(encoder="transformer", dim=6, layers=1, dropout=0.3, learning_rate=RATE),
        text=VectorsConfig(mlp_hidden=(7,)),
    ),
    "sasrec": tiny(
        SASRecConfig,
        network=TransformerOnIdsConfig(dim=6, layers=1, dropout=0.3, learning_rate=RATE),
    ),
    "llm2sasrec": tiny(
        LLM2SASRecConfig,
        network=TransformerOnIdsConfig(dim=4, layers=1, dropout=0.3, learning_rate=RATE),
    ),
    "core": tiny(
        COREConfig,
        network=CORENetworkConfig(dim=6, layers=1, inner=5, dropout=0.3, learning_rate=RATE),
    ),
    "sr_gnn": tiny(
        SRGNNConfig,
        network=SRGNNNetworkConfig(dim=8, learning_rate=RATE, decay_every=0),
    ),
    "narm": tiny(NARMConfig, network=NARMNetworkConfig(dim=6, state=7, learning_rate=RATE)),
    "atten_mixer": tiny(
        AttenMixerConfig,
        network=AttenMixerNetworkConfig(dim=6, levels=3, heads=2, learning_rate=RATE, decay_every=0),
    ),
    "hg_gnn": tiny(HGGNNConfig, network=HGGNNNetworkConfig(dim=8, window=4, learning_rate=RATE, decay_every=0)),
    "bert4rec": tiny(
        BERT4RecConfig,
        network=BERT4RecNetworkConfig(dim=24, layers=1, inner=16, dropout=0.3, mask_rate=0.5, learning_rate=0.007),
    ),
    "msgat": tiny(
        MSGATConfig,
        network=MSGATNetworkConfig(dim=6, heads=2, neighbours="itself", learning_rate=RATE, decay_every=0),
    ),
    "bsarec": tiny(
        BSARecConfig,
        network=BSARecNetworkConfig(dim=6, layers=1, dropout=0.3, attention_dropout=0.3, learning_rate=RATE),
    ),
    "bsarec without pads": tiny(
        BSARecConfig,
        network=BSARecNetworkConfig(padding="none", dim=6, layers=1, dropout=0.3, learning_rate=RATE),
    ),
    "msgifsr": tiny(
        MSGIFSRConfig,
        network=MSGIFSRNetworkConfig(dim=8, heads=2, dropout=0.3, learning_rate=RATE, decay_every=0),
    ),
    "llm2bert4rec": tiny(
        LLM2BERT4RecConfig,
        start=TableStart(RANDOM_PROJECTION, scale=0.02),
        network=LLM2BERT4RecNetworkConfig(dim=24, layers=1, heads=5, dropout=0.3, learning_rate=0.007),
    ),
    "s3rec": tiny(
        S3RecConfig,
        epochs=3,
        pretrain_epochs=1,
        network=S3RecNetworkConfig(dim=12, layers=1, inner=16, dropout=0.3, attention_dropout=0.3, learning_rate=RATE),
    ),
    "unisrec": tiny(
        UniSRecConfig,
        mode=INDUCTIVE,
        pretrain_epochs=1,
        network=UniSRecNetworkConfig(dim=12, experts=3, layers=1, inner=8, dropout=0.3, learning_rate=0.015),
    ),
    "fdsa": tiny(
        FDSAConfig,
        network=FDSANetworkConfig(
            features=("text", "category", "brand", "attributes"),
            dim=8,
            layers=1,
            inner=5,
            dropout=0.3,
            attention_dropout=0.3,
            learning_rate=RATE,
        ),
    ),
    "mgs": tiny(
        MGSConfig,
        network=MGSNetworkConfig(
            dim=8, steps=1, peers=3, dropout=0.3, last_item=0.5, contrast=0.1, learning_rate=RATE, decay_every=0
        ),
    ),
    "dimo": tiny(
        DIMOConfig,
        network=DIMONetworkConfig(dim=4, heads=2, layers=2, table_dropout=0.2, items_compared=20, learning_rate=RATE),
    ),
    "srim": tiny(
        SRIMConfig,
        independent_epochs=1,
        network=SRIMNetworkConfig(dim=4, layers=2, table_dropout=0.2, learning_rate=RATE),
    ),
    "mmsbr": tiny(
        MMSBRConfig,
        network=MMSBRNetworkConfig(
            dim=12, pivots=2, tokens=1, pairs=1, heads=2, fusion_dropout=0.3, price_levels=5, learning_rate=RATE
        ),
    ),
    "cohhn": tiny(
        CoHHNConfig,
        network=CoHHNNetworkConfig(dim=6, levels=5, layers=1, heads=2, learning_rate=RATE),
    ),
}
