"""Reports: one self-contained HTML page and the figures as PNG files. matplotlib lives here."""

import io
from os import PathLike
from pathlib import Path

from matplotlib.figure import Figure

from neurosim.analysis import Comparison, Sweep
from neurosim.errors import InputError
from neurosim.report import figures
from neurosim.report.page import comparison_page, sweep_page

__all__ = ["write_report"]


def write_report(about: Comparison | Sweep, folder: str | PathLike[str]) -> Path:
    """Write a page with figures about a comparison or a sweep.

    Parameters
    ----------
    about : Comparison or Sweep
    folder : path
        Made if it does not exist; an earlier report in it is replaced.

    Returns
    -------
    Path
        Of index.html.

    Raises
    ------
    InputError
        If the folder cannot be written to.

    Examples
    --------
    >>> ns.write_report(comparison, "report")  # doctest: +SKIP
    """
    if not isinstance(about, Comparison | Sweep):
        raise InputError(
            f"write_report: expected what compare or sweep returns, got {type(about).__name__}"
        )
    drawn: dict[str, Figure | None]
    if isinstance(about, Sweep):
        drawn = {"sweep": figures.sweep_curves(about)}
    else:
        drawn = {
            "histograms": figures.histograms(about),
            "exceedance": figures.exceedance_curve(about),
            "replicas": figures.failure_against_replicas(about),
            "contributions": figures.contributions(about),
            "scatter": figures.scatter(about),
            "chip": figures.chip_map(about),
        }
    pictures = {name: None if figure is None else _png(figure) for name, figure in drawn.items()}
    page = (
        sweep_page(about, pictures)
        if isinstance(about, Sweep)
        else comparison_page(about, pictures)
    )
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


def _png(figure: Figure) -> bytes:
    stream = io.BytesIO()
    # No date or version inside: the same comparison gives the same bytes.
    figure.savefig(stream, format="png", dpi=130, metadata={"Software": None})
    return stream.getvalue()
