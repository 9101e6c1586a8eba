"""The fault campaign (`make faults`): real commands on small data, hurt at random moments and in every file.

It is no part of `make test`, for it takes long. What was done to the project is counted, and printed at the end.
"""

import collections

import pytest

from tests.conftest import pytest_configure  # noqa: F401  # a hook: commands keep what they compile
from tests.entry_points.conftest import command, dataset, environment, logs, trained  # noqa: F401  # fixtures

COUNTS: collections.Counter[str] = collections.Counter()
"""How often each thing was done."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """How long the campaign is."""
    parser.addoption("--kills", type=int, default=200, help="Processes to kill in all.")
    parser.addoption("--inputs", type=int, default=500, help="Mutated inputs to read in all.")
    parser.addoption("--races", type=int, default=20, help="Pairs of commands that write to the same place at once.")
    parser.addoption("--seed", type=int, default=0, help="Of the random moments of the kills.")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints the counts."""
    terminalreporter.section("what was done, and how often")
    for what, count in sorted(COUNTS.items()):
        terminalreporter.line(f"{count:6,}  {what}")
