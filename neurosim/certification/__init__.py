"""Rare failures, moments with little noise, replicas, and what to protect."""

from neurosim.certification.certificates import Certificate, MethodRow, certify
from neurosim.certification.fault_rates import LargestProbability, largest_probability
from neurosim.certification.gains import NetworkComparison, NetworkErrors, compare_networks
from neurosim.certification.hardening import Hardening, Variant, harden
from neurosim.certification.moments import MomentEstimate, estimate_moments
from neurosim.certification.planning import trials_to_bound, trials_to_estimate
from neurosim.certification.rare_failures import Exceedance, exceedance
from neurosim.certification.resolution import resolve

__all__ = [
    "Certificate",
    "Exceedance",
    "Hardening",
    "LargestProbability",
    "MethodRow",
    "MomentEstimate",
    "NetworkComparison",
    "NetworkErrors",
    "Variant",
    "certify",
    "compare_networks",
    "estimate_moments",
    "exceedance",
    "harden",
    "largest_probability",
    "resolve",
    "trials_to_bound",
    "trials_to_estimate",
]
