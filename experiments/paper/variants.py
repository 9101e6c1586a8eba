"""The models that the study compares, each made from the AlterRec configuration that it starts from.

A network that trains alone gets as many epochs as it gets inside AlterRec, whose `epochs` count those of both.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

from alterrec_jax.config import RunConfig
from alterrec_jax.errors import UserError
from alterrec_jax.models.alterrec import AlterRecConfig
from alterrec_jax.models.nfrec import FusedNetworkConfig, NFRecConfig
from alterrec_jax.models.sasrec import SASRecConfig, TransformerOnIdsConfig
from alterrec_jax.models.unimodal import EncoderConfig, IdNetworkConfig, VectorNetworkConfig, VectorsConfig
from alterrec_jax.stages import alternation, tape
from experiments.studies import study

Variant = Callable[[AlterRecConfig], RunConfig]
Study = study.Study[AlterRecConfig]

ID, TEXT = "id", "text"
PAPER_P = 5

_OPTIMIZER = ("learning_rate", "weight_decay", "l2", "decay_every", "decay_factor")


def paper_base(config: RunConfig) -> AlterRecConfig:
    """The configuration, if the study can start from it: the paper's networks, on IDs and on text, and no other.

    Their weights in the fusion are fixed, as in the paper, which varies them.

    Raises:
      UserError: it is another system.
    """
    if not isinstance(config, AlterRecConfig) or set(config.networks) != {ID, TEXT}:
        found = ", ".join(config.networks) if isinstance(config, AlterRecConfig) else "others"
        raise UserError(
            f"the study starts from the paper's two networks, but --config is of model={config.family} with {found}; "
            f"name a configuration whose networks are {ID} and {TEXT}, such as quickstart"
        )
    for name, kind in ((ID, IdNetworkConfig), (TEXT, VectorNetworkConfig)):
        if not isinstance(network := config.networks[name], kind):
            raise UserError(f"the study wants networks.{name}.kind to be {kind.kind}, not {network.kind}")
    return dataclasses.replace(config, fusion_weights="fixed")


def mined(config: AlterRecConfig, **mining: Any) -> AlterRecConfig:
    """The configuration with other fields of mining."""
    return dataclasses.replace(config, mining=dataclasses.replace(config.mining, **mining))


def alterrec(base: AlterRecConfig) -> AlterRecConfig:
    """Alternating training on hard negatives of the peer, without augmentation."""
    return dataclasses.replace(mined(base, negatives="peer", augment=False), keep_epochs=True)


def augmented(base: AlterRecConfig, k1: int = PAPER_P, p: int = PAPER_P, beta: float = 0.5) -> AlterRecConfig:
    """AlterRec_aug: the peer's top p are positives too. No positive may be a negative, so k1 is p at least."""
    config = mined(alterrec(base), augment=True, k1=max(base.mining.k1, k1, p), p=p, beta=beta)
    return dataclasses.replace(config, keep_epochs=False)


def beta_rule(base: AlterRecConfig) -> str:
    """What beta weighs, in words: the paper's figures were made by its code, which shares beta among the positives."""
    if base.mining.beta_per == "prefix":
        return "beta weighs all positives of a prefix together, as in the code that made the paper's figures"
    return "beta weighs each positive, as in the paper's equations; its figures were made with mining.beta_per=prefix"


def window(base: AlterRecConfig, **mining: Any) -> AlterRecConfig:
    """AlterRec with another rank window; the one of the configuration itself is `alterrec`."""
    config = mined(alterrec(base), **mining)
    return config if config == alterrec(base) else dataclasses.replace(config, keep_epochs=False)


def independent(base: AlterRecConfig, negatives: str) -> AlterRecConfig:
    """Both networks in the same turns, fused and chosen in the same way, but neither learns from the other."""
    return mined(base, negatives=negatives, augment=False)


def alone(base: AlterRecConfig, network: str, **encoder: Any) -> AlterRecConfig:
    """One network, by softmax over the whole catalogue."""
    only = dataclasses.replace(base.trained[network], weight=1.0, peer="next", **encoder)
    config = mined(base, negatives="full", augment=False)
    return dataclasses.replace(config, networks={network: only}, epochs=own_epochs(base, network))


def sasrec(base: AlterRecConfig) -> SASRecConfig:
    """A Transformer on IDs alone, by softmax over the whole catalogue: the numbers of `alone(base, "id")` with one.

    Where the ID network is none, the optimizer's settings and the dropout are those of the text network if that is one:
    a rate that suits the mean leaves a Transformer where it began.
    """
    own, text = base.trained[ID], base.trained[TEXT]
    like: EncoderConfig = own
    if own.encoder != "transformer" and text.encoder == "transformer":
        suited = ("layers", "heads", "dropout", *_OPTIMIZER)
        like = dataclasses.replace(own, **{name: getattr(text, name) for name in suited})
    network = TransformerOnIdsConfig(**_shared(like, EncoderConfig) | {"encoder": "transformer"})
    return SASRecConfig(**_shared(base, RunConfig) | {"epochs": own_epochs(base, ID)}, network=network)


def nfrec(base: AlterRecConfig, operation: str) -> NFRecConfig:
    """Naive fusion, sessions by their mean (appendix A); width, dropout and optimizer are those of the ID network."""
    own, text = base.trained[ID], base.trained[TEXT]
    like = ("dim", "dropout", "item_norm", "temperature", "init", *_OPTIMIZER)
    run = {"epochs": max(own_epochs(base, name) for name in (ID, TEXT)), "keep_epochs": operation == "concat"}
    return NFRecConfig(
        **_shared(base, RunConfig) | run,
        network=FusedNetworkConfig(encoder="mean", operation=operation, **{name: getattr(own, name) for name in like}),
        text=VectorsConfig(**_shared(text, VectorsConfig)),
    )


def own_epochs(base: AlterRecConfig, network: str) -> int:
    """How many of AlterRec's epochs belong to a network; one at least."""
    stages = alternation(
        tuple(base.networks),
        base.epochs,
        warmup_epochs=base.warmup_epochs,
        turn_epochs=base.turn_epochs,
        warmup="",
        objective="",
        peers={},
    )
    return max(1, sum(network in epoch.stage.trains for epoch in tape(stages)))


def _shared(record: Any, kind: type) -> dict[str, Any]:
    """The fields of a record that a kind which it derives from has."""
    return {field.name: getattr(record, field.name) for field in dataclasses.fields(kind)}


VARIANTS: dict[str, Variant] = {
    "AlterRec": alterrec,
    "AlterRec_aug": augmented,
    "AlterRec_random": lambda base: independent(base, "uniform"),
    "Independent, fused": lambda base: independent(base, "full"),
    "Independent, self-mined, fused": lambda base: independent(base, "self"),
    "AlterRec_w/o_text": lambda base: alone(base, ID),
    "AlterRec_w/o_ID": lambda base: alone(base, TEXT),
    "SASRec": sasrec,
    "ID only (mean)": lambda base: alone(base, ID, encoder="mean"),
    "text only (mean)": lambda base: alone(base, TEXT, encoder="mean"),
    "NFRec (sum)": lambda base: nfrec(base, "sum"),
    "NFRec (concat)": lambda base: nfrec(base, "concat"),
}
"""The models by the names that tables and figures give them."""
