"""Collects the tables and figures that a study has written into one HTML page that needs nothing beside it."""

import base64
import pathlib
from collections.abc import Sequence
from typing import Any

from absl import flags

from alterrec_jax.errors import UserError
from alterrec_jax.runtime import extras, files

_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder with a folder for each NAME: --output of these, or their --workdir.", required=True
)
_OUTPUT = flags.DEFINE_string("output", None, "HTML file to write; report.html in that folder by default.")


def main(package: str, names: Sequence[str]) -> int:
    """Writes the page of a study whose commands are modules of a package, in the order of their names."""
    extras.require("plots", "the report", "jinja2")
    import jinja2  # here, for it comes with an extra

    folder = pathlib.Path(_WORKDIR.value)
    there = [name for name in names if (folder / name / "outcome.json").is_file()]
    sections = [_section(folder / name, f"{package}.{name}") for name in there]
    if not sections:
        raise UserError(
            f"{folder} holds no table or figure yet; run python -m {package}.NAME, NAME in: {', '.join(names)}"
        )
    missing = [name for name in names if name not in there]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    page = environment.get_template("report.html.jinja").render(
        title=folder.resolve().name.replace("_", " "), sections=sections, missing=missing
    )
    path = pathlib.Path(_OUTPUT.value or folder / "report.html")
    files.write_text(path, page)
    print(f"{path}: {', '.join(there)}")
    if missing:
        print(f"not there yet: {', '.join(missing)}")
    return 0


def _section(folder: pathlib.Path, module: str) -> dict[str, Any]:
    """What the page shows of one table or figure."""
    outcome = files.read_json(folder / "outcome.json", "outcome of the study")
    try:
        head, *rows = outcome["shown"]
        picture = base64.b64encode((folder / "figure.png").read_bytes()).decode()
        return {
            "name": folder.name,
            "head": head,
            "rows": [[_cell(cell) for cell in row] for row in rows],
            "picture": picture,
            **{part: outcome[part] for part in ("title", "source", "findings", "record")},
        }
    except (KeyError, ValueError, TypeError, FileNotFoundError) as error:
        raise UserError(f"{folder} is not whole ({error}); run python -m {module} again") from None


def _cell(cell: str) -> Any:
    """A cell as Markup, in bold where it stands between two asterisks each."""
    import markupsafe

    if cell.startswith("**"):
        return markupsafe.Markup("<strong>{}</strong>").format(cell.strip("*"))
    return markupsafe.escape(cell)
