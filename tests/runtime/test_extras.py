"""Packages that come with an extra: what is missing is named, with the command that installs it."""

import sys

import pytest

from alterrec_jax.errors import UserError
from alterrec_jax.runtime import extras


def test_what_is_there_is_enough() -> None:
    extras.require("text", "this", "numpy", "json")
    assert extras.installed("numpy") and not extras.installed("no_such_package")


def test_what_is_missing_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numpy", None)
    with pytest.raises(UserError) as told:
        extras.require("text", "encoding texts", "numpy", "json", "no_such_package", otherwise="do without")
    assert str(told.value) == (
        "encoding texts needs numpy, no_such_package, not installed here; "
        'run: pip install "alterrec_jax[text]", or do without'
    )
