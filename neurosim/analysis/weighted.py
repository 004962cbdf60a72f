"""Verdicts on weighted trials: z-tests with the standard errors of their estimates."""

from typing import Any

import numpy as np
from scipy import stats

from neurosim.analysis.intervals import Verdicts, judge
from neurosim.layers import Array
from neurosim.theory import Prediction, predict
from neurosim.weighted_statistics import LEAST_EFFECTIVE, Estimate, WeightedResults

__all__ = ["judge_weighted", "predicted_loss"]

# Of errors computed in the engine's dtype: what counts as rounding, in its last places.
_ROUNDINGS = 64


def judge_weighted(
    weighted: WeightedResults,
    prediction: Prediction,
    tolerances: tuple[float, float],
    mean_tolerance: float,
    levels: dict[str, float],
) -> dict[str, Any]:
    """Verdicts on moments by the name of their field; the tolerance of the loss is its own."""
    precision = _ROUNDINGS * float(np.finfo(prediction.campaign.dtype).eps)
    size = np.sqrt(np.maximum(weighted.second_moment.value, 0))
    spread = prediction.variance
    found: dict[str, Any] = {
        "mean": _judge_estimate(
            weighted.mean,
            prediction.mean,
            tolerances[0] * np.sqrt(spread),
            levels["mean"],
            precision * size,
        ),
        "variance": _judge_estimate(
            weighted.variance,
            spread,
            tolerances[1] * spread,
            levels["variance"],
            precision * size**2,
        ),
        "loss": None,
        "between_chips": None,
        "within_chip": None,
    }
    loss = None if weighted.loss is None else predicted_loss(prediction)
    if weighted.loss is not None and loss is not None:
        tolerance = (0.0 if loss.exact else mean_tolerance) * np.sqrt(loss.variance[:, 0])
        rounding = precision * np.abs(weighted.loss.value)
        found["loss"] = _judge_estimate(
            weighted.loss, loss.mean[:, 0], tolerance, levels["loss"], rounding
        )
    return found


def predicted_loss(prediction: Prediction) -> Prediction | None:
    """The prediction of the campaign's loss, where the method has one."""
    campaign, method = prediction.campaign, prediction.method
    kinked = campaign.loss == "absolute_error" and method == "second-order"
    grouped = method == "first-order" and bool(prediction.model.setting.groups)
    if campaign.loss is None or prediction.layer is not None or kinked or grouped:
        return None
    return predict(campaign, method, loss=campaign.loss)


def _judge_estimate(
    estimate: Estimate, predicted: Array, tolerance: Array, level: float, rounding: Array
) -> Verdicts:
    z = float(stats.norm.isf(level / 2))
    half = z * estimate.standard_error + rounding
    enough = max(LEAST_EFFECTIVE, 2 * z**2)
    exact = estimate.standard_error <= rounding
    trusted = np.isfinite(half) & ((estimate.effective_sample_size >= enough) | exact)
    limits = estimate.value - half, estimate.value + half
    return judge(estimate.value, limits, predicted, tolerance, trusted)
