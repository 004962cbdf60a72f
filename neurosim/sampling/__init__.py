"""How the fault sets of trials are drawn: plans of campaigns, and mixtures of unequal laws."""

from neurosim.sampling.cut_sets import CutLaw
from neurosim.sampling.fault_laws import FaultLaw, count_law
from neurosim.sampling.faulty_sites import GROUP, NEURON, SYNAPSE, FaultySites
from neurosim.sampling.mixtures import Mixture
from neurosim.sampling.plans import STREAM_VERSION, PlainMonteCarlo, draw
from neurosim.sampling.weighted import (
    PERIOD,
    Draws,
    ImportanceTilted,
    ResolvedDraws,
    Stratified,
    WeightedTrials,
)

__all__ = [
    "GROUP",
    "NEURON",
    "PERIOD",
    "STREAM_VERSION",
    "SYNAPSE",
    "CutLaw",
    "Draws",
    "FaultLaw",
    "FaultySites",
    "ImportanceTilted",
    "Mixture",
    "PlainMonteCarlo",
    "ResolvedDraws",
    "Stratified",
    "WeightedTrials",
    "count_law",
    "draw",
]
