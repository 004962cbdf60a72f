"""Zeros around a feature map, in front of a convolution or a pool."""

from collections.abc import Sequence

from neurosim.layers.windows import Padding, Pair

__all__ = ["reaching", "same_padding", "together"]


def same_padding(
    sizes: Pair,
    window: Sequence[int],
    stride: Pair,
    dilation: Sequence[int] = (1, 1),
    *,
    more_in_front: bool = False,
) -> Padding:
    """Zeros around a map that make its size ceil(size / stride): "same" in Keras and ONNX.

    The odd one of an odd number comes last, or first.
    """
    pairs = []
    for k in (0, 1):
        extent = dilation[k] * (window[k] - 1) + 1
        total = max(0, (-(-sizes[k] // stride[k]) - 1) * stride[k] + extent - sizes[k])
        few, many = total // 2, total - total // 2
        pairs.append((many, few) if more_in_front else (few, many))
    return pairs[0], pairs[1]


def reaching(sizes: Pair, window: Pair, stride: Pair, padding: Padding, dilation: Pair) -> Padding:
    """Padding that gives every window which begins on the map its place."""
    pairs = []
    for k in (0, 1):
        before, after = padding[k]
        n, extent = sizes[k], dilation[k] * (window[k] - 1) + 1
        places = -(-(n + before + after - extent) // stride[k]) + 1
        if (places - 1) * stride[k] >= n + before:
            places -= 1
        pairs.append((before, max(after, (places - 1) * stride[k] + extent - n - before)))
    return pairs[0], pairs[1]


def together(inner: Padding, outer: Padding) -> Padding:
    """Zeros around zeros around a map."""
    (top, bottom), (left, right) = inner
    (above, below), (before, after) = outer
    return (top + above, bottom + below), (left + before, right + after)
