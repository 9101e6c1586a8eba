"""Environments of other libraries, made once: their requirements do not go together with ours."""

import pathlib
import subprocess
import venv
from collections.abc import Sequence

from alterrec_jax.errors import UserError
from alterrec_jax.runtime.console import log


def python_of(folder: pathlib.Path, requirements: Sequence[Sequence[str]]) -> pathlib.Path:
    """The interpreter of an environment that has some packages; it is made where it is not there yet.

    Args:
      folder: where it is, or is to be.
      requirements: arguments of `pip install`, one call after another.

    Raises:
      UserError: pip could not install them, as without a network; its last lines say why.
    """
    python, wanted = folder / "bin" / "python", "\n".join(" ".join(call) for call in requirements)
    ready = folder / "requirements.txt"
    if ready.exists() and ready.read_text(encoding="utf-8") == wanted:
        return python
    log(f"installing {requirements[0][-1]} into {folder}, a minute or more")
    venv.create(folder, clear=True, with_pip=True)
    for call in requirements:
        command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *call]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            why = " ".join(done.stderr.strip().splitlines()[-2:])
            raise UserError(f"pip could not install {' '.join(call)} into {folder}: {why}")
    ready.write_text(wanted, encoding="utf-8")
    return python
