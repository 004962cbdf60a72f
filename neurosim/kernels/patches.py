"""Patches of feature maps as columns of a matrix, and back: what turns convolutions into products.

A padded feature map x is (n, c, h, w). Column (i, r, s) of the patches, (c kh kw, n_columns), is
what the kernel sees of image i at output row r and column s; columns run over images, then rows
first..stop - 1, then output columns.
"""

import numpy as np
from numba import njit

__all__ = [
    "correlate_channels",
    "gather_patches",
    "lose_weights",
    "scatter_channels",
    "scatter_patches",
]


@njit(cache=True, nogil=True, error_model="numpy")
def gather_patches(x, image, stop_image, first, stop, width, size, stride, dilation, patches):
    """Write the patches of some images and output rows; width: output columns of a row."""
    channels = x.shape[1]
    (kh, kw), (sh, sw), (dh, dw) = size, stride, dilation
    for c in range(channels):
        for i in range(kh):
            for j in range(kw):
                line = patches[(c * kh + i) * kw + j]
                at = 0
                for n in range(image, stop_image):
                    for r in range(first, stop):
                        row = x[n, c, r * sh + i * dh]
                        if sw == 1:
                            for s in range(width):
                                line[at + s] = row[j * dw + s]
                        else:
                            for s in range(width):
                                line[at + s] = row[j * dw + s * sw]
                        at += width


@njit(cache=True, nogil=True, error_model="numpy")
def scatter_patches(patches, image, stop_image, first, stop, width, size, stride, dilation, x):
    """Add patches to where `gather_patches` takes them from."""
    channels = x.shape[1]
    (kh, kw), (sh, sw), (dh, dw) = size, stride, dilation
    for c in range(channels):
        for i in range(kh):
            for j in range(kw):
                line = patches[(c * kh + i) * kw + j]
                at = 0
                for n in range(image, stop_image):
                    for r in range(first, stop):
                        row = x[n, c, r * sh + i * dh]
                        for s in range(width):
                            row[j * dw + s * sw] += line[at + s]
                        at += width


@njit(cache=True, nogil=True, error_model="numpy")
def correlate_channels(x, weight, stride, dilation, padding, first, stop, out):
    """Depthwise: out channel o sees channel o // multiplier alone; channels first..stop - 1 of out.

    x (c, h, w) without padding, weight (c_out, kh, kw), out (c_out, oh, ow).

    A channel is laid out as planes of rows r, r + stride, ... and columns s, s + stride, ...: in
    them every weight slides by one value a position, so that all rows are one long loop.
    """
    rows, columns = out.shape[1:]
    channels, height, width = x.shape
    multiplier = out.shape[0] // channels
    kh, kw = weight.shape[1:]
    (sh, sw), (dh, dw) = stride, dilation
    top, left = padding[0][0], padding[1][0]
    high = rows + dh * (kh - 1) // sh  # rows and columns of a plane that the window sees
    wide = columns + dw * (kw - 1) // sw
    planes = np.zeros(sh * sw * high * wide, x.dtype)
    line = np.empty((rows - 1) * wide + columns, x.dtype)
    starts = np.empty((kh, kw), np.uint64)  # where in the planes each weight begins
    for i in range(kh):
        for j in range(kw):
            plane = (i * dh) % sh * sw + (j * dw) % sw
            starts[i, j] = (plane * high + i * dh // sh) * wide + j * dw // sw
    seen, result = x.reshape(-1), out.reshape(-1)
    held = -1
    for o in range(first, stop):
        c = o // multiplier
        if c != held:
            for p in range(sh):
                for f in range(sw):
                    # Row q and column s of this plane: row q sh + p - top of the map, and so on.
                    high_low, wide_low = max(0, -((p - top) // sh)), max(0, -((f - left) // sw))
                    n = min(wide, (width - 1 - f + left) // sw + 1) - wide_low
                    for q in range(high_low, min(high, (height - 1 - p + top) // sh + 1)):
                        to = ((p * sw + f) * high + q) * wide + wide_low
                        row = c * height + q * sh + p - top
                        _take(seen, row * width + wide_low * sw + f - left, sw, n, planes, to)
            held = c
        line[:] = 0
        for i in range(kh):
            for j in range(kw):
                _add_scaled(weight[o, i, j], planes, starts[i, j], line)
        for r in range(rows):
            _take(line, r * wide, 1, columns, result, (o * rows + r) * columns)


# Indices without a sign: Numba would look for negative ones in the loops.


@njit(cache=True, nogil=True, error_model="numpy")
def _take(values, start, step, n, into, at):
    """Copy n values, every step-th one, to places from `at` on."""
    start, at = np.uint64(start), np.uint64(at)
    if step == 1:
        for k in range(n):
            into[at + np.uint64(k)] = values[start + np.uint64(k)]
    else:
        for k in range(n):
            into[at + np.uint64(k)] = values[start + np.uint64(k * step)]


@njit(cache=True, nogil=True, error_model="numpy")
def _add_scaled(factor, values, start, total):
    for k in range(len(total)):
        total[k] += factor * values[start + np.uint64(k)]


@njit(cache=True, nogil=True, error_model="numpy")
def scatter_channels(cotangent, weight, stride, dilation, x):
    """The transpose of `correlate_channels`: add to x."""
    n, c_out, height, width = cotangent.shape
    multiplier = c_out // x.shape[1]
    kh, kw = weight.shape[1:]
    (sh, sw), (dh, dw) = stride, dilation
    for image in range(n):
        for o in range(c_out):
            for r in range(height):
                line = cotangent[image, o, r]
                for i in range(kh):
                    row = x[image, o // multiplier, r * sh + i * dh]
                    for j in range(kw):
                        w, at = weight[o, i, j], j * dw
                        for s in range(width):
                            row[at + s * sw] += w * line[s]


@njit(cache=True, nogil=True, error_model="numpy")
def lose_weights(trial, channel, source, row, column, weight, first, stop, stride, x, dz):
    """Take from dz what dead weights of kernels gave at positions first..stop - 1 of the map.

    Parameters
    ----------
    trial, channel, source, row, column, weight, first, stop : one a dead weight
        Output channel, input channel, where the window at position 0 sees x, the weight; positions
        count along the rows of the map.
    x : (n_trials, channels_in, height, width), padded, faulty
    dz : (n_trials, channels_out, rows, columns)
    """
    width = dz.shape[3]
    sh, sw = stride
    for k in range(len(trial)):
        out, seen, w = dz[trial[k], channel[k]], x[trial[k], source[k]], weight[k]
        at = first[k]
        while at < stop[k]:
            r, s = at // width, at % width
            end = min(width, s + stop[k] - at)
            line, row_in = out[r], seen[r * sh + row[k]]
            for c in range(s, end):
                line[c] -= w * row_in[c * sw + column[k]]
            at += end - s
