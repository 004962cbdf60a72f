"""Losses of a batch, as `predict` and the trace count them, and their derivatives."""

import torch
from torch import Tensor

from neurosim.campaign import Loss

__all__ = ["loss_gradient", "losses"]


def losses(outputs: Tensor, targets: Tensor, loss: Loss) -> Tensor:
    """The loss of each input, (n_inputs,): a mean over outputs, but for cross-entropy."""
    match loss:
        case "squared_error":
            return ((outputs - targets) ** 2).mean(dim=1)
        case "absolute_error":
            return (outputs - targets).abs().mean(dim=1)
        case _:
            return -(targets * torch.log_softmax(outputs, dim=1)).sum(dim=1)


def loss_gradient(outputs: Tensor, targets: Tensor, loss: Loss) -> Tensor:
    """The derivative of each input's loss by its outputs, (n_inputs, n_outputs); differentiable."""
    match loss:
        case "squared_error":
            return 2 * (outputs - targets) / outputs.shape[1]
        case "absolute_error":
            return torch.sign(outputs - targets) / outputs.shape[1]
        case _:
            return targets.sum(dim=1, keepdim=True) * torch.softmax(outputs, dim=1) - targets
