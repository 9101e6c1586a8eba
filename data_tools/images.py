"""The images of items: found in a folder of the user's, hashed, and never copied."""

import pathlib

import polars as pl

from alterrec_jax.errors import UserError
from alterrec_jax.runtime import files


def with_hashes(items: pl.DataFrame, image_dir: str) -> tuple[pl.DataFrame, int]:
    """Adds the hashes of the image files.

    Args:
      items: column image: paths of files in `image_dir`, relative to it or absolute, or null.
      image_dir: the folder.

    Returns:
      the items with image (relative to the folder, null where there is no such file) and image_sha256; and how many
      named files are missing.

    Raises:
      UserError: the folder is missing, an image lies outside of it, or not one of them is there.
    """
    folder = pathlib.Path(image_dir).expanduser().resolve()
    if not folder.is_dir():
        raise UserError(
            f"--image_dir={image_dir} is no folder; name the one that the paths of --image_column start from"
        )
    paths: list[str | None] = []
    hashes: list[str | None] = []
    for name in items["image"]:
        file = None if name is None else within(folder, name)
        present = file is not None and file.is_file()
        paths.append(file.relative_to(folder).as_posix() if file is not None and present else None)
        hashes.append(files.sha256_file(file) if file is not None and present else None)
    named, found = len(items) - items["image"].null_count(), sum(path is not None for path in paths)
    if named and not found:
        first = items["image"].drop_nulls()[0]
        raise UserError(
            f"none of the {named:,} images of --image_column is in {folder}, the first being '{first}'; check "
            "--image_dir"
        )
    columns = [pl.Series("image", paths, pl.String), pl.Series("image_sha256", hashes, pl.String)]
    return items.with_columns(columns), named - found


def within(folder: pathlib.Path, name: str) -> pathlib.Path:
    """The file that a path means.

    Args:
      folder: absolute, without links.
      name: relative to it, or absolute.

    Raises:
      UserError: it lies outside of the folder.
    """
    file = (folder / name).resolve()
    if not file.is_relative_to(folder):
        raise UserError(f"image '{name}' lies outside of --image_dir={folder}; name a folder that holds all images")
    return file
