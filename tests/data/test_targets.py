"""Targets and histories against loops over sessions."""

import numpy as np
import pytest

from alterrec_jax.data.targets import histories, repeats, select_targets, target_in_history
from alterrec_jax.errors import UserError
from tests.evaluation.examples import make_sessions, random_sessions


def rows(targets):
    return list(zip(targets.session.tolist(), targets.position.tolist(), targets.item.tolist(), strict=True))


def test_by_hand():
    sessions = make_sessions([[5, 6, 7], [], [8], [9, 9], [1, 2, 3, 4]], first_target=[1, 1, 1, 0, 3])
    assert rows(select_targets(sessions, "last")) == [(0, 2, 7), (3, 1, 9), (4, 3, 4)]
    assert rows(select_targets(sessions, "all_prefixes")) == [(0, 1, 6), (0, 2, 7), (3, 1, 9), (4, 3, 4)]


@pytest.mark.parametrize("which", ["last", "all_prefixes"])
@pytest.mark.parametrize("seed", range(3))
def test_equals_a_loop(which, seed):
    sessions = random_sessions(np.random.default_rng(seed), 43, 11)
    wanted = []
    for number in range(len(sessions)):
        items = sessions[number].tolist()
        positions = range(1, len(items)) if which == "all_prefixes" else range(1, len(items))[-1:]
        wanted += [(number, position, items[position]) for position in positions]
    assert rows(select_targets(sessions, which)) == wanted


def test_dtypes_also_when_empty():
    for lists in ([], [[1]], [[1, 2]]):
        targets = select_targets(make_sessions(lists), "all_prefixes")
        assert (targets.session.dtype, targets.position.dtype, targets.item.dtype) == (np.int64, np.int32, np.int32)


def test_unknown_rule_suggests_the_nearest():
    with pytest.raises(UserError, match="did you mean 'all_prefixes'"):
        select_targets(make_sessions([[1, 2]]), "all_prefix")


def test_histories_hold_everything_before_the_target():
    sessions = random_sessions(np.random.default_rng(5), 29, 7)
    targets = select_targets(sessions, "all_prefixes")
    ids, where = histories(sessions, targets)
    repeats = target_in_history(sessions, targets)
    assert ids.shape == where.shape == (len(targets), targets.position.max())
    for row, (session, position, item) in enumerate(rows(targets)):
        before = sessions[session][:position].tolist()
        assert ids[row][where[row]].tolist() == before
        assert (ids[row][~where[row]] == -1).all()
        assert repeats[row] == (item in before)


def test_histories_of_a_given_width_and_of_nothing():
    sessions = make_sessions([[3, 4, 5]])
    targets = select_targets(sessions, "last")
    ids, where = histories(sessions, targets, width=4)
    assert ids.tolist() == [[3, 4, -1, -1]]
    assert where.tolist() == [[True, True, False, False]]
    with pytest.raises(ValueError, match="width 1"):
        histories(sessions, targets, width=1)
    assert histories(make_sessions([]), targets[:0])[0].shape == (0, 0)


@pytest.mark.parametrize("at_once", [1, 5, 40, 10**6])
def test_repeats_are_those_within_a_session_however_many_are_looked_at(at_once: int) -> None:
    rng = np.random.default_rng(at_once)
    sessions = random_sessions(rng, sessions=60, items=6)
    expected = [
        item in part[:place] for part in map(sessions.__getitem__, range(60)) for place, item in enumerate(part)
    ]
    assert repeats(sessions.items, sessions.offsets, at_once).tolist() == expected
    assert not len(repeats(sessions.items[:0], sessions.offsets[:1]))
