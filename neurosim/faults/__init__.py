"""What fails, where, how often and for how long: fault processes, and what failed in one trial.

Values only: nothing here draws a random number. Layer 0 is the input and layer l = 1..L the output
of the l-th weighted layer; the synapses of layer l are the weights W_l.
"""

from neurosim.faults.batches import Events, FaultBatch, ValuedEvents
from neurosim.faults.fault_sets import (
    FAULT_EVENTS,
    NEURON_EVENT,
    NEURON_VALUE_EVENT,
    SYNAPSE_EVENT,
    SYNAPSE_WEIGHT_EVENT,
    FaultSet,
)
from neurosim.faults.in_time import chain_of
from neurosim.faults.persistence import (
    Intermittent,
    Permanent,
    Persistence,
    Transient,
    onset_window,
    persistence_of,
)
from neurosim.faults.processes import (
    BitFlip,
    Cluster,
    FaultProcess,
    SiteKind,
    StuckAt,
    StuckAtZero,
    StuckDevice,
    fault_process,
)
from neurosim.faults.sites import Sites

__all__ = [
    "FAULT_EVENTS",
    "NEURON_EVENT",
    "NEURON_VALUE_EVENT",
    "SYNAPSE_EVENT",
    "SYNAPSE_WEIGHT_EVENT",
    "BitFlip",
    "Cluster",
    "Events",
    "FaultBatch",
    "FaultProcess",
    "FaultSet",
    "Intermittent",
    "Permanent",
    "Persistence",
    "SiteKind",
    "Sites",
    "StuckAt",
    "StuckAtZero",
    "StuckDevice",
    "Transient",
    "ValuedEvents",
    "chain_of",
    "fault_process",
    "onset_window",
    "persistence_of",
]
