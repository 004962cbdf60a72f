"""Reports: one self-contained HTML page and the figures as PNG files. matplotlib lives here."""

import io
from os import PathLike
from pathlib import Path

from matplotlib.figure import Figure

from neurosim.analysis import Comparison, Sweep
from neurosim.campaign import Campaign
from neurosim.certification import Certificate, Hardening
from neurosim.errors import InputError
from neurosim.report import certification, figures, rasters
from neurosim.report.page import (
    certificate_page,
    comparison_page,
    hardening_page,
    spiking_page,
    sweep_page,
)

__all__ = ["write_report"]


def write_report(
    about: Comparison | Sweep | Certificate | Hardening | Campaign, folder: str | PathLike[str]
) -> Path:
    """Write a page with figures about a result, or about the spikes of a campaign.

    Parameters
    ----------
    about : Comparison, Sweep, Certificate, Hardening or Campaign
        A campaign must be a spiking one; its page shows spikes around a fault, and the error in
        time. Comparisons of spiking campaigns show them too.
    folder : path
        Made if it does not exist; an earlier report in it is replaced.

    Returns
    -------
    Path
        Of index.html.

    Raises
    ------
    InputError
        If the folder cannot be written to, or a campaign has no spikes.

    Examples
    --------
    >>> ns.write_report(comparison, "report")  # doctest: +SKIP
    """
    if not isinstance(about, Comparison | Sweep | Certificate | Hardening | Campaign):
        raise InputError(
            "write_report: expected what compare, sweep, certify or harden returns, or a spiking "
            f"campaign, got {type(about).__name__}"
        )
    drawn: dict[str, Figure | None]
    if isinstance(about, Sweep):
        drawn = {"sweep": figures.sweep_curves(about)}
    elif isinstance(about, Certificate):
        drawn = {
            "certificate-replicas": certification.failure_by_replicas(about),
            "certificate-inputs": certification.failure_by_input(about),
        }
    elif isinstance(about, Hardening):
        drawn = {
            "hardening-chip": certification.chip_contributions(about),
            "hardening-neurons": certification.neuron_contributions(about),
            "hardening-gains": certification.gains(about),
        }
    elif isinstance(about, Campaign):
        drawn = _spikes(about)
    else:
        drawn = {
            "histograms": figures.histograms(about),
            "exceedance": figures.exceedance_curve(about),
            "replicas": figures.failure_against_replicas(about),
            "contributions": figures.contributions(about),
            "scatter": figures.scatter(about),
            "chip": figures.chip_map(about),
        }
        if about.campaign.spiking is not None:
            drawn |= _spikes(about.campaign)
    pictures = {name: None if figure is None else _png(figure) for name, figure in drawn.items()}
    if isinstance(about, Sweep):
        page = sweep_page(about, pictures)
    elif isinstance(about, Certificate):
        page = certificate_page(about, pictures)
    elif isinstance(about, Hardening):
        page = hardening_page(about, pictures)
    elif isinstance(about, Campaign):
        page = spiking_page(about, pictures)
    else:
        page = comparison_page(about, pictures)
    target = Path(folder)
    try:
        target.mkdir(parents=True, exist_ok=True)
        for name, picture in pictures.items():
            path = target / f"{name}.png"
            if picture is None:
                path.unlink(missing_ok=True)
            else:
                path.write_bytes(picture)
        (target / "index.html").write_text(page, encoding="utf-8")
    except OSError as error:
        raise InputError(f"folder: expected one to write a report to, got {error}") from error
    return target / "index.html"


def _spikes(campaign: Campaign) -> dict[str, Figure | None]:
    case = rasters.worst_case(campaign)
    return {
        "raster": None if case is None else rasters.raster(case),
        "error-in-time": None if case is None else rasters.error_in_time(case),
    }


def _png(figure: Figure) -> bytes:
    stream = io.BytesIO()
    # No date or version inside: the same comparison gives the same bytes.
    figure.savefig(stream, format="png", dpi=130, metadata={"Software": None})
    return stream.getvalue()
