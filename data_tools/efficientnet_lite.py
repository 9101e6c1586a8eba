"""EfficientNet-Lite0, a classifier of photographs into the thousand classes of ImageNet, in JAX.

A stem, sixteen inverted residual blocks and a head, all of them convolutions: EfficientNet (Tan and Le, 2019) without
squeeze-and-excitation, with ReLU6 for the swish, as TensorFlow's model garden publishes it. For use alone: batch
normalisation, whose statistics no longer change, is folded into the convolutions.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

SIDE = 224  # pixels of the square image that it takes
WIDTH = 1280  # of the vector before the last layer
CLASSES = 1000

# Of each stage: blocks, side of the depthwise kernel, stride of the first block, expansion, channels.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_NORM_EPSILON = 1e-3
_MEAN, _SCALE = 127.0, 128.0  # of the pixels that it was trained on
_LAYOUT = ("NHWC", "HWIO", "NHWC")


class Convolution(NamedTuple):
    """Attributes: kernel, float32 [height, width, input / groups, output]; bias, float32 [1, 1, 1, output]."""

    kernel: jax.Array
    bias: jax.Array


class Weights(NamedTuple):
    """Of the whole net.

    Attributes:
      stem, head: the first convolution and the last one.
      blocks: of each block, its convolutions: expanding (not where the expansion is 1), depthwise and projecting.
      kernel: float32 [1280, 1000], of the last layer.
      bias: float32 [1, 1000].
    """

    stem: Convolution
    blocks: tuple[tuple[Convolution, ...], ...]
    head: Convolution
    kernel: jax.Array
    bias: jax.Array


def folded(state: Mapping[str, np.ndarray]) -> Weights:
    """The weights from those of the PyTorch package efficientnet-lite-pytorch.

    Args:
      state: by their names there, float32; kernels are [output, input / groups, height, width].

    Raises:
      KeyError: one is missing.
    """
    blocks = []
    for number, (_, expansion, *_) in enumerate(_blocks()):
        names = [("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2")]
        if expansion != 1:
            names.insert(0, ("_expand_conv", "_bn0"))
        prefix = f"_blocks.{number}."
        blocks.append(tuple(_convolution(state, prefix + kernel, prefix + norm) for kernel, norm in names))
    return Weights(
        stem=_convolution(state, "_conv_stem", "_bn0"),
        blocks=tuple(blocks),
        head=_convolution(state, "_conv_head", "_bn1"),
        kernel=jnp.asarray(state["_fc.weight"].T),
        bias=jnp.asarray(state["_fc.bias"][None]),
    )


def _blocks() -> Iterator[tuple[int, int, bool]]:
    """The stride of each block, its expansion, and whether its input is added to what it gives."""
    for repeats, _, stride, expansion, _ in STAGES:
        for repeat in range(repeats):
            yield (1 if repeat else stride), expansion, repeat > 0


def _convolution(state: Mapping[str, np.ndarray], kernel: str, norm: str) -> Convolution:
    """y = (conv(x) - mean) * scale + offset, as one convolution with a bias."""
    scale, offset, mean, variance = (
        state[f"{norm}.{name}"].astype(np.float64) for name in ("weight", "bias", "running_mean", "running_var")
    )
    scale = scale / np.sqrt(variance + _NORM_EPSILON)
    by_output = state[f"{kernel}.weight"].transpose(2, 3, 1, 0) * scale
    bias = (offset - mean * scale)[None, None, None]
    return Convolution(jnp.asarray(by_output, jnp.float32), jnp.asarray(bias, jnp.float32))


@jax.jit
def vectors(weights: Weights, images: jax.Array) -> jax.Array:
    """What the last layer reads: the mean of the head's channels over the image.

    Args:
      weights: of `folded`.
      images: uint8 [batch, 224, 224, 3], red, green and blue.

    Returns:
      float32 [batch, 1280], none below 0 or above 6.
    """
    x = (images.astype(jnp.float32) - _MEAN) / _SCALE
    x = jax.nn.relu6(_convolved(x, weights.stem, stride=2))
    for (stride, _, residual), (*expanding, depthwise, projecting) in zip(_blocks(), weights.blocks, strict=True):
        before = x
        for convolution in expanding:
            x = jax.nn.relu6(_convolved(x, convolution))
        x = jax.nn.relu6(_depthwise(x, depthwise, stride))
        x = _convolved(x, projecting)
        x = x + before if residual else x
    return jax.nn.relu6(_convolved(x, weights.head)).mean(axis=(1, 2))


@jax.jit
def probabilities(weights: Weights, vectors: jax.Array) -> jax.Array:
    """float32 [batch, 1000], of each class, from the vectors [batch, 1280] of images."""
    return jax.nn.softmax(jnp.matmul(vectors, weights.kernel, precision="highest") + weights.bias)


def _convolved(x: jax.Array, convolution: Convolution, stride: int = 1) -> jax.Array:
    """Padded as TensorFlow pads: the output has ceil(input / stride) pixels; an odd one is put right and below."""
    y = jax.lax.conv_general_dilated(
        x, convolution.kernel, (stride, stride), "SAME", dimension_numbers=_LAYOUT, precision="highest"
    )
    return y + convolution.bias


def _depthwise(x: jax.Array, convolution: Convolution, stride: int) -> jax.Array:
    """Each channel by itself, padded likewise.

    A sum over the kernel's places, which XLA makes one loop of: its own grouped convolution makes the whole net five
    times slower on CPUs.
    """
    side, pixels = convolution.kernel.shape[0], x.shape[1]
    output = -(-pixels // stride)
    padding = max((output - 1) * stride + side - pixels, 0)
    around = (padding // 2, padding - padding // 2)
    x = jnp.pad(x, ((0, 0), around, around, (0, 0)))
    y = jnp.broadcast_to(convolution.bias, (len(x), output, output, x.shape[-1]))
    for row in range(side):
        for column in range(side):
            rows, columns = (slice(at, at + (output - 1) * stride + 1, stride) for at in (row, column))
            y = y + x[:, rows, columns] * convolution.kernel[row, column][None, None]
    return y
