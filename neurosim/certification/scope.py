"""Which campaigns the formulas hold for: dead neurons and synapses, dead parts of the chip."""

from neurosim.campaign import Campaign
from neurosim.errors import InputError
from neurosim.faults import Cluster, StuckAtZero, onset_window
from neurosim.theory.setting import KNOWN

__all__ = ["beyond_formulas", "beyond_sites", "require_formulas", "require_sites"]


def beyond_sites(campaign: Campaign) -> str | None:
    """What of a campaign is not independent dead sites in a chain of dense layers, with the reason.

    Sites are neurons, synapses, rows, columns, cores and links.
    """
    network = campaign.network
    if network.nodes or any(layer.activation.kind not in KNOWN for layer in network.layers):
        return (
            "a network beyond chains of dense layers with the usual activations, whose output "
            "ranges are not known"
        )
    for process in campaign.faults:
        if isinstance(process, Cluster):
            return f"{process}, whose sites share members"
        if not isinstance(process, StuckAtZero):
            return (
                f"{process}, which sets values: such fault sets are computed one by one, too "
                "slowly to draw many, and their output ranges are not known"
            )
        if onset_window(process.persistence) is not None:
            return f"an onset window ({process})"
    if campaign.deployment.defects is not None:
        return "known defects, which change what single faults do"
    return None


def beyond_formulas(campaign: Campaign) -> str | None:
    """What of a campaign is not dead neurons and synapses in a chain of dense layers, in words."""
    for process in campaign.faults:
        if isinstance(process, StuckAtZero) and process.site not in ("neuron", "synapse"):
            return str(process)
    return beyond_sites(campaign)


def require_sites(campaign: Campaign, what: str) -> None:
    """Check that a campaign is of independent dead sites in a chain of dense layers.

    Raises
    ------
    InputError
        If it is not: what then remains is simulation.
    """
    sites = "neurons, synapses, rows, columns, cores and links"
    _refuse(beyond_sites(campaign), sites, what)


def require_formulas(campaign: Campaign, what: str) -> None:
    """Check that a campaign is of dead neurons and synapses in a chain of dense layers.

    Raises
    ------
    InputError
        If it is not: what then remains is simulation.
    """
    _refuse(beyond_formulas(campaign), "neurons and synapses", what)


def _refuse(found: str | None, sites: str, what: str) -> None:
    if found is not None:
        raise InputError(
            f"campaign: expected stuck-at-0 {sites} of a chain of dense layers for {what}, got "
            f"{found}; certify simulates such campaigns"
        )
