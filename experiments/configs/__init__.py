"""The configurations that are shipped, by the names of their files."""

import pathlib

from alterrec_jax.errors import UserError, nearest


def shipped(name: str) -> pathlib.Path:
    """The file of a shipped configuration.

    Raises:
      UserError: none is called so; the nearest is named.
    """
    known = {path.stem: path for path in pathlib.Path(__file__).parent.glob("*.py") if path.stem != "__init__"}
    if name not in known:
        raise UserError(f"no configuration is called '{name}'; {nearest(name, list(known))}")
    return known[name]
