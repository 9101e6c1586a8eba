"""Joins dataset folders into one, each a domain of it: for pretraining on the items of several shops.

python -m data_tools.join --data_dirs=data/retail,data/groceries --out=data/two_shops
"""

from absl import flags

from alterrec_jax.runtime import command_line
from alterrec_jax.runtime.printable import printable

_DATA_DIRS = flags.DEFINE_list(
    "data_dirs",
    None,
    "Dataset folders, with commas between. A domain is called after its folder, and its items NAME/ID; texts must have "
    "been encoded by one model.",
    required=True,
)
_OUT = flags.DEFINE_string(
    "out",
    None,
    "The dataset folder to write; one that stands there is replaced when the new one is whole.",
    required=True,
)


def main() -> None:
    """Joins them, and prints what of."""
    from data_tools.domains import join

    print(printable(join(_DATA_DIRS.value, _OUT.value)))


if __name__ == "__main__":
    command_line.run(main)
