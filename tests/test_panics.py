"""Damaged Parquet on which Polars panics: an OSError, and not a word on standard error."""

import pathlib
import sys

import polars as pl
import pytest

from alterrec_jax.panics import panics_as_errors


def test_a_panic_is_an_error_and_is_not_printed(tmp_path: pathlib.Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "table.parquet"
    pl.DataFrame(
        {"id": [f"i{number}" for number in range(40)], "text": ["a long text, a thing & co"] * 40}
    ).write_parquet(path)
    whole, panics = path.read_bytes(), 0
    for place in range(len(whole)):
        content = bytearray(whole)
        content[place] ^= 0x40
        path.write_bytes(content)
        try:
            with panics_as_errors():
                pl.read_parquet(path)
        except (pl.exceptions.PolarsError, OSError) as error:
            panics += "Polars gave up" in str(error)
    assert panics > 0
    assert capfd.readouterr().err == ""
    print("shown again", file=sys.stderr)
    assert capfd.readouterr().err == "shown again\n"
