"""The fault-free pass through the layers of a setting, and the derivatives back through them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from neurosim.campaign import Campaign, Loss
from neurosim.chip import Chip
from neurosim.deployment import deploy
from neurosim.errors import InputError
from neurosim.faults import StuckAtZero
from neurosim.layers import Array
from neurosim.network import Network
from neurosim.theory.arguments import check_network
from neurosim.theory.setting import Setting, is_linear

__all__ = ["GoldenPass", "faultless_setting"]


def faultless_setting(
    network: Network,
    inputs: npt.ArrayLike,
    layer: int | None,
    loss: Loss | None,
    targets: npt.ArrayLike | None,
) -> Setting:
    """What is predicted, for faults that are not fault processes of a campaign.

    Raises
    ------
    InputError
        As `Campaign` does for inputs, targets and loss; if there is no such layer, or a loss is
        asked for at a hidden layer.
    """
    check_network(network)
    if layer is not None and loss is not None:
        raise InputError(
            f"loss: expected none beside layer {layer!r}, for a loss is one of the outputs, "
            f"got {loss!r}"
        )
    # A campaign in which nothing fails checks all that is checked about a campaign.
    campaign = Campaign(
        deployment=deploy(network, Chip(name="any")),
        faults=(StuckAtZero("neuron", probability=0.0),),
        inputs=inputs,  # type: ignore[arg-type]
        targets=targets,  # type: ignore[arg-type]
        loss=loss,
        trials=1,
        seed=0,
    )
    return Setting.of(campaign, layer, loss)


@dataclass(frozen=True, kw_only=True, eq=False)
class GoldenPass:
    """Fault-free values and derivatives for some inputs of a setting.

    Parameters
    ----------
    setting : Setting
    rows : slice
        Which inputs.
    """

    setting: Setting
    rows: slice

    @cached_property
    def _forward(self) -> tuple[list[Array], list[Array]]:
        y, z = [self.setting.inputs[self.rows]], [np.empty(0)]
        for layer in self.setting.layers:
            z.append(layer.preactivation(y[-1]))
            y.append(layer.activation(z[-1]))
        return y, z

    @property
    def y(self) -> list[Array]:
        """y_0, ..., y_L: (n_inputs, n_l)."""
        return self._forward[0]

    @property
    def z(self) -> list[Array]:
        """z_l at index l = 1..L: (n_inputs, n_l)."""
        return self._forward[1]

    @property
    def targets(self) -> Array | None:
        """Targets of these inputs, where there is a loss."""
        return self.setting.targets_of(self.rows)

    @cached_property
    def derivatives(self) -> tuple[list[Array], list[Array]]:
        """Derivatives of what is predicted by y_l and by z_l, each (n_outputs, n_inputs or 1, n_l).

        The second axis has length 1 where they are the same for every input. The list of those by
        z has nothing at index 0.
        """
        by_y, by_z = [self.setting.head.gradient(self.y[-1], self.targets)], []
        for number in range(self.setting.depth, 0, -1):
            layer = self.setting.layers[number - 1]
            slope = by_y[-1]
            if not is_linear(layer.activation):
                slope = slope * layer.activation.derivative(self.z[number])
            by_z.append(slope)
            by_y.append(layer.pull_back(slope))
        return by_y[::-1], [np.empty(0), *by_z[::-1]]
