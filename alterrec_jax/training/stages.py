"""Who trains when, and on which negatives: algorithm 1 of the AlterRec paper as a pure function."""

from collections.abc import Sequence
from typing import NamedTuple

from alterrec_jax.config import MiningConfig, ScheduleConfig

RANDOM, WINDOW, FULL = "random", "window", "full"


class Turn(NamedTuple):
    """What one epoch does.

    Attributes:
      network: the network that trains.
      phase: its negatives: "random" (uniform), "window" (mined from a ranking) or "full" (all other items).
      miner: in phase "window", the network whose ranking is mined: the frozen peer, or the network itself as it is at
        each step; else None.
      again: whether an epoch of the same turn, in which the peer is frozen, has mined the same windows before.
    """

    network: str
    phase: str
    miner: str | None = None
    again: bool = False

    @property
    def peer(self) -> str | None:
        """The network that is needed and does not train: frozen, without dropout."""
        return None if self.miner == self.network else self.miner

    def __str__(self) -> str:
        miner = f"({self.peer or 'self'})" if self.miner else ""
        return f"{self.network}:{self.phase}{miner}{' again' if self.again else ''}"


def turn_of_epoch(epoch: int, schedule: ScheduleConfig, networks: Sequence[str], mining: MiningConfig) -> Turn:
    """The turn of an epoch, counted from 0.

    m_random epochs of each network on random negatives; after that, turns of m_gap epochs on mined ones, the ID
    network first. Where nothing is mined, the networks take the same turns.

    Args:
      epoch: from 0.
      schedule: the lengths of the turns.
      networks: those that train, in order: ("id", "text"), or a single one.
      mining: which negatives are mined.
    """
    warm_up = schedule.m_random * len(networks)
    length = schedule.m_random if epoch < warm_up else schedule.m_gap
    turn, of_turn = divmod(epoch if epoch < warm_up else epoch - warm_up, length)
    number = turn % len(networks)
    network = networks[number]
    if mining.negatives == "full":
        return Turn(network, FULL)
    if epoch < warm_up or mining.negatives == "uniform":
        return Turn(network, RANDOM)
    if mining.negatives == "self":
        return Turn(network, WINDOW, network)
    return Turn(network, WINDOW, networks[1 - number], again=mining.lasts_a_turn and of_turn > 0)
