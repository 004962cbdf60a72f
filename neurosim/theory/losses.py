"""What follows the last layer on the chip: read-out and loss, with their exact changes."""

from dataclasses import dataclass

import numpy as np

from neurosim.layers import Array, softmax

__all__ = ["Head", "log_softmax"]

# exp of a larger change of a logit leaves the range of a float.
_LARGE = 700.0


@dataclass(frozen=True, kw_only=True)
class Head:
    """The function from the outputs y_L of the last layer to what is predicted.

    Parameters
    ----------
    readout : None or "softmax"
    loss : None, "squared_error", "absolute_error" or "cross_entropy"
        Squared and absolute errors are means over the outputs; cross-entropy is
        -sum_k target_k log output_k.

    Notes
    -----
    Arrays of the methods: y (n_inputs, n_L); targets (n_inputs, n_L), unused without a loss;
    dy (n_inputs, n_changes, n_L), changes of y.
    """

    readout: str | None = None
    loss: str | None = None

    @property
    def linear(self) -> bool:
        """Whether what is predicted is y_L itself."""
        return self.readout is None and self.loss is None

    def size(self, n_last: int) -> int:
        """Number of values predicted an input."""
        return n_last if self.loss is None else 1

    def outputs(self, y: Array) -> Array:
        """Outputs after the read-out, (n_inputs, n_L)."""
        return softmax(y) if self.readout == "softmax" else y

    def value(self, y: Array, targets: Array | None) -> Array:
        """What is predicted, (n_inputs, size)."""
        u = self.outputs(y)
        if self.loss is None:
            return u
        assert targets is not None
        if self.loss == "cross_entropy":
            return -(targets * log_softmax(y)).sum(axis=-1, keepdims=True)
        power = 2 if self.loss == "squared_error" else 1
        return (np.abs(u - targets) ** power).mean(axis=-1, keepdims=True)

    def gradient(self, y: Array, targets: Array | None) -> Array:
        """Derivatives of what is predicted by y_L: (size, n_inputs or 1, n_L).

        The second axis has length 1 where they are the same for every input.
        """
        n = y.shape[-1]
        if self.linear:
            return np.eye(n)[:, None, :]
        u = self.outputs(y)
        if self.loss is None:
            return (np.eye(n)[:, None, :] - u) * u.T[:, :, None]
        assert targets is not None
        if self.loss == "cross_entropy":
            return (u * targets.sum(axis=-1, keepdims=True) - targets)[None]
        r = u - targets
        slope = (2 * r if self.loss == "squared_error" else np.sign(r)) / n
        if self.readout == "softmax":
            slope = u * (slope - (u * slope).sum(axis=-1, keepdims=True))
        return slope[None]

    def gradient_change(self, y: Array, dy: Array, targets: Array | None) -> Array:
        """Derivative of `gradient` along dy (n_inputs, n_paths, n_L).

        Shape (size, n_inputs, n_paths, n_L). Not for absolute errors, which have a kink.
        """
        n = y.shape[-1]
        if self.linear:
            return np.zeros((n, *dy.shape[:2], n))
        u = self.outputs(y)[:, None, :]
        du = u * (dy - (u * dy).sum(-1, keepdims=True)) if self.readout == "softmax" else dy
        if self.loss is None:
            own = np.eye(n)[:, None, None, :] - u
            of_output = np.moveaxis(du, -1, 0)[..., None]
            return of_output * own - np.moveaxis(u, -1, 0)[..., None] * du
        assert targets is not None
        t = targets[:, None, :]
        if self.loss == "cross_entropy":
            return (du * t.sum(axis=-1, keepdims=True))[None]
        slope, d_slope = 2 * (u - t) / n, 2 * du / n
        if self.readout == "softmax":
            mean = (u * slope).sum(-1, keepdims=True)
            d_mean = (du * slope + u * d_slope).sum(-1, keepdims=True)
            return (du * (slope - mean) + u * (d_slope - d_mean))[None]
        return d_slope[None]

    def second_derivative(self, y: Array, dy: Array, d2y: Array, targets: Array | None) -> Array:
        """Second derivative of what is predicted along a path with derivatives dy, d2y of y_L.

        dy, d2y: (n_inputs, n_paths, n_L); result (n_inputs, n_paths, size).
        """
        if self.linear:
            return d2y
        u = self.outputs(y)[:, None, :]
        du, d2u = dy, d2y
        if self.readout == "softmax":
            centred = dy - (u * dy).sum(-1, keepdims=True)
            spread = (u * centred**2).sum(-1, keepdims=True)
            if self.loss == "cross_entropy":
                assert targets is not None
                t = targets[:, None, :]
                total = t.sum(-1, keepdims=True) * ((u * d2y).sum(-1, keepdims=True) + spread)
                return np.asarray(total - (t * d2y).sum(-1, keepdims=True))
            du = u * centred
            d2u = u * (d2y - (u * d2y).sum(-1, keepdims=True) + centred**2 - spread)
        if self.loss is None:
            return d2u
        assert targets is not None
        return np.asarray(2 * (du**2 + (u - targets[:, None, :]) * d2u).mean(-1, keepdims=True))

    def expansion(self, y: Array, targets: Array | None) -> tuple[Array, Array]:
        """First and second derivatives of a loss by the outputs in which it is expanded.

        These outputs are those of `expanded_in`. Shapes (n_inputs, n_L), (n_inputs, n_L, n_L).
        An absolute error has no curvature but in its kink, which this cannot show.
        """
        assert targets is not None
        n = y.shape[-1]
        u = self.outputs(y)
        if self.loss == "cross_entropy":
            total = targets.sum(axis=-1, keepdims=True)
            curved = np.eye(n) * u[:, None, :] - u[:, :, None] * u[:, None, :]
            return u * total - targets, total[..., None] * curved
        if self.loss == "squared_error":
            return 2 * (u - targets) / n, np.broadcast_to(2 / n * np.eye(n), (len(y), n, n))
        return np.sign(u - targets) / n, np.zeros((len(y), n, n))

    @property
    def expanded_in(self) -> "Head":
        """The outputs in which a loss is expanded: logits for a cross-entropy, else the outputs."""
        return Head(readout=None if self.loss == "cross_entropy" else self.readout)

    def change(self, y: Array, dy: Array, targets: Array | None) -> Array:
        """Exact changes of what is predicted, (n_inputs, n_changes, size), without cancellation."""
        if self.linear:
            return dy
        y = y[:, None, :]
        if self.loss == "cross_entropy":
            assert targets is not None
            t = targets[:, None, :]
            # A shift of all logits changes nothing; by that of the target's it leaves one term
            # for one class.
            dy = dy - np.take_along_axis(dy, t.argmax(axis=-1, keepdims=True), axis=-1)
            log_growth = _softmax_growth(y, dy)[1]
            return t.sum(axis=-1, keepdims=True) * log_growth - (t * dy).sum(-1, keepdims=True)
        du, u = dy, y
        if self.readout == "softmax":
            u = softmax(y)
            du = _softmax_growth(y, dy)[0]
        if self.loss is None:
            return du
        assert targets is not None
        r = u - targets[:, None, :]
        if self.loss == "squared_error":
            return ((2 * r + du) * du).mean(axis=-1, keepdims=True)
        # |r + du| - |r|, where |r + du| is the larger of r + du and -(r + du)
        along = np.where(r < 0, -du, du)
        return np.maximum(along, -along - 2 * np.abs(r)).mean(axis=-1, keepdims=True)


def log_softmax(logits: Array) -> Array:
    """Logarithm of the softmax over the last axis; finite where the softmax itself underflows."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def _softmax_growth(y: Array, dy: Array) -> tuple[Array, Array]:
    """Changes of softmax outputs under changes dy of the logits y, and of the log of their sum."""
    u = softmax(y)
    m = np.expm1(np.minimum(dy, _LARGE))
    mean = (u * m).sum(axis=-1, keepdims=True)
    # Where golden mass falls 1 + mean would cancel, or be 0.
    far = ((dy.max(axis=-1, initial=0.0) > _LARGE) | (mean[..., 0] <= -0.5)).nonzero()
    mean[far] = 0
    change, log_growth = u * (m - mean) / (1 + mean), np.log1p(mean)
    if len(far[0]):
        moved = np.broadcast_to(log_softmax(y), dy.shape)[far] + dy[far]
        top = moved.max(axis=-1, keepdims=True)
        e = np.exp(moved - top)
        total = e.sum(axis=-1, keepdims=True)
        change[far] = e / total - np.broadcast_to(u, dy.shape)[far]
        log_growth[far] = np.log(total) + top
    return change, log_growth
