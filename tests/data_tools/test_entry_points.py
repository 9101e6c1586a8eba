"""The commands as a user types them."""

import pathlib
import subprocess
import sys

from tests.data_tools.examples import random_clicks, write_logs

_ROOT = pathlib.Path(__file__).parents[2]


def command(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", *words], cwd=_ROOT, capture_output=True, text=True, timeout=120)


def one_line(result: subprocess.CompletedProcess[str]) -> str:
    """The error that the user reads: status not 0, no traceback, one line of error."""
    assert result.returncode == 1 and "Traceback" not in result.stderr
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    return errors[0]


def test_prepare_and_describe(tmp_path: pathlib.Path) -> None:
    logs = write_logs(tmp_path, random_clicks(10, sessions=20))
    arguments = [f"--{name}={value}" for name, value in logs.items()] + [f"--cache_dir={tmp_path}/cache"]
    out = str(tmp_path / "out")
    result = command("data_tools.prepare", "--source=tabular", "--order_column=time", f"--out={out}", *arguments)
    assert result.returncode == 0, result.stderr
    assert "interactions" in result.stdout and "catalogue" in result.stdout
    described = command("data_tools.describe", out)
    assert described.returncode == 0, described.stderr
    assert (tmp_path / "out" / "describe.png").is_file()


def test_bad_commands(tmp_path: pathlib.Path) -> None:
    assert "--source is missing" in one_line(command("data_tools.prepare", f"--out={tmp_path}/out"))
    assert "read by --source=amazon_m2 only" in one_line(
        command("data_tools.prepare", "--source=tabular", "--locale=ES", f"--out={tmp_path}/out")
    )
    assert "does not exist" in one_line(command("data_tools.describe", f"{tmp_path}/nothing"))
