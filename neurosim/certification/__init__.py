"""Statements about rare failures: how likely they are on one chip."""

from neurosim.certification.rare_failures import Exceedance, exceedance

__all__ = ["Exceedance", "exceedance"]
