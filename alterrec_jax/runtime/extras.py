"""Packages that only some commands need: they come with an extra of the installation, and are imported where used."""

import importlib.util

from alterrec_jax.errors import UserError


def installed(module: str) -> bool:
    """Whether a top-level module can be found; nothing is imported."""
    return importlib.util.find_spec(module) is not None


def remedy(extra: str) -> str:
    """What installs an extra: a name of [project.optional-dependencies] in pyproject.toml."""
    return f'run: pip install "alterrec_jax[{extra}]"'


def require(extra: str, what: str, *modules: str, otherwise: str = "") -> None:
    """Stops where a module that comes with an extra is not installed.

    Args:
      extra: as of `remedy`.
      what: what needs the modules; the sentence begins with it.
      modules: top-level ones.
      otherwise: a clause on how to do without.

    Raises:
      UserError: names the missing modules, and the command that installs them.
    """
    if missing := [module for module in modules if not installed(module)]:
        or_else = f", or {otherwise}" if otherwise else ""
        raise UserError(f"{what} needs {', '.join(missing)}, not installed here; {remedy(extra)}{or_else}")
