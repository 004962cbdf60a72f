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
    planes = np.zeros((sh, sw, high, wide), x.dtype)
    flat = planes.reshape(-1)
    n = (rows - 1) * wide + columns
    line = np.empty(n, x.dtype)
    held = -1
    for o in range(first, stop):
        c = o // multiplier
        if c != held:
            for r in range(min(height, high * sh - top)):
                p, q = (top + r) % sh, (top + r) // sh
                for f in range(sw):
                    # Column s of this plane is column s sw + f - left of the map.
                    low = max(0, -((f - left) // sw))
                    for s in range(min(wide, (width - 1 - f + left) // sw + 1) - low):
                        planes[p, f, q, low + s] = x[c, r, (low + s) * sw + f - left]
            held = c
        line[:] = 0
        for i in range(kh):
            row = ((i * dh) % sh * sw * high + i * dh // sh) * wide
            for j in range(kw):
                at = row + (j * dw) % sw * high * wide + j * dw // sw
                _add_scaled(weight[o, i, j], flat[at : at + n], line)
        for r in range(rows):
            for s in range(columns):
                out[o, r, s] = line[r * wide + s]


@njit(cache=True, nogil=True, error_model="numpy")
def _add_scaled(factor, values, total):
    for k in range(len(total)):
        total[k] += factor * values[k]


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
