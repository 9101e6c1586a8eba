"""The models that the study compares, each as a change to the configuration that it starts from.

A network that trains alone gets as many epochs as it gets inside AlterRec: `m_max` counts the epochs of both.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

from alterrec_jax.config import AlterRecConfig
from alterrec_jax.errors import UserError, nearest
from alterrec_jax.training.stages import turn_of_epoch

Variant = Callable[[AlterRecConfig], AlterRecConfig]

PAPER_P = 5


def changed(config: AlterRecConfig, **parts: Any) -> AlterRecConfig:
    """The configuration with other values: of a field, or, given as a mapping, of some fields of a record."""
    values = {
        name: dataclasses.replace(getattr(config, name), **value) if isinstance(value, dict) else value
        for name, value in parts.items()
    }
    return dataclasses.replace(config, **values)


def alterrec(base: AlterRecConfig) -> AlterRecConfig:
    """Alternating training on hard negatives of the peer, without augmentation."""
    return changed(base, model="alterrec", mining={"negatives": "peer", "augment": False}, keep_epochs=True)


def augmented(base: AlterRecConfig, k1: int = PAPER_P, p: int = PAPER_P, beta: float = 0.5) -> AlterRecConfig:
    """AlterRec_aug: the peer's top p are positives too. No positive may be a negative, so k1 is p at least."""
    mining = {"augment": True, "k1": max(base.mining.k1, k1, p), "p": p, "beta": beta}
    return changed(alterrec(base), mining=mining, keep_epochs=False)


def window(base: AlterRecConfig, **mining: Any) -> AlterRecConfig:
    """AlterRec with another rank window; the one of the configuration itself is `alterrec`."""
    config = changed(alterrec(base), mining=mining)
    return config if config == alterrec(base) else changed(config, keep_epochs=False)


def apart(base: AlterRecConfig, negatives: str) -> AlterRecConfig:
    """Both networks in the same turns, fused and chosen alike, but neither learns from the other."""
    return changed(base, model="alterrec", mining={"negatives": negatives, "augment": False})


def alone(base: AlterRecConfig, network: str, **encoder: Any) -> AlterRecConfig:
    """One network, by softmax over the whole catalogue."""
    own = changed(base, model=network, mining={"negatives": "full", "augment": False}, **{network: encoder})
    return changed(own, schedule={"m_max": own_epochs(base, network)})


def sasrec(base: AlterRecConfig) -> AlterRecConfig:
    """A Transformer on IDs alone, by softmax over the whole catalogue.

    Where the ID network is none, the optimizer's settings and the dropout are those of the text network if that is one:
    a rate that suits the mean leaves a Transformer where it began.
    """
    if base.id.encoder == "transformer" or base.text.encoder != "transformer":
        return alone(base, "id", encoder="transformer")
    suited = ("layers", "heads", "dropout", "learning_rate", "weight_decay", "decay_every", "decay_factor")
    return alone(base, "id", encoder="transformer", **{name: getattr(base.text, name) for name in suited})


def nfrec(base: AlterRecConfig, operation: str) -> AlterRecConfig:
    """Naive fusion, sessions by their mean (appendix A); width, dropout and optimizer are those of the ID network."""
    like = {
        name: getattr(base.id, name)
        for name in (
            *("dim", "dropout", "item_norm", "temperature", "init"),
            *("learning_rate", "weight_decay", "decay_every", "decay_factor"),
        )
    }
    joint = changed(
        base,
        model="nfrec",
        fused={**like, "encoder": "mean", "operation": operation},
        mining={"negatives": "full", "augment": False},
        keep_epochs=operation == "concat",
    )
    return changed(joint, schedule={"m_max": max(own_epochs(base, name) for name in ("id", "text"))})


def own_epochs(base: AlterRecConfig, network: str) -> int:
    """How many of the m_max epochs of AlterRec belong to a network; one at least."""
    turns = (turn_of_epoch(epoch, base.schedule, ("id", "text"), base.mining) for epoch in range(base.schedule.m_max))
    return max(1, sum(turn.network == network for turn in turns))


VARIANTS: dict[str, Variant] = {
    "AlterRec": alterrec,
    "AlterRec_aug": augmented,
    "AlterRec_random": lambda base: apart(base, "uniform"),
    "Independent, fused": lambda base: apart(base, "full"),
    "Independent, self-mined, fused": lambda base: apart(base, "self"),
    "AlterRec_w/o_text": lambda base: alone(base, "id"),
    "AlterRec_w/o_ID": lambda base: alone(base, "text"),
    "SASRec": sasrec,
    "ID only (mean)": lambda base: alone(base, "id", encoder="mean"),
    "text only (mean)": lambda base: alone(base, "text", encoder="mean"),
    "NFRec (sum)": lambda base: nfrec(base, "sum"),
    "NFRec (concat)": lambda base: nfrec(base, "concat"),
}
"""The models by the names that tables and figures give them."""


def variant(base: AlterRecConfig, name: str) -> AlterRecConfig:
    """The configuration of a model of `VARIANTS`.

    Raises:
      UserError: there is no such model, or the configuration that it starts from does not allow it.
    """
    if name not in VARIANTS:
        raise UserError(f"no model is called '{name}'; {nearest(name, list(VARIANTS))}")
    return VARIANTS[name](base).check()
