"""Who trains when: lists of stages, and the stage of an epoch. All of it is pure."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from alterrec_jax.contract import Stage


class Epoch(NamedTuple):
    """One epoch of a run.

    Attributes:
      stage: what it does.
      number: the number of the stage within the run, from 0.
      within: the number of the epoch within the stage, from 0.
    """

    stage: Stage
    number: int
    within: int

    def __str__(self) -> str:
        peer = "+".join(name for name, _ in self.stage.peer)
        return f"{'+'.join(self.stage.trains)}:{self.stage.objective}{f'({peer})' if peer else ''}"


def alternation(
    networks: Sequence[str],
    epochs: int,
    *,
    warmup_epochs: int,
    turn_epochs: int,
    warmup: str,
    objective: str,
    peers: Mapping[str, Mapping[str, float]],
) -> tuple[Stage, ...]:
    """Algorithm 1 of the AlterRec paper, for any number of networks.

    Each network in order trains for `warmup_epochs` on the objective `warmup`; after that, turns of `turn_epochs` on
    `objective`, the first network first, until `epochs` are over.

    Args:
      networks: those that train, in order; their optimizers have their names.
      epochs: in all.
      warmup_epochs, turn_epochs: of one network at a time.
      warmup, objective: names of objectives.
      peers: the frozen view that each network mines, if it mines one. Where the view is empty there is nobody to mine,
        and the network's turns are on `warmup` too.
    """

    def turns() -> Iterator[Stage]:
        for name in networks:
            yield Stage((name,), warmup, warmup_epochs, name)
        for name in itertools.cycle(networks):
            peer = peers.get(name)
            kind = objective if peer or peer is None else warmup
            yield Stage((name,), kind, turn_epochs, name, tuple((peer or {}).items()))

    return limited(turns(), epochs)


def limited(stages: Iterator[Stage] | Sequence[Stage], epochs: int) -> tuple[Stage, ...]:
    """The first stages that make up so many epochs, the last one cut; stages without an epoch are left out."""
    found: list[Stage] = []
    for stage in stages:
        if epochs <= 0:
            break
        if stage.epochs > epochs:
            stage = stage._replace(epochs=epochs, uncut=stage.epochs)
        if stage.epochs > 0:
            found.append(stage)
            epochs -= stage.epochs
    return tuple(found)


def tape(stages: Sequence[Stage]) -> list[Epoch]:
    """Every epoch of a run, in order."""
    return [Epoch(stage, number, within) for number, stage in enumerate(stages) for within in range(stage.epochs)]
