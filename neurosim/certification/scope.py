"""Which campaigns the formulas about dead neurons and synapses hold for."""

from neurosim.backends.prepared import has_kernels
from neurosim.campaign import Campaign
from neurosim.errors import InputError
from neurosim.faults import StuckAtZero, onset_window

__all__ = ["beyond_formulas", "require_formulas"]


def beyond_formulas(campaign: Campaign) -> str | None:
    """What of a campaign is not dead neurons and synapses in a chain of dense layers, in words."""
    if not has_kernels(campaign.network):
        return "a network beyond chains of dense layers with the usual activations"
    for process in campaign.faults:
        if not (isinstance(process, StuckAtZero) and process.site in ("neuron", "synapse")):
            return str(process)
        if onset_window(process.persistence) is not None:
            return f"an onset window ({process})"
    if campaign.deployment.defects is not None:
        return "known defects"
    return None


def require_formulas(campaign: Campaign, what: str) -> None:
    """Check that a campaign is of dead neurons and synapses in a chain of dense layers.

    Raises
    ------
    InputError
        If it is not: what then remains is simulation.
    """
    found = beyond_formulas(campaign)
    if found is not None:
        raise InputError(
            f"campaign: expected stuck-at-0 neurons and synapses of a chain of dense layers for "
            f"{what}, got {found}; certify simulates such campaigns"
        )
