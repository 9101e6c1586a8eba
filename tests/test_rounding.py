"""Tests compile quickly, where sums are rounded otherwise: what watches rounding is tested as users compile it too."""

import os
import subprocess
import sys

from tests.commands import ROOT


def test_what_watches_rounding_holds_as_users_compile_it() -> None:
    as_users = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "XLA_FLAGS"))}
    line = [sys.executable, "-m", "pytest", "-q", "-m", "rounding", "-p", "no:cacheprovider", "tests"]
    done = subprocess.run(line, cwd=ROOT, env={**as_users, "XLA_FLAGS": ""}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
