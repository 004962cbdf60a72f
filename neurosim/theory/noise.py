"""Moments of the error under independent noise on the weights, to first order (theory, section 2).

All weights of a layer are disturbed at once, each a little: with derivatives B_i = dy_L/dz_i the
sum over synapses of (s_ij B_i y_j)^2 is B^2 . (s^2 y^2), a product of small matrices.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from neurosim.campaign import Loss
from neurosim.errors import InputError
from neurosim.kernels.sums import product_sums
from neurosim.layers import Array, frozen
from neurosim.network import Network
from neurosim.theory.arguments import check_range, numbers, sequence, whole_number
from neurosim.theory.passes import GoldenPass, faultless_setting
from neurosim.theory.setting import Setting
from neurosim.theory.site_losses import expanded_in, expansion, quadratic_mean

__all__ = ["NoisePrediction", "WeightNoise", "predict_noise"]


@dataclass(frozen=True, kw_only=True, eq=False)
class WeightNoise:
    """Independent additive noise on every weight W_l of a layer.

    Parameters
    ----------
    layer : int
        l, from 1 on.
    standard_deviation : float or array_like, shape (n_l, n_{l-1})
        In the unit of the weights. An array may hold any function of the weight, for instance
        0.05 * abs(W_l) for devices that are programmed to within 5 %.
    mean : float or array_like, shape (n_l, n_{l-1})
        In the unit of the weights, for instance what drift takes away.

    Raises
    ------
    InputError
        If the layer is no whole number from 1 on, a value not finite, or a deviation negative.

    Examples
    --------
    >>> WeightNoise(layer=1, standard_deviation=0.1).standard_deviation
    array(0.1)
    """

    layer: int
    standard_deviation: Array
    mean: Array = 0.0  # type: ignore[assignment]

    def __post_init__(self) -> None:
        object.__setattr__(self, "layer", whole_number("layer", self.layer, 1))
        mean = numbers("mean", self.mean, "finite numbers", np.isfinite)
        deviation = numbers(
            "standard_deviation", self.standard_deviation, "finite numbers from 0 on",
            lambda s: s >= 0,
        )  # fmt: skip
        object.__setattr__(self, "mean", frozen(mean, np.float64))
        object.__setattr__(self, "standard_deviation", frozen(deviation, np.float64))

    def of(self, network: Network) -> tuple[Array, Array]:
        """Mean and standard deviation of the noise of each weight, (n_l, n_{l-1}).

        Raises
        ------
        InputError
            If the network has no such layer, or one of another shape.
        """
        if self.layer > network.depth:
            raise InputError(
                f"layer: expected a weighted layer from 1 to {network.depth} for weight noise, "
                f"got {self.layer!r}"
            )
        shape = network.layers[self.layer - 1].weight.shape
        for name in ("mean", "standard_deviation"):
            if getattr(self, name).shape not in ((), shape):
                raise InputError(
                    f"{name}: expected a number or an array of shape {shape}, as the weights of "
                    f"layer {self.layer} are, got {getattr(self, name).shape}"
                )
        return np.broadcast_to(self.mean, shape), np.broadcast_to(self.standard_deviation, shape)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Terms:
    """What the sums over synapses are made of; `noise` holds (layer, mean, deviation) each."""

    setting: Setting
    noise: tuple[tuple[int, Array, Array], ...]

    @property
    def linear(self) -> bool:
        """Whether what is predicted is linear in the noise: one layer's, all linear behind it."""
        setting = self.setting
        layers = {layer for layer, _, _ in self.noise if layer <= setting.depth}
        return not layers or (
            len(layers) == 1 and setting.linear_from(min(layers)) and setting.head.linear
        )

    def each(self) -> Iterator[tuple[slice, int, Array, Array, Array]]:
        """(inputs, which noise, derivatives by z_l, mean and variance of what is added to z_l)."""
        setting = self.setting
        for rows in setting.chunks(setting.n_outputs * max(setting.widths)):
            golden = GoldenPass(setting=setting, rows=rows)
            for k, (layer, mean, deviation) in enumerate(self.noise):
                if layer <= setting.depth:  # else it does not reach the hidden layer predicted
                    y, slope = golden.y[layer - 1], golden.derivatives[1][layer]
                    yield rows, k, slope, y @ mean.T, y**2 @ (deviation**2).T

    def moments(self) -> tuple[Array, Array]:
        """What each noise adds to mean and variance: each (n_noise, n_inputs, n_outputs)."""
        shape = (len(self.noise), self.setting.n_inputs, self.setting.n_outputs)
        means, variances = np.zeros(shape), np.zeros(shape)
        for rows, k, slope, shift, power in self.each():
            means[k, rows] = product_sums(slope, shift)[0]
            variances[k, rows] = product_sums(slope, np.sqrt(power))[1]
        return means, variances

    def covariances(self) -> Array:
        """What each noise adds to the covariances: (n_noise, n_inputs, n_outputs, n_outputs)."""
        n = self.setting.n_outputs
        total = np.zeros((len(self.noise), self.setting.n_inputs, n, n))
        for rows, k, slope, _, power in self.each():
            left = (slope * power).transpose(1, 0, 2)
            total[k, rows] = left @ slope.transpose(1, 2, 0)
        return total


def _of_loss(setting: Setting, outputs: _Terms) -> tuple[Array, Array, Array, Array]:
    """AP9's mean, the mean, and what each noise adds to mean and variance of a loss, (.., 1)."""
    slope, curvature = expansion(setting)
    means, spreads = outputs.moments()[0], outputs.covariances()
    mean, covariance = means.sum(axis=0), spreads.sum(axis=0)
    linear = np.einsum("xk,nxk->nx", slope, means)
    steep = slope + np.einsum("xkl,xl->xk", curvature, mean)
    added = linear + 0.5 * np.einsum("xkl,nxlk->nx", curvature, spreads)
    variances = np.einsum("xk,nxkl,xl->nx", steep, spreads, steep)
    variances += 0.5 * np.einsum(
        "xkl,nxlm,xmj,xjk->nx", curvature, spreads, curvature, covariance, optimize=True
    )
    whole = linear.sum(axis=0) + quadratic_mean(curvature, mean, covariance)
    return linear.sum(axis=0)[:, None], whole[:, None], added[..., None], variances[..., None]


@dataclass(frozen=True, kw_only=True, eq=False)
class NoisePrediction:
    """Predicted moments of the error (noisy - golden, after the read-out) under weight noise.

    Parameters
    ----------
    noise : tuple of WeightNoise
    layer : int or None
        The hidden layer whose error this is (D4 of the paper); None for the outputs.
    loss : str or None
        The loss whose error this is.
    mean, variance : ndarray, shape (n_inputs, n_outputs)
        In the unit of the outputs (or of the loss) and its square; n_outputs is 1 for a loss.
    mean_contributions, variance_contributions : tuple of ndarray, each (n_inputs, n_outputs)
        What each noise adds; they sum to the whole (AP7) but for the mean of a loss, to which the
        means of two noises together add.
    mean_paper : ndarray, shape (n_inputs, n_outputs), or None
        Of a loss: by its gradient alone (AP9).
    exact : bool
        Whether the error is a linear function of the noise, by the structure of the network.
    """

    noise: tuple[WeightNoise, ...]
    layer: int | None
    loss: str | None
    mean: Array
    variance: Array
    mean_contributions: tuple[Array, ...]
    variance_contributions: tuple[Array, ...]
    mean_paper: Array | None
    exact: bool
    _terms: _Terms = field(repr=False)

    @cached_property
    def covariance(self) -> Array:
        """Covariance of the outputs, (n_inputs, n_outputs, n_outputs); computed when asked for."""
        if self.loss is not None:
            return frozen(self.variance[:, :, None], np.float64)
        return frozen(self._terms.covariances().sum(axis=0), np.float64)


def predict_noise(
    network: Network,
    inputs: npt.ArrayLike,
    noise: WeightNoise | Sequence[WeightNoise],
    *,
    layer: int | None = None,
    loss: Loss | None = None,
    targets: npt.ArrayLike | None = None,
) -> NoisePrediction:
    """Predict the moments of the error that independent noise on the weights makes.

    To first order (T1 of arXiv 1902.01686 for noise of mean m and standard deviation s in place
    of a fault): E = sum m dy_L/dW, Var = sum s^2 (dy_L/dW)^2, whatever the law of the noise; layers
    add (AP7).

    Parameters
    ----------
    network : Network
    inputs : array_like, shape (n_inputs, *input_shape)
    noise : WeightNoise or sequence of WeightNoise
    layer : int, optional
        Predict the error of the output of this layer (D4) instead of the network's.
    loss : "squared_error", "absolute_error" or "cross_entropy", optional
        Predict the error of this loss (mean over outputs; needs targets): its gradient and its
        curvature, without which noise of mean 0 would do nothing to its mean (AP9, `mean_paper`).
        The variance is that of a normal error of the outputs, which many small noises make.
    targets : array_like, optional
        Class numbers (n_inputs,) or wanted outputs (n_inputs, n_outputs).

    Returns
    -------
    NoisePrediction

    Raises
    ------
    InputError
        If a layer does not exist, the noise has another shape than its weights, or the moments
        leave the range of a float64.

    Examples
    --------
    >>> network = Network.dense(weights=[[[2.0, 1.0]]], biases=[[0]], activations=["identity"])
    >>> noise = WeightNoise(layer=1, standard_deviation=[[0.1, 0.2]])
    >>> prediction = predict_noise(network, [[1.0, 2.0]], noise)
    >>> prediction.variance.round(4), prediction.exact
    (array([[0.17]]), True)
    """
    noise = (noise,) if isinstance(noise, WeightNoise) else tuple(
        sequence("noise", noise, "WeightNoise values")
    )  # fmt: skip
    for one in noise:
        if not isinstance(one, WeightNoise):
            raise InputError(f"noise: expected WeightNoise values, got {one!r}")
    setting = faultless_setting(network, inputs, layer, loss, targets)
    given = tuple((one.layer, *one.of(network)) for one in noise)
    mean_paper = None
    with np.errstate(over="ignore", invalid="ignore"):  # what comes of it is refused
        if loss is None:
            terms = _Terms(setting=setting, noise=given)
            means, variances = terms.moments()
            mean = means.sum(axis=0)
        else:
            terms = _Terms(setting=expanded_in(setting), noise=given)
            linear, mean, means, variances = _of_loss(setting, terms)
            mean_paper = frozen(linear, np.float64)
    check_range("the moments of the error", mean, means, variances)
    return NoisePrediction(
        noise=noise,
        layer=layer,
        loss=loss,
        mean=frozen(mean, np.float64),
        variance=frozen(variances.sum(axis=0), np.float64),
        mean_contributions=tuple(frozen(part, np.float64) for part in means),
        variance_contributions=tuple(frozen(part, np.float64) for part in variances),
        mean_paper=mean_paper,
        exact=loss is None and terms.linear,
        _terms=terms,
    )
