"""Algorithm 1, read as a tape."""

import pytest

from alterrec_jax.config import MiningConfig, ScheduleConfig
from alterrec_jax.training.stages import Turn, turn_of_epoch

BOTH = ("id", "text")
ID, TEXT = "id:random", "text:random"
ID_WINDOW, TEXT_WINDOW = "id:window(text)", "text:window(id)"
ID_AGAIN, TEXT_AGAIN = f"{ID_WINDOW} again", f"{TEXT_WINDOW} again"


def tape(schedule: ScheduleConfig, networks: tuple[str, ...] = BOTH, negatives: str = "peer") -> list[Turn]:
    """The turns of all m_max epochs, in order."""
    mining = MiningConfig(negatives=negatives)
    return [turn_of_epoch(epoch, schedule, networks, mining) for epoch in range(schedule.m_max)]


def told(schedule: ScheduleConfig, networks: tuple[str, ...] = BOTH, negatives: str = "peer") -> list[str]:
    """The tape as strings."""
    return [str(turn) for turn in tape(schedule, networks, negatives)]


def test_tape_of_the_paper() -> None:
    assert " ".join(told(ScheduleConfig(m_random=2, m_gap=2, m_max=13))) == (
        "id:random id:random text:random text:random "
        "id:window(text) id:window(text) again text:window(id) text:window(id) again "
        "id:window(text) id:window(text) again text:window(id) text:window(id) again "
        "id:window(text)"
    )


@pytest.mark.parametrize(
    ("m_random", "m_gap", "m_max", "expected"),
    [
        (0, 1, 4, [ID_WINDOW, TEXT_WINDOW, ID_WINDOW, TEXT_WINDOW]),
        (0, 3, 5, [ID_WINDOW, ID_AGAIN, ID_AGAIN, TEXT_WINDOW, TEXT_AGAIN]),
        (1, 3, 6, [ID, TEXT, ID_WINDOW, ID_AGAIN, ID_AGAIN, TEXT_WINDOW]),
        (3, 1, 8, [ID, ID, ID, TEXT, TEXT, TEXT, ID_WINDOW, TEXT_WINDOW]),
        (3, 2, 4, [ID, ID, ID, TEXT]),
        (5, 2, 1, [ID]),
    ],
)
def test_tape_of_odd_settings(m_random: int, m_gap: int, m_max: int, expected: list[str]) -> None:
    assert told(ScheduleConfig(m_random, m_gap, m_max)) == expected


@pytest.mark.parametrize(
    ("networks", "negatives", "expected"),
    [
        (BOTH, "self", "id:random text:random id:window(self) id:window(self) text:window(self)"),
        (BOTH, "uniform", "id:random text:random id:random id:random text:random"),
        (BOTH, "full", "id:full text:full id:full id:full text:full"),
        (("id",), "self", "id:random id:window(self) id:window(self) id:window(self) id:window(self)"),
        (("text",), "uniform", "text:random text:random text:random text:random text:random"),
        (("fused",), "full", "fused:full fused:full fused:full fused:full fused:full"),
    ],
)
def test_tape_of_networks_that_learn_apart(networks: tuple[str, ...], negatives: str, expected: str) -> None:
    assert " ".join(told(ScheduleConfig(m_random=1, m_gap=2, m_max=5), networks, negatives)) == expected


def test_the_peer_is_who_is_mined_and_does_not_train() -> None:
    assert Turn("id", "window", "text").peer == "text"
    assert Turn("id", "window", "id").peer is None
    assert Turn("text", "random").peer is None


def test_windows_that_are_drawn_are_drawn_in_every_epoch() -> None:
    schedule, drawn = ScheduleConfig(m_random=0, m_gap=2), MiningConfig(hard_fraction=0.5)
    assert [turn_of_epoch(epoch, schedule, BOTH, drawn).again for epoch in range(4)] == [False] * 4


def test_turn_does_not_depend_on_how_long_the_run_is() -> None:
    long = ScheduleConfig(m_max=17)
    assert tape(ScheduleConfig(m_max=9)) == tape(long)[:9]
    assert turn_of_epoch(11, ScheduleConfig(m_max=1), BOTH, MiningConfig()) == tape(long)[11]
