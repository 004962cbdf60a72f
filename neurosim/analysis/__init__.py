"""Where simulation and theory meet: comparisons and sweeps."""

from neurosim.analysis.checks import BoundChecks, LawChecks, MedianChecks, RateCheck
from neurosim.analysis.comparison import Comparison, compare
from neurosim.analysis.deployments import DeploymentComparison, compare_deployments
from neurosim.analysis.intervals import Verdicts
from neurosim.analysis.sweeping import Sweep, sweep

__all__ = [
    "BoundChecks",
    "Comparison",
    "DeploymentComparison",
    "LawChecks",
    "MedianChecks",
    "RateCheck",
    "Sweep",
    "Verdicts",
    "compare",
    "compare_deployments",
    "sweep",
]
