"""A certificate put to the test: medians of R chips simulated with faults it has not seen."""

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

__all__ = ["CLAIM_HOLDS", "CLAIM_REFUTED", "MedianCheck", "SelfCheck", "self_check"]

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
    unmeasured : tuple of int
        Sizes R that were not simulated: fewer than 10 groups were expected to fail at the worst
        input, or four other sizes were.
    """

    trials: int
    seed: int
    false_alarm_rate: float
    checks: tuple[MedianCheck, ...]
    unmeasured: tuple[int, ...]

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
        if self.unmeasured:
            sizes = ", ".join(map(str, self.unmeasured))
            lines.append(f"  medians of {sizes}: not measured; they fail too seldom, or others do")
        return "\n".join(lines)


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
    probability explains. Sizes whose failures are too rare to be seen in the campaign's number of
    trials are named as such and not judged.

    Parameters
    ----------
    campaign : Campaign
        Its number of trials is that of the chips simulated, with another seed.
    epsilon : float
    claims : sequence of ChipTails
    replicas : int or None
        The size the certificate names; sizes up to it are simulated.
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
    sizes = sorted({*measurable[:1], *measurable[1 - _MOST_SIZES :]})
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
        unmeasured=tuple(r for r in expected if r not in counted),
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
