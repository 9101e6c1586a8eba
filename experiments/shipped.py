"""Files that come with the package, by their bare names: --config=best, --space=paper."""

import os
import pathlib

from alterrec_jax.errors import UserError, nearest

_HERE = pathlib.Path(__file__).parent


def config_file(value: str) -> str:
    """The file of a configuration, by its path or by the name of one that is shipped.

    Raises:
      UserError: no configuration of that name is shipped; it suggests the nearest.
    """
    return _file_of(value, "configuration", _HERE / "configs", ".py")


def space_file(value: str) -> str:
    """The file of a search space, likewise."""
    return _file_of(value, "search space", _HERE / "spaces", ".json")


def _file_of(value: str, what: str, folder: pathlib.Path, ending: str) -> str:
    if value.endswith(ending) or os.path.basename(value) != value:
        return value
    names = [path.stem for path in folder.glob(f"*{ending}") if path.stem != "__init__"]
    if value not in names:
        raise UserError(
            f"no {what} is called '{value}' ({folder} has those that are shipped; one of your own is named by its "
            f"path, {value or 'mine'}{ending} say); {nearest(value, names)}"
        )
    return str(folder / f"{value}{ending}")
