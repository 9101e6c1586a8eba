"""Algorithm 1, read as a tape."""

import pytest

from alterrec_jax.config import ScheduleConfig
from alterrec_jax.schedule import TURNS, Turn, turn_of_epoch

ID, TEXT = "id:random", "text:random"
ID_WINDOW, TEXT_WINDOW = "id:window(text)", "text:window(id)"


def tape(schedule: ScheduleConfig) -> list[Turn]:
    """The turns of all m_max epochs, in order."""
    return [turn_of_epoch(epoch, schedule) for epoch in range(schedule.m_max)]


def told(schedule: ScheduleConfig) -> list[str]:
    """The tape as strings."""
    return [str(turn) for turn in tape(schedule)]


def test_tape_of_the_paper() -> None:
    assert " ".join(told(ScheduleConfig(m_random=2, m_gap=2, m_max=13))) == (
        "id:random id:random text:random text:random "
        "id:window(text) id:window(text) text:window(id) text:window(id) "
        "id:window(text) id:window(text) text:window(id) text:window(id) "
        "id:window(text)"
    )


@pytest.mark.parametrize(
    ("m_random", "m_gap", "m_max", "expected"),
    [
        (0, 1, 4, [ID_WINDOW, TEXT_WINDOW, ID_WINDOW, TEXT_WINDOW]),
        (0, 3, 5, [ID_WINDOW, ID_WINDOW, ID_WINDOW, TEXT_WINDOW, TEXT_WINDOW]),
        (1, 3, 6, [ID, TEXT, ID_WINDOW, ID_WINDOW, ID_WINDOW, TEXT_WINDOW]),
        (3, 1, 8, [ID, ID, ID, TEXT, TEXT, TEXT, ID_WINDOW, TEXT_WINDOW]),
        (3, 2, 4, [ID, ID, ID, TEXT]),
        (5, 2, 1, [ID]),
    ],
)
def test_tape_of_odd_settings(m_random: int, m_gap: int, m_max: int, expected: list[str]) -> None:
    assert told(ScheduleConfig(m_random, m_gap, m_max)) == expected


def test_peer_is_the_other_network() -> None:
    assert Turn("id", "window").peer == "text"
    assert Turn("text", "random").peer == "id"


def test_all_turns_are_named() -> None:
    assert set(tape(ScheduleConfig(m_random=1, m_gap=1, m_max=9))) == set(TURNS) and len(TURNS) == 4


def test_turn_does_not_depend_on_how_long_the_run_is() -> None:
    long = ScheduleConfig(m_max=17)
    assert tape(ScheduleConfig(m_max=9)) == tape(long)[:9]
    assert turn_of_epoch(11, ScheduleConfig(m_max=1)) == tape(long)[11]
