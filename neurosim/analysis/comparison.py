"""compare: simulated evidence beside theoretical evidence, with a verdict on every number."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from neurosim.analysis.checks import (
    HOLDS,
    VIOLATED,
    BoundChecks,
    LawChecks,
    MedianChecks,
    RateCheck,
    check_bounds,
    check_laws,
    check_medians,
    check_rates,
)
from neurosim.analysis.intervals import (
    AGREES,
    CANNOT_TELL,
    DISAGREES,
    Verdicts,
    judge,
    mean_interval,
    reliable,
    variance_interval,
)
from neurosim.analysis.weighted import judge_weighted, predicted_loss
from neurosim.campaign import Campaign
from neurosim.errors import CampaignMismatchError, InputError
from neurosim.layers import Array
from neurosim.statistics import Moments, Statistics
from neurosim.theory import Assumptions, Prediction, check_assumptions
from neurosim.theory.arguments import whole_number
from neurosim.weighted_statistics import WeightedResults

if TYPE_CHECKING:
    from neurosim.trace import Trace

__all__ = ["Comparison", "compare"]

# Shares of the family-wise false-alarm rate; within a family it is divided evenly (Bonferroni).
_SHARES = {
    "mean": 0.2,
    "variance": 0.25,
    "loss": 0.05,
    "chips": 0.1,
    "law": 0.1,
    "bounds": 0.1,
    "medians": 0.1,
    "rates": 0.1,
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """What `compare` found.

    Parameters
    ----------
    campaign : Campaign
    prediction : Prediction
    statistics : Statistics
    false_alarm_rate : float
        Probability that any verdict is "disagrees" or "violated" although the prediction is right.
    mean_tolerance, variance_tolerance, law_tolerance : float
        As asked for; 0 is used where the method is exact.
    levels : dict of str to float
        False-alarm rate of one verdict of each family.
    mean, variance : Verdicts, (n_inputs, n_outputs)
    loss : Verdicts, (n_inputs,), or None
        Mean error of the campaign's loss, where it has one.
    between_chips, within_chip : Verdicts, (n_outputs,), or None
        Variance over trials of the mean error over inputs; mean over trials of the variance of the
        error over inputs. None with weighted trials.
    bounds : BoundChecks
    laws : LawChecks
    medians : MedianChecks
    rates : tuple of RateCheck
        Empty with weighted trials, whose faults are not drawn at their rate.
    weighted : WeightedResults, optional
        What weighted trials gave; then verdicts are z-tests with its standard errors.
    """

    campaign: Campaign
    prediction: Prediction
    statistics: Statistics
    false_alarm_rate: float
    mean_tolerance: float
    variance_tolerance: float
    law_tolerance: float
    levels: dict[str, float]
    mean: Verdicts
    variance: Verdicts
    loss: Verdicts | None
    between_chips: Verdicts | None
    within_chip: Verdicts | None
    bounds: BoundChecks
    laws: LawChecks
    medians: MedianChecks
    rates: tuple[RateCheck, ...]
    weighted: WeightedResults | None = None

    @cached_property
    def assumptions(self) -> Assumptions:
        """Whether the campaign meets what the theory asks; computed when asked for."""
        return check_assumptions(self.campaign)

    @property
    def _verdicts(self) -> dict[str, Array]:
        named = {
            "mean": self.mean,
            "variance": self.variance,
            "mean of the loss": self.loss,
            "variance between chips": self.between_chips,
            "variance within a chip": self.within_chip,
        }
        found = {name: verdicts.verdict for name, verdicts in named.items() if verdicts is not None}
        if self.weighted is not None:
            return found
        laws = {"law of the error": self.laws.verdict}
        return found | laws | {"probability of no error": self.laws.zero.verdict}

    @property
    def agrees(self) -> bool:
        """Nothing disagrees, no bound is violated, the realised fault rates are as requested."""
        wrong = any((v == DISAGREES).any() for v in self._verdicts.values())
        bounds = (
            self.bounds.chebyshev_verdict,
            self.bounds.cantelli_verdict,
            self.bounds.any_verdict,
            self.medians.verdict,
        )
        violated = any((v == VIOLATED).any() for v in bounds)
        return not wrong and not violated and all(r.verdict == AGREES for r in self.rates)

    @property
    def verdict(self) -> str:
        """The answer in one sentence."""
        if not self.agrees:
            wrong = [name for name, v in self._verdicts.items() if (v == DISAGREES).any()]
            if (self.bounds.cantelli_verdict == VIOLATED).any():
                wrong.append("tail bound")
            if (self.medians.verdict == VIOLATED).any():
                wrong.append("median of replicas")
            if any(r.verdict == DISAGREES for r in self.rates):
                wrong.append("realised fault rates")
            return (
                f"Simulation and theory ({self.prediction.method}) disagree: "
                f"{', '.join(wrong) or 'tail bound'}."
            )
        still_open = sum(int((v == CANNOT_TELL).sum()) for v in self._verdicts.values())
        total = sum(v.size for v in self._verdicts.values())
        if still_open == total:
            return (
                f"The trials cannot tell whether simulation and theory ({self.prediction.method}) "
                f"agree: all {total} verdicts are open and need more."
            )
        if still_open:
            return (
                f"Simulation and theory ({self.prediction.method}) agree where the trials can "
                f"tell; {still_open} of {total} verdicts are open and need more trials."
            )
        return f"Simulation and theory ({self.prediction.method}) agree."

    def __str__(self) -> str:
        lines = [
            f"{self.statistics.errors.count} trials x {self.campaign.n_inputs} inputs beside "
            f"{self.prediction.method} theory{' (exact here)' if self.prediction.exact else ''}; "
            f"false-alarm rate of the whole comparison {self.false_alarm_rate:g}",
            *self._weight_lines(),
            "",
            f"{'':26}{AGREES:>9}{DISAGREES:>11}{CANNOT_TELL:>13}",
        ]
        for name, verdicts in self._verdicts.items():
            counts = [int((verdicts == word).sum()) for word in (AGREES, DISAGREES, CANNOT_TELL)]
            lines.append(f"{name:26}{counts[0]:9}{counts[1]:11}{counts[2]:13}")
        lines += [
            "",
            f"{'output':>8}{'mean':>12}{'predicted':>12}{'variance':>12}"
            f"{'predicted':>12}   (averages over inputs)",
        ]
        for k in range(min(self.prediction.n_outputs, 10)):
            lines.append(
                f"{k:8}{self.mean.simulated[:, k].mean():12.3e}"
                f"{self.mean.predicted[:, k].mean():12.3e}"
                f"{self.variance.simulated[:, k].mean():12.3e}"
                f"{self.variance.predicted[:, k].mean():12.3e}"
            )
        if self.prediction.n_outputs > 10:
            lines.append(f"     ... {self.prediction.n_outputs - 10} more outputs")
        lines += self._tail_lines()
        lines.append("")
        for rate in self.rates:
            lines.append(
                f"{rate.process}: {rate.faults} faults in {rate.draws} chances, realised "
                f"{rate.realised:.4g} ({rate.verdict}, p = {rate.p_value:.2g})"
            )
        return "\n".join([*lines, "", str(self.assumptions), "", self.verdict])

    def _weight_lines(self) -> list[str]:
        if self.weighted is None:
            return []
        size = self.weighted.effective_sample_size
        return [
            f"{self.campaign.plan}; effective sample size of the weights {size.min():.4g} to "
            f"{size.max():.4g}; variances of chips, laws, replicas and realised rates are not "
            "judged: trials are not chips here"
        ]

    def _tail_lines(self) -> list[str]:
        if not self.bounds.epsilons:
            return []
        lines = [
            "",
            f"{'epsilon':>8}{'P(any output beyond)':>22}{'worst input':>13}"
            f"{'Cantelli, worst':>17}{'violated':>10}",
        ]
        for e, epsilon in enumerate(self.bounds.epsilons):
            violated = int(
                (self.bounds.any_verdict[e] == VIOLATED).sum()
                + (self.bounds.cantelli_verdict[e] == VIOLATED).sum()
            )
            lines.append(
                f"{epsilon:8g}{self.bounds.any_exceedance[e].mean():22.3e}"
                f"{self.bounds.any_exceedance[e].max():13.3e}"
                f"{self.bounds.any_cantelli[e].max():17.3e}{violated:10}"
            )
        if self.medians.replicas:
            lines += [
                "",
                f"{'median of':>10}{'epsilon':>9}{'fails':>12}{'binomial':>12}"
                f"{'by Cantelli':>13}   (worst input and output, {HOLDS}/{VIOLATED})",
            ]
        for r, replicas in enumerate(self.medians.replicas):
            for e, epsilon in enumerate(self.medians.epsilons):
                bad = int((self.medians.verdict[r, e] == VIOLATED).sum())
                lines.append(
                    f"{replicas:10}{epsilon:9g}{self.medians.failure[r, e].max():12.3e}"
                    f"{self.medians.expected[r, e].max():12.3e}"
                    f"{self.medians.cantelli[r, e].max():13.3e}   "
                    f"{self.medians.verdict[r, e].size - bad}/{bad}"
                )
        return lines


def compare(
    trace: "Trace",
    prediction: Prediction,
    *,
    false_alarm_rate: float = 0.01,
    mean_tolerance: float = 0.1,
    variance_tolerance: float = 0.1,
    law_tolerance: float = 0.05,
    law_inputs: int = 3,
    law_outputs: int = 10,
) -> Comparison:
    """Put a trace beside a prediction and judge every number.

    Parameters
    ----------
    trace : Trace
    prediction : Prediction
        Of the same campaign.
    false_alarm_rate : float
        Of the whole comparison: variances get a quarter, means a fifth, chips, laws, bounds,
        medians and realised rates a tenth each, the loss a twentieth, divided evenly among the
        verdicts of a family. Of weighted trials only means, variances, the loss and bounds are
        judged, by z-tests with their standard errors.
    mean_tolerance : float
        In predicted standard deviations.
    variance_tolerance : float
        Relative to the predicted variance.
    law_tolerance : float
        Distance of distribution functions.
    law_inputs, law_outputs : int
        For how many inputs, and of how many outputs, evenly spaced, the law of the error is
        tested; 0 for none.

    Returns
    -------
    Comparison

    Raises
    ------
    CampaignMismatchError
        If the trace belongs to another campaign than the prediction.
    InputError
        If a rate, tolerance or number is out of range, the prediction is none or of a hidden
        layer, or its variances are estimated by probes.

    Examples
    --------
    >>> comparison = ns.compare(trace, ns.predict(campaign))  # doctest: +SKIP
    """
    if not isinstance(prediction, Prediction):
        raise InputError(
            "prediction: expected what predict(campaign) returns, behind the trace, got "
            f"{type(prediction).__name__}"
        )
    campaign: Campaign = prediction.campaign
    if prediction.layer is not None:
        raise InputError("prediction: expected one of the outputs, got one of a hidden layer")
    if prediction.method != "second-order" and prediction.variance_error.any():
        raise InputError(
            "prediction: expected exact variances, got estimates by probes, whose own error the "
            "verdicts would not know; predict without probes"
        )
    # A campaign whose plan is not resolved has no arrays to differ in.
    theirs = dict(trace.components)
    if "plan_arrays" not in campaign.components:
        theirs.pop("plan_arrays", None)
    if theirs != campaign.components:
        differing = [
            name for name, value in campaign.components.items() if theirs.get(name) != value
        ]
        raise CampaignMismatchError(
            f"compare: expected a trace and a prediction of one campaign, got two that differ in "
            f"{', '.join(differing)}"
        )
    if not 0 < false_alarm_rate < 1:
        raise InputError(f"false_alarm_rate: expected above 0 and below 1, got {false_alarm_rate}")
    for name, value in (
        ("mean_tolerance", mean_tolerance),
        ("law_tolerance", law_tolerance),
        ("variance_tolerance", variance_tolerance),
    ):
        if not 0 <= value < np.inf:
            raise InputError(f"{name}: expected 0 or more, got {value}")
    statistics, weighted = trace.statistics, trace.weighted
    n_cells, n_outputs = prediction.mean.size, prediction.n_outputs
    chosen = _spaced("law_inputs", law_inputs, campaign.n_inputs)
    outputs = _spaced("law_outputs", law_outputs, n_outputs)
    n_epsilons, n_replicas = len(statistics.epsilons), len(statistics.replicas)
    if not len(outputs) or weighted is not None:
        chosen = chosen[:0]
    verdicts = {
        "mean": n_cells,
        "variance": n_cells,
        "loss": campaign.n_inputs,
        "chips": 2 * n_outputs,
        "law": max(1, 2 * len(chosen) * len(outputs)),
        "bounds": max(1, n_epsilons * (2 * n_cells + campaign.n_inputs)),
        # Two limits meet in a verdict on medians: that of one chip and that of the median.
        "medians": max(1, 2 * n_replicas * n_epsilons * n_cells),
        "rates": len(campaign.faults),
    }
    levels = {name: false_alarm_rate * _SHARES[name] / count for name, count in verdicts.items()}
    factor = 0.0 if prediction.exact else 1.0
    bounds = check_bounds(statistics, prediction, levels["bounds"], weighted)
    tolerances = factor * mean_tolerance, factor * variance_tolerance
    if weighted is not None:
        judged = judge_weighted(weighted, prediction, tolerances, mean_tolerance, levels)
    else:
        judged = _judge_plain(statistics, prediction, tolerances, mean_tolerance, levels)
    rates: tuple[RateCheck, ...] = ()
    if weighted is None:
        rates = check_rates(campaign, _totals(trace), statistics.errors.count, levels["rates"])
    return Comparison(
        campaign=campaign,
        prediction=prediction,
        statistics=statistics,
        false_alarm_rate=false_alarm_rate,
        mean_tolerance=mean_tolerance,
        variance_tolerance=variance_tolerance,
        law_tolerance=law_tolerance,
        levels=levels,
        **judged,
        bounds=bounds,
        laws=check_laws(
            statistics,
            campaign,
            prediction,
            chosen,
            outputs,
            levels["law"],
            factor * law_tolerance,
        ),
        medians=check_medians(statistics, bounds, levels["medians"]),
        rates=rates,
        weighted=weighted,
    )


def _spaced(name: str, asked: int, n: int) -> Array:
    """So many of 0..n - 1, or all, evenly spaced."""
    number = min(whole_number(name, asked, 0), n)
    return np.unique(np.linspace(0, n - 1, number).astype(np.int64))


def _judge_plain(
    statistics: Statistics,
    prediction: Prediction,
    tolerances: tuple[float, float],
    mean_tolerance: float,
    levels: dict[str, float],
) -> dict[str, Any]:
    """Verdicts on moments by the name of their field; the tolerance of the loss is its own."""
    of_mean, of_variance = tolerances
    spread, chips = prediction.variance, levels["chips"]
    kurtosis = 1.0 if prediction.kurtosis is None else prediction.kurtosis
    between, within = prediction.input_mean_variance, prediction.within_chip_variance
    return {
        "mean": _judge_mean(
            statistics.errors,
            prediction.mean,
            spread,
            kurtosis,
            of_mean * np.sqrt(spread),
            levels["mean"],
        ),
        "variance": _judge_variance(
            statistics.errors, spread, kurtosis, of_variance * spread, levels["variance"]
        ),
        "loss": _judge_loss(statistics.loss, prediction, mean_tolerance, levels["loss"]),
        "between_chips": _judge_variance(
            statistics.input_mean,
            between,
            # The mean over a single input is its error; of several the sample alone is known.
            np.ravel(kurtosis) if len(spread) == 1 else 1.0,
            of_variance * between,
            chips,
        ),
        "within_chip": _judge_mean(
            statistics.input_variance, within, 0.0, 1.0, of_variance * within, chips
        ),
    }


def _judge_mean(
    moments: Moments,
    predicted: Array,
    variance: Array | float,
    kurtosis: Array | float,
    tolerance: Array,
    level: float,
) -> Verdicts:
    return judge(
        moments.mean,
        mean_interval(moments, level, variance),
        predicted,
        tolerance,
        reliable(moments, level, kurtosis),
    )


def _judge_variance(
    moments: Moments, predicted: Array, kurtosis: Array | float, tolerance: Array, level: float
) -> Verdicts:
    return judge(
        moments.variance,
        variance_interval(moments, level, kurtosis),
        predicted,
        tolerance,
        reliable(moments, level, kurtosis),
    )


def _judge_loss(
    moments: Moments | None, prediction: Prediction, mean_tolerance: float, level: float
) -> Verdicts | None:
    loss = None if moments is None else predicted_loss(prediction)
    if moments is None or loss is None:
        return None
    factor = 0.0 if loss.exact else mean_tolerance
    kurtosis = 1.0 if loss.kurtosis is None else loss.kurtosis[:, 0]
    mean, variance = loss.mean[:, 0], loss.variance[:, 0]
    return _judge_mean(moments, mean, variance, kurtosis, factor * np.sqrt(variance), level)


def _totals(trace: "Trace") -> Array:
    """Faults each process drew, over all trials, read in slices."""
    counts = trace.fault_counts
    total = np.zeros(counts.shape[1], np.int64)
    for first in range(0, len(counts), 1_000_000):
        total += np.asarray(counts[first : first + 1_000_000]).sum(axis=0)
    return total
