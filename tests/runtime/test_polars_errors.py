"""Damaged Parquet on which Polars panics: an OSError, and not a word on standard error."""

import os
import pathlib
import subprocess
import sys

import polars as pl
import pytest

from alterrec_jax.runtime.polars_errors import panics_as_errors

ROOT = pathlib.Path(__file__).parents[2]


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


def test_what_others_say_is_shown(capfd: pytest.CaptureFixture[str]) -> None:
    with panics_as_errors():
        os.write(2, b"a word from a thread\n")
        assert capfd.readouterr().err == ""
    assert "a word from a thread\n" in capfd.readouterr().err
    with pytest.raises(ZeroDivisionError), panics_as_errors():
        os.write(2, b"before an error\n")
        raise ZeroDivisionError
    assert "before an error\n" in capfd.readouterr().err
    print("shown again", file=sys.stderr)
    assert capfd.readouterr().err == "shown again\n"


def test_standard_error_may_be_closed() -> None:
    read = "from alterrec_jax.runtime.polars_errors import panics_as_errors\nwith panics_as_errors(): print('read')"
    closed = subprocess.run(["sh", "-c", f'"{sys.executable}" -c "{read}" 2>&-'], cwd=ROOT, stdout=subprocess.PIPE)
    assert closed.returncode == 0 and closed.stdout == b"read\n"
