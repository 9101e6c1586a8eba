"""Ordering, splitting and filtering again, slowly and obviously, session by session."""

from collections import Counter

from tests.data_tools.examples import Click

Part = list[tuple[str, list[str], int]]


def ordered_sessions(clicks: list[Click]) -> dict[str, list[tuple[int, str]]]:
    """Times and items of each session, by time; equal times as they stand in the file."""
    sessions: dict[str, list[tuple[int, str]]] = {}
    for session, item, time in clicks:
        sessions.setdefault(session, []).append((time, item))
    return {session: sorted(events, key=lambda event: event[0]) for session, events in sessions.items()}


def split(clicks: list[Click], rule: str, *, shortest: int, longest: int, share: float) -> dict[str, Part]:
    """Splits by leave_one_out or temporal."""
    cut = {session: events[-longest:] if longest else events for session, events in ordered_sessions(clicks).items()}
    kept = {session: events for session, events in cut.items() if len(events) >= shortest}
    parts: dict[str, Part] = {"train": [], "validation": [], "test": []}
    if rule == "leave_one_out":
        for session, events in kept.items():
            items = [item for _, item in events]
            if len(items) < 3:
                parts["train"].append((session, items, 1))
                continue
            parts["train"].append((session, items[:-2], 1))
            parts["validation"].append((session, items[:-1], len(items) - 2))
            parts["test"].append((session, items, len(items) - 1))
        return parts
    by_time = sorted(kept, key=lambda session: (kept[session][-1][0], session))
    held_out = round(len(by_time) * share)
    names = dict.fromkeys(by_time, "train")
    names.update(dict.fromkeys(by_time[-2 * held_out :], "validation"))
    names.update(dict.fromkeys(by_time[-held_out:], "test"))
    for session, events in kept.items():
        parts[names[session]].append((session, [item for _, item in events], 1))
    return parts


def filtered(parts: dict[str, Part], *, least: int, shortest: int, drop_held_out: bool) -> dict[str, Part]:
    """Takes out items that are rare in training."""
    counts = Counter(item for _, items, _ in parts["train"] for item in items)
    known = {item for item, count in counts.items() if count >= least}
    result: dict[str, Part] = {}
    for name, part in parts.items():
        if name != "train":
            known = {item for _, items, _ in result["train"] for item in items}
        if name != "train" and not drop_held_out:
            result[name] = part
            continue
        result[name] = []
        for session, items, first_target in part:
            left = [item for item in items if item in known]
            only_last = first_target > 1
            if len(left) < max(shortest, 2) or (only_last and items[-1] not in known):
                continue
            result[name].append((session, left, len(left) - 1 if only_last else 1))
    return result


def numbering(parts: dict[str, Part]) -> tuple[list[str], int]:
    """Item ids in the order of their numbers, and the size of the catalogue."""
    seen = {name: {item for _, items, _ in part for item in items} for name, part in parts.items()}
    others = (seen["validation"] | seen["test"]) - seen["train"]
    return sorted(seen["train"]) + sorted(others), len(seen["train"])
