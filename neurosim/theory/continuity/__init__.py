"""The continuous limit: networks that stay the same function as they grow wider, and balance.

Numbers such as AP4 are the paper's (arXiv 1902.01686). Array functions and functions of networks;
nothing here simulates a fault.
"""

from neurosim.theory.continuity.limit import (
    DerivativeDecay,
    derivative_decay,
    derivatives,
    discretise,
    sample,
)
from neurosim.theory.continuity.redundancy import (
    balanced_copies,
    balanced_widths,
    compensated,
    copies_by_importance,
    duplicate,
    width_needed,
)
from neurosim.theory.continuity.weights import (
    KernelSmoothness,
    Smoothness,
    balance,
    balance_penalty,
    kernel_smoothness,
    participation_q,
    smoothness,
    width_q,
)

__all__ = [
    "DerivativeDecay",
    "KernelSmoothness",
    "Smoothness",
    "balance",
    "balance_penalty",
    "balanced_copies",
    "balanced_widths",
    "compensated",
    "copies_by_importance",
    "derivative_decay",
    "derivatives",
    "discretise",
    "duplicate",
    "kernel_smoothness",
    "participation_q",
    "sample",
    "smoothness",
    "width_needed",
    "width_q",
]
