"""Prints and plots what a person wants to know first about a dataset folder: sizes, coverage, and the traps in it.

python -m data_tools.describe DIR
"""

import pathlib

from absl import flags

from alterrec_jax.errors import UserError
from alterrec_jax.runtime import command_line, extras, files
from alterrec_jax.runtime.console import log
from alterrec_jax.runtime.printable import printable

_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "Dataset folder written by data_tools.prepare; --data_dir= may be left out."
)
_OUTPUT = flags.DEFINE_string("output", None, "PNG file to draw into; describe.png in the dataset folder by default.")


def main() -> None:
    """Prints the description and draws it."""
    from alterrec_jax.data.dataset import load_dataset
    from alterrec_jax.data.dataset_files import PICTURE
    from data_tools import description, description_plot

    if not _DATA_DIR.value:
        raise UserError("no dataset named; run: python -m data_tools.describe DIR")
    dataset = load_dataset(_DATA_DIR.value)
    described = description.describe(dataset)
    if not _OUTPUT.value:
        files.require_no_links(dataset.path, [PICTURE])
    output = pathlib.Path(_OUTPUT.value or dataset.path / PICTURE)
    print(printable(description.as_text(described)))
    if not _OUTPUT.value and not extras.installed("matplotlib"):
        log(f"note: no picture is drawn without matplotlib; {extras.remedy('plots')}")
        return
    extras.require("plots", f"--output={output}", "matplotlib")
    description_plot.draw(described, output)
    print(printable(f"\nplots: {output}"))


if __name__ == "__main__":
    command_line.run(main, positional="data_dir")
