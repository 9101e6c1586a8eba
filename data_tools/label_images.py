"""Names what the images of a dataset's items show, and makes vectors of them, by a classifier of photographs.

python -m data_tools.label_images --data_dir=data/shop --least_probability=0.1
"""

from absl import flags

from alterrec_jax.runtime import command_line
from alterrec_jax.runtime.printable import printable
from data_tools.options import DEFAULT_CACHE_DIR

_DATA_DIR = flags.DEFINE_string(
    "data_dir",
    None,
    "Dataset folder, prepared with --image_column and --image_dir, or with --image_words_column.",
    required=True,
)
_OUT = flags.DEFINE_string(
    "out", "", "The dataset folder to write; by default --data_dir, replaced when the new one is whole."
)
_IMAGE_DIR = flags.DEFINE_string(
    "image_dir", "", "Folder of the images; by default the one that the dataset was prepared with."
)
_WORDS = flags.DEFINE_integer("words", 2, "How many words an image has at most: names of ImageNet classes.", 1)
_LEAST = flags.DEFINE_float(
    "least_probability",
    0.0,
    "Probability that a word needs. 0, as in SRIM's paper, names every image, also those that show nothing that the "
    "classifier knows; 0.1 leaves most of its guesses out.",
    0.0,
    1.0,
)
_TEXT_MODEL = flags.DEFINE_string(
    "text_model", "", "Folder or hub name of the dataset's text model, where its name does not lead to it."
)
_CACHE_DIR = flags.DEFINE_string(
    "cache_dir", DEFAULT_CACHE_DIR, "Folder where the vectors of images and texts are kept from run to run."
)


def main() -> None:
    """Labels them, and prints what was found."""
    from alterrec_jax.runtime.compiled_programs import keep_compiled_programs
    from data_tools.image_features import Settings
    from data_tools.image_labels import label

    keep_compiled_programs()
    labelled = label(
        _DATA_DIR.value,
        out=_OUT.value,
        image_dir=_IMAGE_DIR.value,
        settings=Settings(_WORDS.value, _LEAST.value),
        text_model=_TEXT_MODEL.value,
        cache_dir=_CACHE_DIR.value,
    )
    print(printable(labelled))


if __name__ == "__main__":
    command_line.run(main)
