"""Who trains when, and on which negatives: algorithm 1 of the AlterRec paper as a pure function."""

from typing import NamedTuple

from alterrec_jax.config import ScheduleConfig

ID, TEXT = "id", "text"
RANDOM, WINDOW = "random", "window"


class Turn(NamedTuple):
    """What one epoch does.

    Attributes:
      network: the network that trains, "id" or "text".
      phase: its negatives: "random" (uniform) or "window" (mined from the peer's ranking).
    """

    network: str
    phase: str

    @property
    def peer(self) -> str:
        """The network that does not train: frozen, without dropout."""
        return TEXT if self.network == ID else ID

    def __str__(self) -> str:
        return f"{self.network}:window({self.peer})" if self.phase == WINDOW else f"{self.network}:random"


TURNS = tuple(Turn(network, phase) for network in (ID, TEXT) for phase in (RANDOM, WINDOW))
"""All that there are."""


def turn_of_epoch(epoch: int, schedule: ScheduleConfig) -> Turn:
    """The turn of an epoch, counted from 0.

    m_random epochs of the ID network, then of the text network, both on random negatives; after that, turns of
    m_gap epochs on negatives mined from the peer, the ID network first.
    """
    if epoch < schedule.m_random:
        return Turn(ID, RANDOM)
    if epoch < 2 * schedule.m_random:
        return Turn(TEXT, RANDOM)
    turns = (epoch - 2 * schedule.m_random) // schedule.m_gap
    return Turn(ID if turns % 2 == 0 else TEXT, WINDOW)
