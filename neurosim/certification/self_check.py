"""A certificate put to the test: medians of R chips simulated with faults it has not seen."""

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import special, stats

from neurosim.campaign import Campaign
from neurosim.certification.replicas import median_bound
from neurosim.certification.single_chip import ChipTails, plain, simulate
from neurosim.executors import Executor
from neurosim.layers import Array
from neurosim.theory.tails import median_failure

__all__ = [
    "CLAIM_HOLDS",
    "CLAIM_REFUTED",
    "MedianCheck",
    "SelfCheck",
    "UnmeasuredMedian",
    "self_check",
]

CLAIM_HOLDS, CLAIM_REFUTED = "holds", "refuted"

# A size R can be measured where the worst input is expected to fail in so many groups.
_ENOUGH_FAILURES = 10
# At most so many sizes are simulated beside a single chip.
_MOST_SIZES = 4
# The campaign's own trials made the certificate: the check draws others.
_OTHER_STREAM = 0x9E3779B97F4A7C15


@dataclass(frozen=True, kw_only=True, eq=False)
class MedianCheck:
    """What one method claims about the median of R chips, beside what was simulated.

    Parameters
    ----------
    method : str
    guarantee : bool
    replicas : int
        R; 1 is a single chip.
    groups : int
        Groups of R chips that were simulated.
    failures : ndarray of int, shape (n_inputs,)
        Groups whose median is off by epsilon or more at some output.
    claimed : ndarray, shape (n_inputs,)
        Upper bound of that probability by the method.
    detectable : float
        A true failure probability from here on at the input with the least claim would have been
        noticed with probability 0.9 or more.
    verdict : str
        "holds" or "refuted".
    """

    method: str
    guarantee: bool
    replicas: int
    groups: int
    failures: Array
    claimed: Array
    detectable: float
    verdict: str


@dataclass(frozen=True, kw_only=True)
class UnmeasuredMedian:
    """A size R whose medians were not simulated, and what simulating them could have shown.

    Parameters
    ----------
    replicas, groups : int
        R, and how many groups of R the chips of the check make.
    claimed : float
        The least that a guarantee claims of the worst input; of all methods, if there is none.
    detectable : float
        A true failure probability from here on would have been noticed with probability 0.9.
    too_rare : bool
        Whether too few failures were expected; if not, other sizes were measured in its place.
    """

    replicas: int
    groups: int
    claimed: float
    detectable: float
    too_rare: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class SelfCheck:
    """All claims of a certificate that were put to the test.

    Parameters
    ----------
    trials : int
        Chips simulated, with other faults than those the certificate was made from.
    seed : int
        Their seed.
    false_alarm_rate : float
        Probability that any claim is refuted although all are true.
    checks : tuple of MedianCheck
    certified : int or None
        The size R that is certified: simulated however rare its failures are.
    unmeasured : tuple of UnmeasuredMedian
        Sizes R that were not simulated: fewer than 10 groups were expected to fail at the worst
        input, or four other sizes were.
    """

    trials: int
    seed: int
    false_alarm_rate: float
    checks: tuple[MedianCheck, ...]
    certified: int | None
    unmeasured: tuple[UnmeasuredMedian, ...]

    @property
    def refuted(self) -> tuple[MedianCheck, ...]:
        """Claims that the simulation refutes."""
        return tuple(check for check in self.checks if check.verdict == CLAIM_REFUTED)

    def __str__(self) -> str:
        lines = [
            f"Self-check with {self.trials} further chips (seed {self.seed}); false-alarm rate of "
            f"the whole {self.false_alarm_rate:g}; worst input:",
            f"  {'':24}{'median of':>10}{'groups':>9}{'failed':>11}{'claimed':>11}"
            f"{'noticed from':>14}",
        ]
        for check in self.checks:
            worst = check.failures.max() / check.groups
            lines.append(
                f"  {check.method:24}{check.replicas:10}{check.groups:9}{worst:11.3g}"
                f"{check.claimed.max():11.3g}{check.detectable:14.3g}  {check.verdict}"
            )
        for sentence in self.words:
            lines += textwrap.wrap(sentence, 100, initial_indent="  ", subsequent_indent="  ")
        return "\n".join(lines)

    @property
    def words(self) -> tuple[str, ...]:
        """What was and what could not be seen, in sentences."""
        found = [self.sight] if self.sight else []
        rare = [median for median in self.unmeasured if median.too_rare]
        if rare:
            seen = ", ".join(f"{median.detectable:.2g}" for median in rare)
            found.append(
                f"Medians of {_sizes(rare)} were not simulated, for they fail too seldom; failure "
                f"probabilities from {seen} on would have been noticed."
            )
        others = [median for median in self.unmeasured if not median.too_rare]
        if others:
            found.append(f"Medians of {_sizes(others)} were not simulated, others were.")
        return tuple(found)

    @property
    def sight(self) -> str:
        """What the check could and could not have seen of the certified number of chips.

        Empty where nothing is certified.
        """
        sure = [c for c in self.checks if c.guarantee and c.replicas == self.certified]
        if not sure:
            return ""
        best = min(sure, key=lambda c: float(c.claimed.max()))
        claimed, worst = float(best.claimed.max()), int(best.failures.max())
        what = "one chip" if best.replicas == 1 else f"the median of {best.replicas}"
        seen = (
            f"Of {what} certified, {worst} of {best.groups} failed at the worst input; a failure "
            f"probability from {best.detectable:.2g} on would have been noticed."
        )
        if claimed <= 0:
            return f"{seen} That none ever fails is not for a simulation to see."
        chips = math.ceil(_ENOUGH_FAILURES / claimed) * best.replicas
        if chips <= self.trials:
            return seen
        return (
            f"{seen} The {claimed:.2g} claimed is too rare for this check: {chips:.2g} chips "
            f"would be expected to show {_ENOUGH_FAILURES} failures, and what is below "
            f"{best.detectable:.2g} rests on the guarantee alone."
        )


def _sizes(medians: Sequence[UnmeasuredMedian]) -> str:
    return ", ".join(str(median.replicas) for median in medians)


def self_check(
    campaign: Campaign,
    epsilon: float,
    claims: Sequence[ChipTails],
    replicas: int | None,
    frequencies: Array,
    *,
    false_alarm_rate: float = 0.01,
    executor: Executor | None = None,
    progress: bool = False,
) -> SelfCheck:
    """Simulate single chips and medians of R chips, and test every claim about them.

    A claim is refuted at an input where more groups fail than a binomial of the claimed
    probability explains. The certified size is always simulated. Other sizes whose failures are too
    rare to be seen in the campaign's number of trials are not; from which probability on they would
    have been seen is said.

    Parameters
    ----------
    campaign : Campaign
        Its number of trials is that of the chips simulated, with another seed.
    epsilon : float
    claims : sequence of ChipTails
    replicas : int or None
        The size the certificate names; sizes up to it are simulated. None: nothing is certified.
    frequencies : ndarray, shape (n_inputs,)
        Simulated failure frequency of one chip: tells which sizes can be measured.
    false_alarm_rate : float
        Divided evenly over claims, sizes and inputs.
    """
    expected = {
        r: float(np.max(median_failure(frequencies, r))) * (campaign.trials // r)
        for r in range(3, min(replicas or 3, campaign.trials) + 1, 2)
    }
    measurable = [r for r, failures in expected.items() if failures >= _ENOUGH_FAILURES]
    # The largest ones tell most; the smallest is the surest.
    sizes = sorted({*measurable[:1], *measurable[1 - _MOST_SIZES :], *[replicas or 1]} - {1})
    sizes = [r for r in sizes if r <= campaign.trials]
    fresh = replace(
        plain(campaign, epsilon),
        replicas=tuple(sizes),
        seed=(campaign.seed + _OTHER_STREAM) % 2**64,
    )
    statistics = simulate(fresh, executor, progress)
    counted = {1: (fresh.trials, statistics.exceedances_any[0])} | {
        r: (int(statistics.median_groups[n]), statistics.median_exceedances_any[n, 0])
        for n, r in enumerate(fresh.replicas)
    }
    level = false_alarm_rate / (len(claims) * len(counted) * campaign.n_inputs)
    checks = [
        _judged(claim, r, groups, failures, level)
        for r, (groups, failures) in counted.items()
        for claim in claims
    ]
    return SelfCheck(
        trials=fresh.trials,
        seed=fresh.seed,
        false_alarm_rate=false_alarm_rate,
        checks=tuple(checks),
        certified=replicas,
        unmeasured=tuple(
            _unmeasured(claims, r, fresh.trials // r, level, r not in measurable)
            for r in expected
            if r not in counted
        ),
    )


def _unmeasured(
    claims: Sequence[ChipTails], replicas: int, groups: int, level: float, too_rare: bool
) -> UnmeasuredMedian:
    some = [claim for claim in claims if claim.guarantee] or claims
    claimed = min(float(np.minimum(median_bound(c, replicas), 1.0).max()) for c in some)
    return UnmeasuredMedian(
        replicas=replicas,
        groups=groups,
        claimed=claimed,
        detectable=_detectable(groups, claimed, level),
        too_rare=too_rare,
    )


def _judged(
    claim: ChipTails, replicas: int, groups: int, failures: Array, level: float
) -> MedianCheck:
    claimed = np.minimum(median_bound(claim, replicas), 1.0)
    p_values = stats.binom.sf(failures - 1, groups, claimed)
    refuted = bool((p_values < level).any())
    return MedianCheck(
        method=claim.method,
        guarantee=claim.guarantee,
        replicas=replicas,
        groups=groups,
        failures=failures,
        claimed=claimed,
        detectable=_detectable(groups, float(claimed.min()), level),
        verdict=CLAIM_REFUTED if refuted else CLAIM_HOLDS,
    )


def _detectable(groups: int, claimed: float, level: float) -> float:
    """The failure probability that is refuted with probability 0.9, where `claimed` is claimed."""
    # The fewest failures that refute; 1 of them does if none was claimed possible.
    needed = int(stats.binom.isf(level, groups, claimed)) + 1 if claimed > 0 else 1
    if needed > groups:
        return 1.0
    return float(special.betaincinv(needed, groups - needed + 1, 0.9))
