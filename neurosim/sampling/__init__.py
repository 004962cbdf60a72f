"""How the fault sets of trials are drawn: plans of campaigns, and mixtures of unequal laws."""

from neurosim.sampling.mixtures import FaultLaw, Mixture, count_law
from neurosim.sampling.plans import STREAM_VERSION, PlainMonteCarlo, draw

__all__ = ["STREAM_VERSION", "FaultLaw", "Mixture", "PlainMonteCarlo", "count_law", "draw"]
