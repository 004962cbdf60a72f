"""What one fault alone changes: exact changes of activations, and their sums over all synapses.

Changes are computed without cancellation: phi(z + h) - phi(z) of a small h keeps all its digits.
"""

import math

import numpy as np
from numba import njit

from neurosim.kernels.double_precision import sigmoid_change, softplus_change

__all__ = [
    "IDENTITY",
    "LEAKY_RELU",
    "LOGISTIC",
    "SOFTPLUS",
    "activation_change",
    "synapse_changes",
    "synapse_changes_softmax",
    "synapse_sums",
    "synapse_sums_softmax",
]

# phi(z) = identity; z or slope * z; scale / (1 + exp(-gain z)) up to a constant; log(1 + exp(z)).
IDENTITY, LEAKY_RELU, LOGISTIC, SOFTPLUS = 0, 1, 2, 3

_SMALL = 1.0
_LARGE = 700.0  # exp of it is still in the range of a float
_MANY = {"reassoc", "contract"}  # lets sums be vectorised


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _series(x):
    """expm1(x) for |x| <= _SMALL, to rounding, without a branch: loops over it are vectorised."""
    x = 0.25 * x
    r = 1.0 / 479001600.0
    r = r * x + 1.0 / 39916800.0
    r = r * x + 1.0 / 3628800.0
    r = r * x + 1.0 / 362880.0
    r = r * x + 1.0 / 40320.0
    r = r * x + 1.0 / 5040.0
    r = r * x + 1.0 / 720.0
    r = r * x + 1.0 / 120.0
    r = r * x + 1.0 / 24.0
    r = r * x + 1.0 / 6.0
    r = r * x + 0.5
    r = r * x + 1.0
    m = r * x
    m = m * (m + 2.0)  # expm1(2x) from expm1(x)
    return m * (m + 2.0)


@njit(cache=True, nogil=True, error_model="numpy")
def _logistic(a):
    """1 / (1 + exp(-a)) and 1 minus it, both to full relative precision."""
    e = math.exp(-abs(a))
    big, small = 1.0 / (1.0 + e), e / (1.0 + e)
    return (big, small) if a >= 0.0 else (small, big)


@njit(cache=True, nogil=True, error_model="numpy")
def _change(code, gain, scale, z, h):
    """phi(z + h) - phi(z)."""
    if code == IDENTITY:
        return h
    if code == LEAKY_RELU:
        new = z + h
        if z > 0.0:
            return h if new > 0.0 else gain * new - z
        return gain * h if new <= 0.0 else new - gain * z
    if code == LOGISTIC:
        return scale * sigmoid_change(gain * z, gain * h)
    return softplus_change(z, h)


@njit(cache=True, nogil=True, error_model="numpy", fastmath=_MANY)
def activation_change(code, gain, scale, z, dz):
    """phi(z + dz) - phi(z), written over dz.

    z is (n_inputs, n), dz is (n_inputs, n_changes, n): each change of an input beside the golden z.
    """
    n_inputs, n_changes, n = dz.shape
    s = np.empty(n)
    q = np.empty(n)
    for x in range(n_inputs):
        if code == LOGISTIC:
            for i in range(n):
                s[i], c = _logistic(gain * z[x, i])
                q[i] = scale * s[i] * c
        for r in range(n_changes):
            row = dz[x, r]
            if code == LOGISTIC:
                largest = 0.0
                for i in range(n):
                    largest = max(largest, abs(row[i]))
                if gain * largest <= _SMALL:
                    for i in range(n):
                        m = _series(gain * row[i])
                        row[i] = q[i] * m / (1.0 + s[i] * m)
                    continue
            for i in range(n):
                row[i] = _change(code, gain, scale, z[x, i], row[i])


@njit(cache=True, nogil=True, error_model="numpy", fastmath=_MANY)
def _unit_changes(code, gain, scale, z, weight, y, t):
    """Changes t (n_in,) of one neuron's output when each of its synapses alone is dead."""
    n = len(y)
    if code == LOGISTIC:
        largest = 0.0
        for j in range(n):
            largest = max(largest, abs(weight[j] * y[j]))
        if gain * largest <= _SMALL:
            s, c = _logistic(gain * z)
            q = scale * s * c
            for j in range(n):
                m = _series(-gain * weight[j] * y[j])
                t[j] = q * m / (1.0 + s * m)
            return
    for j in range(n):
        t[j] = _change(code, gain, scale, z, -weight[j] * y[j])


@njit(cache=True, nogil=True, error_model="numpy", fastmath=_MANY)
def synapse_sums(code, gain, scale, z, weight, y):
    """Sum and sum of squares, over a neuron's synapses, of the change each makes of its output.

    z (n_inputs, n_out), weight (n_out, n_in), y (n_inputs, n_in); both results (n_inputs, n_out).
    """
    first, second = np.zeros(z.shape), np.zeros(z.shape)
    t = np.empty(weight.shape[1])
    for x in range(z.shape[0]):
        for i in range(z.shape[1]):
            _unit_changes(code, gain, scale, z[x, i], weight[i], y[x], t)
            a, b = 0.0, 0.0
            for j in range(len(t)):
                a += t[j]
                b += t[j] * t[j]
            first[x, i], second[x, i] = a, b
    return first, second


@njit(cache=True, nogil=True, error_model="numpy", fastmath=_MANY)
def synapse_changes(code, gain, scale, z, weight, y, power, out):
    """Add to out (n_inputs or 1, n_out, n_in) the change of its neuron that each synapse makes.

    To the given power, 1 or 2; with one row in out, summed over the inputs.
    """
    t = np.empty(weight.shape[1])
    for x in range(z.shape[0]):
        into = out[x if out.shape[0] > 1 else 0]
        for i in range(z.shape[1]):
            _unit_changes(code, gain, scale, z[x, i], weight[i], y[x], t)
            if power == 1:
                for j in range(len(t)):
                    into[i, j] += t[j]
            else:
                for j in range(len(t)):
                    into[i, j] += t[j] * t[j]


_BLOCK = 64  # synapses whose softmax changes are computed together


@njit(cache=True, nogil=True, error_model="numpy", fastmath=_MANY)
def _softmax_changes(t, slopes, outputs, log_outputs, d, mean, factor):
    """Changes d (n_outputs, >= len(t)) of softmax outputs when the logits change by slopes * t."""
    n_outputs, n = len(outputs), len(t)
    largest = 0.0
    for j in range(n):
        largest = max(largest, abs(t[j]))
        mean[j] = 0.0
    steepest = 0.0
    for k in range(n_outputs):
        steepest = max(steepest, abs(slopes[k]))
    near = largest * steepest <= _SMALL
    for k in range(n_outputs):
        w, p = slopes[k], outputs[k]
        if near:
            for j in range(n):
                d[k, j] = _series(w * t[j])
                mean[j] += p * d[k, j]
        else:
            for j in range(n):
                d[k, j] = math.expm1(min(w * t[j], _LARGE))
                mean[j] += p * d[k, j]
    for j in range(n):
        factor[j] = 1.0 / (1.0 + mean[j])
    for k in range(n_outputs):
        p = outputs[k]
        for j in range(n):
            d[k, j] = p * (d[k, j] - mean[j]) * factor[j]
    if near:
        return
    for j in range(n):
        # Where golden mass falls 1 + mean cancels, or is 0.
        if mean[j] > -0.5 and largest * steepest <= _LARGE:
            continue
        top = -np.inf
        for k in range(n_outputs):
            top = max(top, log_outputs[k] + slopes[k] * t[j])
        total = 0.0
        for k in range(n_outputs):
            d[k, j] = math.exp(log_outputs[k] + slopes[k] * t[j] - top)
            total += d[k, j]
        for k in range(n_outputs):
            d[k, j] = d[k, j] / total - outputs[k]


@njit(cache=True, nogil=True, error_model="numpy", fastmath=_MANY)
def synapse_sums_softmax(code, gain, scale, z, weight, y, jacobian, outputs, log_outputs):
    """Sum and sum of squares, over all synapses of a layer, of the change of each softmax output.

    jacobian (n_outputs, n_out) takes changes of the layer to changes of the logits; outputs
    (n_inputs, n_outputs) are the golden outputs, log_outputs their logarithms. Both results
    (n_inputs, n_outputs).
    """
    n_outputs = outputs.shape[1]
    first, second = np.zeros(outputs.shape), np.zeros(outputs.shape)
    t = np.empty(weight.shape[1])
    d, mean, factor = np.empty((n_outputs, _BLOCK)), np.empty(_BLOCK), np.empty(_BLOCK)
    for x in range(z.shape[0]):
        for i in range(z.shape[1]):
            _unit_changes(code, gain, scale, z[x, i], weight[i], y[x], t)
            for start in range(0, len(t), _BLOCK):
                part = t[start : start + _BLOCK]
                _softmax_changes(part, jacobian[:, i], outputs[x], log_outputs[x], d, mean, factor)
                for k in range(n_outputs):
                    a, b = 0.0, 0.0
                    for j in range(len(part)):
                        a += d[k, j]
                        b += d[k, j] * d[k, j]
                    first[x, k] += a
                    second[x, k] += b
    return first, second


@njit(cache=True, nogil=True, error_model="numpy", fastmath=_MANY)
def synapse_changes_softmax(
    code, gain, scale, z, weight, y, jacobian, outputs, log_outputs, power, out
):
    """Add to out (n_outputs, n_inputs or 1, n_out, n_in) each synapse's change of each output.

    To the given power, 1 or 2; with one row in out, summed over the inputs.
    """
    n_outputs = outputs.shape[1]
    t = np.empty(weight.shape[1])
    d, mean, factor = np.empty((n_outputs, _BLOCK)), np.empty(_BLOCK), np.empty(_BLOCK)
    for x in range(z.shape[0]):
        row = x if out.shape[1] > 1 else 0
        for i in range(z.shape[1]):
            _unit_changes(code, gain, scale, z[x, i], weight[i], y[x], t)
            for start in range(0, len(t), _BLOCK):
                part = t[start : start + _BLOCK]
                _softmax_changes(part, jacobian[:, i], outputs[x], log_outputs[x], d, mean, factor)
                for k in range(n_outputs):
                    into = out[k, row, i, start : start + len(part)]
                    if power == 1:
                        for j in range(len(part)):
                            into[j] += d[k, j]
                    else:
                        for j in range(len(part)):
                            into[j] += d[k, j] * d[k, j]
