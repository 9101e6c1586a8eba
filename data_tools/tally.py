"""What was read, kept and dropped, and why: printed once as a table, and kept in the manifest."""

import dataclasses
from typing import Any

from alterrec_jax.runtime.text_table import aligned


@dataclasses.dataclass(frozen=True)
class Line:
    """One step: `interactions` and `sessions` are totals, or negative where they say what was dropped."""

    step: str
    interactions: int
    sessions: int


class Tally:
    """Collects the steps of one preparation in their order."""

    def __init__(self) -> None:
        self.lines: list[Line] = []

    def total(self, step: str, interactions: int, sessions: int) -> None:
        """Notes how many interactions (and sessions) there are after a step."""
        self.lines.append(Line(step, interactions, sessions))

    def dropped(self, reason: str, interactions: int, sessions: int) -> None:
        """Notes how many were dropped; a reason that dropped nothing is noted too, for 0 is an answer."""
        self.lines.append(Line(reason, -interactions, -sessions))

    def as_records(self) -> list[dict[str, Any]]:
        """The steps as JSON objects, for the manifest."""
        return [dataclasses.asdict(line) for line in self.lines]

    def table(self) -> str:
        """The steps as an aligned table."""
        rows: list[tuple[str, ...]] = [("", "interactions", "sessions")]
        for line in self.lines:
            rows.append((line.step, f"{line.interactions:,}", f"{line.sessions:,}"))
        return aligned(rows)
