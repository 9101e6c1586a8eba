"""The packages that are installed beside this one."""

import importlib.util
import pathlib

from alterrec_jax.errors import UserError


def require_ours(name: str) -> None:
    """Stops where importing a package that is installed beside this one would find another: a folder of the user's.

    Raises:
      UserError: names what is found.
    """
    home, spec = pathlib.Path(__file__).parents[2], importlib.util.find_spec(name)
    if spec is None or spec.origin is None or pathlib.Path(spec.origin).parents[1] != home:
        found = "" if spec is None else spec.origin or next(iter(spec.submodule_search_locations or ()), "")
        raise UserError(
            f"{found} hides the package {name} of alterrec_jax; rename it, or start Python in another folder"
            if found
            else f"the package {name} of alterrec_jax is missing; install alterrec_jax again"
        )
