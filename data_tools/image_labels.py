"""A dataset with the words and vectors of its images: read, labelled, and written whole or not at all.

What a user brought to preparation stays as it was; what an earlier labelling made is made anew.
"""

import pathlib
from typing import Any

from alterrec_jax.data import dataset_files
from alterrec_jax.data.dataset import Dataset, load_dataset, write_dataset
from alterrec_jax.data.dataset_files import IMAGE, IMAGE_FEATURES, IMAGE_WORDS, TEXT, TEXT_AND_IMAGE, vectors_file
from alterrec_jax.data.session_arrays import MADE_OF
from alterrec_jax.errors import UserError
from alterrec_jax.runtime import files
from alterrec_jax.runtime.console import log
from data_tools import encode_text, image_features
from data_tools.classify_images import Classifier
from data_tools.coverage import coverage_of
from data_tools.image_classifier import ImageClassifier
from data_tools.image_features import WORDS, Brought, Made, Settings
from data_tools.options import DEFAULT_CACHE_DIR

_RECORD = "image_labels"  # in the manifest
_WORDS_MADE, _VECTORS_MADE = "words_made", "vectors_made"  # in the record: what was not brought
_WRITTEN_ANEW = ("format", "format_version", "counts", "fingerprint", "files", "digest", "text_encoder", MADE_OF)


def label(
    data_dir: str,
    *,
    out: str = "",
    image_dir: str = "",
    settings: Settings = Settings(),  # noqa: B008
    text_model: str = "",
    cache_dir: str = DEFAULT_CACHE_DIR,
    classifier: Classifier | None = None,
    encoder: encode_text.Encoder | None = None,
) -> str:
    """Writes a dataset with the words and vectors of its images.

    Args:
      data_dir: the dataset.
      out: the folder to write; by default `data_dir`, whose dataset is replaced when the new one is whole.
      image_dir: where the images are; by default where they were when the dataset was prepared.
      settings: how images become words.
      text_model: folder or name of the dataset's text model, where its name alone does not lead to it.
      cache_dir: where the vectors of images and texts are kept.
      classifier, encoder: used instead of the packaged one and of the dataset's; for tests.

    Returns:
      What was found, as text for a person.

    Raises:
      UserError: the dataset names no images and has no words, no image is there, a package or a model is missing, or
        there is nothing to make.
    """
    dataset = load_dataset(data_dir)
    target = pathlib.Path(out or data_dir)
    if target.is_dir():  # what would be refused in the end is refused now
        files.require_ours(target, dataset_files.names_in(target))
    brought = _brought(dataset)
    made_with = _text_encoder(dataset)
    if made_with:
        encoder = encoder or encode_text.load_encoder_of(made_with, text_model)
    made = Made(dataset.items)
    if _needs_images(dataset, brought):
        folder = _folder(dataset, image_dir)
        made = image_features.from_images(
            dataset, brought, folder, classifier or ImageClassifier(), settings, cache_dir
        )
    if made_with and encoder:
        image_features.add_texts(made, brought, encoder, cache_dir)
    if not made.vectors and not made.record:
        raise UserError(f"the words and vectors of images of {data_dir} were brought, and there is nothing to make")
    provenance = _provenance(dataset, brought, made)
    vectors = {**dataset.vectors, **made.vectors}
    write_dataset(
        target,
        items=made.items,
        sessions=dataset_files.read_sessions(dataset.path),
        text_vectors=vectors.pop(TEXT, None),
        catalogue_size=dataset.catalogue_size,
        provenance=provenance,
        vectors=vectors,
    )
    shares = [f"{WORDS} of {provenance['attributes'][WORDS]['catalogue_coverage']:.1%}"]
    shares += [f"{name} vectors of {provenance['vectors'][name]['catalogue_coverage']:.1%}" for name in made.vectors]
    fingerprint = dataset_files.read_manifest(target)["fingerprint"]
    known = f"known of the catalogue: {', '.join(shares)}"
    return "\n".join([*made.lines, known, f"dataset {fingerprint} is in {target}"])


def _brought(dataset: Dataset) -> Brought:
    before = dataset.manifest.get(_RECORD, {})
    words = WORDS in dataset.items.columns and not before.get(_WORDS_MADE, False)
    return Brought(words, frozenset(dataset.vectors.keys() & set(IMAGE_FEATURES)) - set(before.get(_VECTORS_MADE, ())))


def _text_encoder(dataset: Dataset) -> dict[str, Any]:
    """What encoded the dataset's texts, and is to encode words too; {} where no text model did."""
    encoder = dataset.text_encoders.get(TEXT, {})
    if TEXT in dataset.vectors and encoder and not encoder.get("given"):
        return encoder
    log(
        f"note: no text model made text vectors of {dataset.path}, so no vectors {IMAGE_WORDS} and {TEXT_AND_IMAGE} "
        "are made; prepare it without --text_model=none and --text_vectors, or bring these two by --vectors"
    )
    return {}


def _needs_images(dataset: Dataset, brought: Brought) -> bool:
    """Whether images are to be looked at.

    Raises:
      UserError: they are, and the dataset names none.
    """
    if brought.words and IMAGE in brought.vectors:
        return False
    if "image" in dataset.items.columns:
        return True
    if not brought.words:
        raise UserError(
            f"{dataset.path} names no images; prepare it with --image_column and --image_dir, or bring words by "
            "--image_words_column"
        )
    log(f"note: {dataset.path} names no images, so no {IMAGE} vectors are made; its words are encoded")
    return False


def _folder(dataset: Dataset, image_dir: str) -> pathlib.Path:
    """Where the images are, absolute and without links.

    Raises:
      UserError: it is no folder.
    """
    before = str(dataset.manifest.get("arguments", {}).get("image_dir", ""))
    folder = pathlib.Path(image_dir or before).expanduser().resolve()
    if not (image_dir or before) or not folder.is_dir():
        what = (
            f"--image_dir={image_dir}"
            if image_dir
            else f"{before or 'nothing'}, where the images of {dataset.path} were,"
        )
        raise UserError(f"{what} is no folder; name the one that the images are in by --image_dir")
    return folder


def _provenance(dataset: Dataset, brought: Brought, made: Made) -> dict[str, Any]:
    """What the new manifest tells besides its files."""
    kept = {name: value for name, value in dataset.manifest.items() if name not in _WRITTEN_ANEW}
    size, attributes = dataset.catalogue_size, dict(kept.get("attributes", {}))
    if not brought.words:
        least = made.record["least_probability"]
        rule = f"the {made.record['words']} most likely classes" + (
            f" of probability {least:g} or more" if least else ""
        )
        attributes[WORDS] = {"rule": f"{rule}, by {made.record['classifier']}", **coverage_of(made.items[WORDS], size)}
    notes = {
        name: {"file": vectors_file(name), "width": table.shape[1], **made.notes[name], **coverage_of(table, size)}
        for name, table in made.vectors.items()
    }
    return {
        **kept,
        "text_encoders": dataset.text_encoders,
        "attributes": attributes,
        "vectors": {**kept.get("vectors", {}), **notes},
        _RECORD: {**made.record, _WORDS_MADE: not brought.words, _VECTORS_MADE: sorted(made.vectors)},
    }
