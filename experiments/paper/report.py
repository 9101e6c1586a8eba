"""Collects the tables and figures that a study has written into one HTML page that needs nothing beside it.

python -m experiments.paper.report --workdir=DIR
"""

import base64
import pathlib
from typing import Any

from absl import flags

from alterrec_jax.errors import UserError
from alterrec_jax.runtime import command_line, extras, files
from experiments.paper.names import NAMES

_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder with a folder for each NAME: --output of these, or their --workdir.", required=True
)
_OUTPUT = flags.DEFINE_string("output", None, "HTML file to write; report.html in that folder by default.")


def main() -> int:
    """Writes the page."""
    extras.require("plots", "the report", "jinja2")
    import jinja2  # here, for it comes with an extra

    folder = pathlib.Path(_WORKDIR.value)
    sections = [_section(folder / name, name) for name in NAMES if (folder / name / "outcome.json").is_file()]
    if not sections:
        names = ", ".join(NAMES)
        raise UserError(
            f"{folder} holds no table or figure yet; run python -m experiments.paper.NAME, NAME in: {names}"
        )
    missing = [name for name in NAMES if name not in {section["name"] for section in sections}]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    page = environment.get_template("report.html.jinja").render(
        title=folder.resolve().name.replace("_", " "), sections=sections, missing=missing
    )
    path = pathlib.Path(_OUTPUT.value or folder / "report.html")
    files.write_text(path, page)
    print(f"{path}: {', '.join(section['name'] for section in sections)}")
    if missing:
        print(f"not there yet: {', '.join(missing)}")
    return 0


def _section(folder: pathlib.Path, name: str) -> dict[str, Any]:
    """What the page shows of one table or figure."""
    outcome = files.read_json(folder / "outcome.json", "outcome of the study")
    try:
        head, *rows = outcome["shown"]
        picture = base64.b64encode((folder / "figure.png").read_bytes()).decode()
        return {
            "name": name,
            "head": head,
            "rows": [[_cell(cell) for cell in row] for row in rows],
            "picture": picture,
            **{part: outcome[part] for part in ("title", "source", "findings", "record")},
        }
    except (KeyError, ValueError, TypeError, FileNotFoundError) as error:
        raise UserError(f"{folder} is not whole ({error}); run python -m experiments.paper.{name} again") from None


def _cell(cell: str) -> Any:
    """A cell as Markup, in bold where it stands between two asterisks each."""
    import markupsafe

    if cell.startswith("**"):
        return markupsafe.Markup("<strong>{}</strong>").format(cell.strip("*"))
    return markupsafe.escape(cell)


if __name__ == "__main__":
    command_line.run(main)
