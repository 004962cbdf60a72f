"""Training networks that tolerate faults: Eq. 1 of the paper and its Algorithm 1.

The only part of neurosim that needs PyTorch (extra `[train]`). Numbers such as Eq. 1 are the
paper's (arXiv 1902.01686).
"""

try:
    import torch as _torch  # noqa: F401
except ImportError as _error:
    raise ImportError(
        "neurosim.training needs PyTorch: pip install 'neurosim-faults[train]'"
    ) from _error

from neurosim.training.algorithm import achieve
from neurosim.training.confirmation import Confirmation
from neurosim.training.fitting import Fit, TrainingRecord, train
from neurosim.training.goals import Goal, Search
from neurosim.training.iterations import Achievement, Iteration
from neurosim.training.modules import DenseModule, random_module, to_module, to_network
from neurosim.training.regularisers import (
    Regularisation,
    balance_penalty,
    curvature_penalty,
    gaussian_process_penalty,
    infinity_norm,
    paper_smoothness,
    smoothness_penalty,
    variance_penalty,
)

__all__ = [
    "Achievement",
    "Confirmation",
    "DenseModule",
    "Fit",
    "Goal",
    "Iteration",
    "Regularisation",
    "Search",
    "TrainingRecord",
    "achieve",
    "balance_penalty",
    "curvature_penalty",
    "gaussian_process_penalty",
    "infinity_norm",
    "paper_smoothness",
    "random_module",
    "smoothness_penalty",
    "to_module",
    "to_network",
    "train",
    "variance_penalty",
]
