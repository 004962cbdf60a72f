"""Fault injection on virtual neuromorphic chips, beside the theory of what the faults do.

Public names are loaded when they are first used, so that `import neurosim` stays fast and none of
the heavy libraries is needed before it is.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Public name -> the module it lives in.
_HOME = {
    "Campaign": "campaign",
    "CampaignMismatchError": "errors",
    "Chip": "chip",
    "Comparison": "analysis",
    "Deployment": "deployment",
    "DeploymentError": "errors",
    "FaultSet": "faults",
    "FormatError": "errors",
    "InputError": "errors",
    "Intermittent": "faults",
    "Network": "network",
    "NeurosimError": "errors",
    "Permanent": "faults",
    "PlainMonteCarlo": "sampling",
    "Prediction": "theory",
    "Sweep": "analysis",
    "StuckAtZero": "faults",
    "Trace": "trace",
    "TraceError": "errors",
    "Transient": "faults",
    "chip_profiles": "chip",
    "compare": "analysis",
    "deploy": "deployment",
    "evaluate": "backends",
    "join": "trace",
    "load_campaign": "campaign_file",
    "predict": "theory",
    "run": "runner",
    "sweep": "analysis",
    "write_report": "report",
}
_ROOMS = ("errors", "layers", "theory")

__all__ = [*sorted(_HOME), *_ROOMS, "__version__"]

if TYPE_CHECKING:
    from neurosim import errors, layers, theory
    from neurosim.analysis import Comparison, Sweep, compare, sweep
    from neurosim.backends import evaluate
    from neurosim.campaign import Campaign
    from neurosim.campaign_file import load_campaign
    from neurosim.chip import Chip, chip_profiles
    from neurosim.deployment import Deployment, deploy
    from neurosim.errors import (
        CampaignMismatchError,
        DeploymentError,
        FormatError,
        InputError,
        NeurosimError,
        TraceError,
    )
    from neurosim.faults import FaultSet, Intermittent, Permanent, StuckAtZero, Transient
    from neurosim.network import Network
    from neurosim.report import write_report
    from neurosim.runner import run
    from neurosim.sampling import PlainMonteCarlo
    from neurosim.theory import Prediction, predict
    from neurosim.trace import Trace, join


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return import_module(f"neurosim.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'neurosim' has no attribute {name!r}")
    value = getattr(import_module(f"neurosim.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
