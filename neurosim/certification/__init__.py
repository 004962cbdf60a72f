"""Statements about one chip: how likely rare failures are, and moments with little noise."""

from neurosim.certification.moments import MomentEstimate, estimate_moments
from neurosim.certification.rare_failures import Exceedance, exceedance

__all__ = ["Exceedance", "MomentEstimate", "estimate_moments", "exceedance"]
