"""Fault injection on virtual neuromorphic chips, beside the theory of what the faults do.

Public names are loaded when they are first used, so that `import neurosim` stays fast and none of
the heavy libraries is needed before it is.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Public name -> the module it lives in.
_HOME = {
    "BitFlip": "faults",
    "Campaign": "campaign",
    "CampaignMismatchError": "errors",
    "Certificate": "certification",
    "Chip": "chip",
    "Cluster": "faults",
    "Comparison": "analysis",
    "Cost": "costs",
    "CrossbarDevice": "crossbar",
    "DaskExecutor": "executors",
    "Defect": "defects",
    "DefectMap": "defects",
    "Deployment": "deployment",
    "DeploymentComparison": "analysis",
    "DeploymentError": "errors",
    "Exceedance": "certification",
    "ExecutorError": "errors",
    "FaultSet": "faults",
    "FormatError": "errors",
    "Hardening": "certification",
    "ImportanceTilted": "sampling",
    "InputError": "errors",
    "Intermittent": "faults",
    "LargestProbability": "certification",
    "MomentEstimate": "certification",
    "Network": "network",
    "NetworkComparison": "certification",
    "NeurosimError": "errors",
    "NonIdealities": "crossbar_simulation",
    "Permanent": "faults",
    "PlainMonteCarlo": "sampling",
    "Prediction": "theory",
    "ProcessExecutor": "executors",
    "SerialExecutor": "executors",
    "SpikingModel": "spiking_model",
    "Stratified": "sampling",
    "StuckAt": "faults",
    "StuckAtZero": "faults",
    "StuckDevice": "faults",
    "Sweep": "analysis",
    "ThreadExecutor": "executors",
    "Trace": "trace",
    "TraceError": "errors",
    "Transient": "faults",
    "certify": "certification",
    "check_assumptions": "theory",
    "chip_profiles": "chip",
    "compare": "analysis",
    "compare_deployments": "analysis",
    "compare_networks": "certification",
    "cost": "costs",
    "deploy": "deployment",
    "estimate_moments": "certification",
    "evaluate": "backends",
    "exceedance": "certification",
    "harden": "certification",
    "join": "trace",
    "largest_probability": "certification",
    "load_campaign": "campaign_file",
    "load_nir": "nir_graph",
    "nonidealities": "crossbar_simulation",
    "predict": "theory",
    "resolve": "certification",
    "run": "runner",
    "save_nir": "nir_graph",
    "smoothed": "transformations",
    "sweep": "analysis",
    "trials_to_bound": "certification",
    "trials_to_estimate": "certification",
    "write_report": "report",
}
_ROOMS = ("errors", "layers", "theory")

__all__ = [*sorted(_HOME), *_ROOMS, "__version__"]

if TYPE_CHECKING:  # what a type checker sees; the same names as in _HOME
    from neurosim import errors as errors
    from neurosim import layers as layers
    from neurosim import theory as theory
    from neurosim.analysis import Comparison as Comparison
    from neurosim.analysis import DeploymentComparison as DeploymentComparison
    from neurosim.analysis import Sweep as Sweep
    from neurosim.analysis import compare as compare
    from neurosim.analysis import compare_deployments as compare_deployments
    from neurosim.analysis import sweep as sweep
    from neurosim.backends import evaluate as evaluate
    from neurosim.campaign import Campaign as Campaign
    from neurosim.campaign_file import load_campaign as load_campaign
    from neurosim.certification import Certificate as Certificate
    from neurosim.certification import Exceedance as Exceedance
    from neurosim.certification import Hardening as Hardening
    from neurosim.certification import LargestProbability as LargestProbability
    from neurosim.certification import MomentEstimate as MomentEstimate
    from neurosim.certification import NetworkComparison as NetworkComparison
    from neurosim.certification import certify as certify
    from neurosim.certification import compare_networks as compare_networks
    from neurosim.certification import estimate_moments as estimate_moments
    from neurosim.certification import exceedance as exceedance
    from neurosim.certification import harden as harden
    from neurosim.certification import largest_probability as largest_probability
    from neurosim.certification import resolve as resolve
    from neurosim.certification import trials_to_bound as trials_to_bound
    from neurosim.certification import trials_to_estimate as trials_to_estimate
    from neurosim.chip import Chip as Chip
    from neurosim.chip import chip_profiles as chip_profiles
    from neurosim.costs import Cost as Cost
    from neurosim.costs import cost as cost
    from neurosim.crossbar import CrossbarDevice as CrossbarDevice
    from neurosim.crossbar_simulation import NonIdealities as NonIdealities
    from neurosim.crossbar_simulation import nonidealities as nonidealities
    from neurosim.defects import Defect as Defect
    from neurosim.defects import DefectMap as DefectMap
    from neurosim.deployment import Deployment as Deployment
    from neurosim.deployment import deploy as deploy
    from neurosim.errors import CampaignMismatchError as CampaignMismatchError
    from neurosim.errors import DeploymentError as DeploymentError
    from neurosim.errors import ExecutorError as ExecutorError
    from neurosim.errors import FormatError as FormatError
    from neurosim.errors import InputError as InputError
    from neurosim.errors import NeurosimError as NeurosimError
    from neurosim.errors import TraceError as TraceError
    from neurosim.executors import DaskExecutor as DaskExecutor
    from neurosim.executors import ProcessExecutor as ProcessExecutor
    from neurosim.executors import SerialExecutor as SerialExecutor
    from neurosim.executors import ThreadExecutor as ThreadExecutor
    from neurosim.faults import BitFlip as BitFlip
    from neurosim.faults import Cluster as Cluster
    from neurosim.faults import FaultSet as FaultSet
    from neurosim.faults import Intermittent as Intermittent
    from neurosim.faults import Permanent as Permanent
    from neurosim.faults import StuckAt as StuckAt
    from neurosim.faults import StuckAtZero as StuckAtZero
    from neurosim.faults import StuckDevice as StuckDevice
    from neurosim.faults import Transient as Transient
    from neurosim.network import Network as Network
    from neurosim.nir_graph import load_nir as load_nir
    from neurosim.nir_graph import save_nir as save_nir
    from neurosim.report import write_report as write_report
    from neurosim.runner import run as run
    from neurosim.sampling import ImportanceTilted as ImportanceTilted
    from neurosim.sampling import PlainMonteCarlo as PlainMonteCarlo
    from neurosim.sampling import Stratified as Stratified
    from neurosim.spiking_model import SpikingModel as SpikingModel
    from neurosim.theory import Prediction as Prediction
    from neurosim.theory import check_assumptions as check_assumptions
    from neurosim.theory import predict as predict
    from neurosim.trace import Trace as Trace
    from neurosim.trace import join as join
    from neurosim.transformations import smoothed as smoothed


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
