"""Makes a run of the authors' UniSRec checkpoint, which another run can start from (start_from).

    python -m experiments.import_unisrec --checkpoint=UniSRec-FHCKM-300.pth --data_dir=DIR --workdir=RUN

The checkpoint was pretrained on five domains of Amazon, on the CLS vectors that bert-base-uncased makes of titles,
categories and brands; DIR needs such vectors of its own items. Nothing in the file is executed: torch reads arrays and
plain values, and whatever else there is stays unread.
"""

import pathlib

from absl import flags

from alterrec_jax.runtime import command_line
from alterrec_jax.runtime.console import log

_CHECKPOINT = flags.DEFINE_string("checkpoint", None, "The authors' file, UniSRec-FHCKM-300.pth say.", required=True)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Dataset folder whose text vectors are of its kind.", required=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run to write; there is none yet.", required=True)
_SIZES = ("dim", "layers", "heads", "inner", "experts", "unit_variance")


def main() -> int:
    """Writes the run."""
    from alterrec_jax.data.dataset import load_dataset
    from experiments.unisrec_checkpoint import import_run

    dataset = load_dataset(_DATA_DIR.value)
    config = import_run(pathlib.Path(_CHECKPOINT.value), dataset, pathlib.Path(_WORKDIR.value))
    sizes = " ".join(f"--config.network.{name}={getattr(config.network, name)}" for name in _SIZES)
    log(
        f"wrote {_WORKDIR.value}; start from it by --config.start_from={_WORKDIR.value} --config.max_length="
        f"{config.max_length} {sizes}. Whether the vectors of {dataset.path} are those of "
        "the CLS token, and not a mean over tokens, no file tells: see that they are"
    )
    return 0


if __name__ == "__main__":
    command_line.run(main)
