"""The campaign: everything that determines the numbers, frozen and checked."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from neurosim.chip import Chip
from neurosim.deployment import Deployment
from neurosim.errors import InputError
from neurosim.faults import (
    FaultBatch,
    FaultProcess,
    FaultSet,
    Intermittent,
    Permanent,
    onset_window,
)
from neurosim.layers import Array, frozen
from neurosim.network import Network
from neurosim.physical_sites import SiteGroups, groups_of, stuck_values
from neurosim.sampling import (
    STREAM_VERSION,
    ImportanceTilted,
    PlainMonteCarlo,
    ResolvedDraws,
    Stratified,
    WeightedTrials,
    draw,
)
from neurosim.spiking_model import SpikingModel
from neurosim.weight_faults import WeightSites, count_sites, weight_sites

__all__ = ["HISTOGRAM_EDGES", "Campaign", "Loss", "Plan", "spiking_model_for"]

Plan: TypeAlias = PlainMonteCarlo | Stratified | ImportanceTilted
Loss: TypeAlias = Literal["squared_error", "absolute_error", "cross_entropy"]

SPIKING_BACKENDS = ("spiking", "spiking-compiled")
BACKENDS = ("compiled", "reference", *SPIKING_BACKENDS)
RECORDS = ("faults", "error", "hidden", "spikes")

# A unit of work aims at this many error values or fault events, and this many multiplications.
# Values are counted in presentations in which something fails: the others cost next to nothing.
_CHUNK_VALUES, _CHUNK_WORK, _CHUNK_TRIALS = 2**22, 2**37, 2**17


def _histogram_edges() -> Array:
    """Four bins an octave from 2^-24 to 2^12, mirrored; a bin for exactly 0; open ends."""
    octaves = np.exp2(np.arange(-24, 12))[:, None] * np.array([1, 1.25, 1.5, 1.75])
    side = np.concatenate([[np.nextafter(0, 1)], octaves.ravel(), [2.0**12, np.inf]])
    return frozen(np.concatenate([-side[::-1], side]), np.float64)


HISTOGRAM_EDGES = _histogram_edges()


@dataclass(frozen=True, kw_only=True, eq=False)
class Campaign:
    """A deployment, its fault processes, the inputs, and how many trials to draw.

    Parameters
    ----------
    deployment : Deployment
    faults : sequence of StuckAtZero, StuckAt, Cluster, StuckDevice and BitFlip, optional
        The fault processes; by default those of the chip.
    inputs : array_like, shape (n_inputs, *input_shape)
        What every trial presents, once each, in this order.
    trials : int
        Number of fault sets. Not part of the fingerprint: a trace can be continued.
    seed : int
        From 0 to 2^64 - 1; one seed, the same bits.
    targets : array_like, optional
        Class numbers (n_inputs,) or wanted outputs (n_inputs, n_outputs).
    loss : None, "squared_error", "absolute_error" or "cross_entropy"
        A loss whose error is followed too (mean over outputs; needs targets). Cross-entropy needs
        a softmax read-out.
    plan : PlainMonteCarlo, Stratified or ImportanceTilted
        How trials are drawn. All but the first weigh trials; `resolve` the campaign before it runs.
    backend : "compiled", "reference", "spiking-compiled" or "spiking"
        Rates (the first two) or spikes in time; "spiking" runs in Brian2.
    dtype : "float32" or "float64"
        What the backend computes in; statistics are float64. Membranes are float64 always.
    spiking : SpikingModel, optional
        For the spiking backends only; by default that of the chip, or SpikingModel(). With more
        than one tick a presentation, probabilities and durations of transient and intermittent
        faults are per tick.
    record : sequence of "faults", "error", "hidden", "spikes"
        What to keep of each trial: the fault sets, the errors, the errors of hidden layers, every
        spike (spiking backends only).
    epsilons : sequence of float
        Thresholds: how often |error| >= epsilon is counted.
    replicas : sequence of int
        Sizes R: the median of R consecutive trials is compared with the epsilons.

    Raises
    ------
    InputError
        If a value is out of range or two values contradict each other.

    Examples
    --------
    >>> import neurosim as ns
    >>> network = ns.Network.dense(weights=[[[1, 1]]], biases=[[0]], activations=["identity"])
    >>> deployment = ns.deploy(network, ns.Chip.load("ideal"))
    >>> faults = [ns.StuckAtZero("neuron", probability=0.5)]
    >>> campaign = ns.Campaign(
    ...     deployment=deployment, faults=faults, inputs=[[1.0, 2.0]], trials=10, seed=42)
    >>> campaign.fault_set(7) == campaign.fault_set(7)
    True
    """

    deployment: Deployment
    faults: Sequence[FaultProcess] = None  # type: ignore[assignment]
    inputs: Array
    trials: int
    seed: int
    targets: Array | None = None
    loss: Loss | None = None
    plan: Plan = field(default_factory=PlainMonteCarlo)
    backend: str = "compiled"
    dtype: str = "float32"
    spiking: SpikingModel | None = None
    record: Sequence[str] = ()
    epsilons: Sequence[float] = ()
    replicas: Sequence[int] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.deployment, Deployment):
            raise InputError(
                "deployment: expected what deploy(network, chip) returns, "
                f"got {type(self.deployment).__name__}"
            )
        put = partial(object.__setattr__, self)
        put("faults", self._checked_faults())
        put("inputs", frozen(self.network.flatten(self.inputs), np.float64))
        put("trials", _whole("trials", self.trials, 1, 2**62))
        put("seed", _whole("seed", self.seed, 0, 2**64 - 1))
        put("targets", self._checked_targets())
        if self.loss is not None:
            self.check_loss(self.loss)
        _one_of("backend", self.backend, BACKENDS)
        _one_of("dtype", self.dtype, ("float32", "float64"))
        put("spiking", spiking_model_for(self.backend, self.spiking, self.deployment.chip))
        if self.spiking is not None:
            self.network.require_chain("a spiking backend")
        put("faults", tuple(self._in_presentations(process) for process in self.faults))
        record = (self.record,) if isinstance(self.record, str) else tuple(self.record)
        for name in record:
            _one_of("record", name, RECORDS)
        put("record", tuple(name for name in RECORDS if name in record))
        if "spikes" in record and self.spiking is None:
            raise InputError(
                f"record: expected spikes with a spiking backend only, got backend {self.backend!r}"
            )
        put("epsilons", _ascending("epsilons", self.epsilons))
        replicas = [_whole("replicas", r, 1, 100_000) for r in self.replicas]
        put("replicas", tuple(sorted(set(replicas))))
        if self.replicas and not self.epsilons:
            raise InputError(
                "replicas: expected epsilons beside them, for the median of R replicas is "
                "compared with those; got none"
            )
        self._check_plan()

    def _check_plan(self) -> None:
        plan = self.plan
        if isinstance(plan, PlainMonteCarlo):
            plan.probabilities(self.faults)
            return
        if not isinstance(plan, Stratified | ImportanceTilted):
            raise InputError(
                "plan: expected PlainMonteCarlo(), Stratified() or ImportanceTilted(epsilon=...), "
                f"got {plan!r}"
            )
        if self.replicas:
            raise InputError(
                f"replicas: expected none with weighted trials ({plan!r}), for their medians are "
                f"those of no replicas, got {self.replicas}; use PlainMonteCarlo, or certify"
            )
        if self.spiking is not None:
            raise InputError(
                'backend: expected "compiled" or "reference" with weighted trials, got '
                f"{self.backend!r}; use PlainMonteCarlo"
            )
        if isinstance(plan, ImportanceTilted):
            if plan.epsilon not in self.epsilons:
                raise InputError(
                    f"epsilons: expected {plan.epsilon:g} among them, which the plan tilts "
                    f"towards, got {self.epsilons or 'none'}"
                )
        elif not all(isinstance(process.persistence, Permanent) for process in self.faults):
            raise InputError(
                "faults: expected permanent ones with Stratified, whose strata count the faults "
                "of a trial; use PlainMonteCarlo or ImportanceTilted, or estimate_moments"
            )

    def _checked_faults(self) -> tuple[FaultProcess, ...]:
        chip = self.deployment.chip
        faults = chip.faults if self.faults is None else self.faults
        faults = (faults,) if isinstance(faults, FaultProcess) else tuple(faults)
        for process in faults:
            if not isinstance(process, FaultProcess):
                raise InputError(
                    "faults: expected StuckAtZero(...), StuckAt(...), Cluster(...), "
                    f"StuckDevice(...) or BitFlip(...) values, got {process!r}"
                )
            process.layers_in(self.network.widths)
            if count_sites(self.deployment, process) == 0:
                raise InputError(
                    f"faults: expected {process.site}s on this deployment, got none to fail; "
                    "links are between the cores of neighbouring layers"
                )
        self._check_values(faults)
        if not faults:
            raise InputError(
                f"faults: expected at least one fault process, got none, and chip {chip.name} "
                "has no default; give StuckAtZero(...)"
            )
        return faults

    def _in_presentations(self, process: FaultProcess) -> FaultProcess:
        """The same process, its times in seconds turned into presentations or ticks."""
        persistence, windows = process.persistence, self.n_inputs * self.ticks
        if persistence.in_seconds and not isinstance(persistence, Permanent):
            seconds = self.window_s
            if seconds is None:
                chip = self.deployment.chip.name
                raise InputError(
                    f"faults: expected a chip that says how long a presentation takes for times in "
                    f"seconds ({persistence}), got {chip}; give its profile "
                    "neurons.duration_s or timing.time_per_matrix_vector_product_s, choose a "
                    "spiking backend, or give presentations"
                )
            process = replace(process, persistence=persistence.every(seconds))
        onset = onset_window(process.persistence)
        if onset is not None and onset[1] > windows:
            raise InputError(
                f"onset: expected a window in the {windows} presentations (or ticks) of a trial, "
                f"got {onset[0]} to {onset[1]}"
            )
        return process

    def _check_values(self, faults: Sequence[FaultProcess]) -> None:
        """Refuse values that spikes do not know, and two processes that set the same thing."""
        seen: set[tuple[str, int]] = set()
        stuck = self.deployment.stuck_synapses
        known = {int(layer) for layer in np.unique(self.deployment.sites.synapses(stuck)[0])}
        if known and self.backend in SPIKING_BACKENDS:
            raise InputError(
                f"defects: expected dead hardware with backend {self.backend!r}, got stuck "
                "devices; spikes carry no values"
            )
        for process in faults:
            values = stuck_values(self.network, process)
            part = process.site in ("device", "bit")
            if values is None and not part:
                continue
            if self.backend in SPIKING_BACKENDS:
                raise InputError(
                    f"faults: expected neurons and synapses that are dead with backend "
                    f"{self.backend!r}, got {process}; spikes carry no values"
                )
            kind = "synapse" if part else process.site
            for layer in process.layers_in(self.network.widths):
                if kind == "synapse" and layer in known:
                    raise InputError(
                        f"faults: expected none that sets synapses of layer {layer} to a value, "
                        f"where the map of defects has stuck devices, got {process}; name other "
                        "layers"
                    )
                if (kind, layer) in seen:
                    raise InputError(
                        f"faults: expected one StuckAt for {kind}s of layer {layer}, got "
                        "two, which would set them to two values at a time; stuck devices and "
                        "flipped bits set synapses too"
                    )
                seen.add((kind, layer))

    def _checked_targets(self) -> Array | None:
        if self.targets is None:
            return None
        try:
            targets = np.asarray(self.targets)
        except ValueError as error:
            raise InputError(
                "targets: expected class numbers or rows of wanted outputs, got a ragged list"
            ) from error
        n, k = self.n_inputs, self.n_outputs
        if targets.dtype.kind not in "fiub":
            raise InputError(f"targets: expected numbers, got dtype {targets.dtype}")
        if targets.shape == (n,) and targets.dtype.kind in "iu":
            if targets.min() < 0 or targets.max() >= k:
                raise InputError(
                    f"targets: expected class numbers from 0 to {k - 1}, "
                    f"got {targets.min()} to {targets.max()}"
                )
            return frozen(targets, np.int64)
        if targets.shape != (n, k):
            raise InputError(
                f"targets: expected class numbers of shape ({n},), integers, or wanted outputs "
                f"of shape ({n}, {k}), got {targets.dtype} of shape {targets.shape}"
            )
        if not np.isfinite(targets).all():
            raise InputError("targets: expected finite numbers, got NaN or infinity")
        return frozen(targets, np.float64)

    def check_loss(self, loss: str) -> None:
        """Check that the campaign has what a loss needs.

        Raises
        ------
        InputError
            If there is no such loss, or the targets or the read-out do not go with it.
        """
        _one_of("loss", loss, get_args(Loss))
        if self.targets is None:
            raise InputError(f"targets: expected them for loss {loss!r}, got none")
        if loss == "cross_entropy":
            if self.network.readout != "softmax":
                raise InputError(
                    "loss: expected a network with a softmax read-out for cross_entropy, got one "
                    'without; end its activations with "softmax"'
                )
            if (self.target_outputs < 0).any():
                raise InputError("targets: expected probabilities for cross_entropy, got < 0")

    @property
    def network(self) -> Network:
        """The deployed network."""
        return self.deployment.network

    @property
    def n_inputs(self) -> int:
        """Presentations in a trial."""
        return len(self.inputs)

    @property
    def ticks(self) -> int:
        """Windows of time in one presentation; more than 1 in spiking campaigns only."""
        return 1 if self.spiking is None else self.spiking.ticks

    @property
    def window_s(self) -> float | None:
        """Seconds that a presentation takes, or one of its ticks; None where nothing says.

        By the spiking model, or by the chip (`Deployment.presentation_s`).
        """
        if self.spiking is not None:
            return self.spiking.duration_s / self.ticks
        return self.deployment.presentation_s

    @property
    def n_outputs(self) -> int:
        """Outputs of the network."""
        return self.network.n_outputs

    @cached_property
    def labels(self) -> Array | None:
        """Class numbers (n_inputs,), where the targets are classes or one-hot rows; else None."""
        if self.targets is None or self.targets.ndim == 1:
            return self.targets
        if self.n_outputs < 2:
            return None
        one_hot = ((self.targets == 1).sum(axis=1) == 1) & (
            (self.targets == 0).sum(axis=1) == self.n_outputs - 1
        )
        return frozen(self.targets.argmax(axis=1), np.int64) if one_hot.all() else None

    @cached_property
    def target_outputs(self) -> Array:
        """Wanted outputs (n_inputs, n_outputs); class numbers become one-hot rows."""
        if self.targets is None:
            raise InputError("targets: expected them for what was asked, got none")
        if self.targets.ndim == 2:
            return self.targets
        return frozen(np.eye(self.n_outputs)[self.targets], np.float64)

    @property
    def histogram_edges(self) -> Array:
        """Edges of the error histogram, shape (n_bins + 1,): fixed, never from data."""
        return HISTOGRAM_EDGES

    @cached_property
    def chunk(self) -> int:
        """Trials in one unit of work: a function of the campaign only, so that results are too."""
        n_inputs, widths = self.n_inputs, self.network.widths
        if isinstance(self.plan, ImportanceTilted):
            n_inputs = 1
        kept, share = float(self.n_outputs), self._changed_share
        if not isinstance(self.plan, PlainMonteCarlo):
            kept *= 4  # sums over trials pass over values, their squares and more
        work = n_inputs * self.network.multiplications * share
        if "hidden" in self.record:
            kept = sum(widths)
        if self.spiking is not None:
            # Spikes of every neuron are counted, in every step.
            kept, work = float(sum(widths)), work * self.spiking.n_steps
        elif "hidden" not in self.record:
            kept *= share
        by_memory, by_work = _CHUNK_VALUES / (n_inputs * kept), _CHUNK_WORK / work
        by_events = _CHUNK_VALUES / max(1.0, self._events)
        wanted = max(1.0, min(by_memory, by_work, by_events, _CHUNK_TRIALS))
        return max(2 ** int(math.log2(wanted)), max(self.replicas, default=1))

    @property
    def _changed_share(self) -> float:
        """At most the share of presentations whose errors take time and memory; above 0.

        Those in which something fails. Where single dead neurons repeat from trial to trial, so
        that an engine computes them once, those in which at least two things fail.
        """
        if not isinstance(self.plan, PlainMonteCarlo):
            return 1.0
        share = sum(p.probability * count_sites(self.deployment, p) for p in self.faults)
        if self.deployment.is_defective:
            share = 1.0
        share = min(1.0, max(share, 1 / _CHUNK_TRIALS))
        permanent = all(isinstance(process.persistence, Permanent) for process in self.faults)
        few = sum(self.network.widths) * self.n_inputs * self.n_outputs <= _CHUNK_VALUES
        if permanent and few and all(process.site == "neuron" for process in self.faults):
            share = share**2
        return share

    @property
    def _events(self) -> float:
        """At most the mean number of fault events that a trial's processes draw."""
        windows, events = self.n_inputs * self.ticks, 0.0
        if not isinstance(self.plan, PlainMonteCarlo):
            return self._weighted_events
        drawn_at = self.plan.probabilities(self.faults)
        for process, probability, group in zip(self.faults, drawn_at, self._groups, strict=True):
            each = 1.0  # a site that fails for good is one event
            if isinstance(process.persistence, Intermittent):
                each += windows / process.persistence.presentations
            elif not isinstance(process.persistence, Permanent):
                each = windows
            # A physical site is an event of each of its neurons and synapses.
            n = (
                count_sites(self.deployment, process)
                if group is None
                else len(group.neurons) + len(group.synapses)
            )
            events += probability * n * each
        held = self.deployment
        return events + len(held.defective_synapses) + len(held.stuck_synapses)

    @property
    def _weighted_events(self) -> float:
        """About the same of a weighted trial, which draws a few sites or as many as expected."""
        expected, largest = 0.0, 1.0
        for process, group in zip(self.faults, self._groups, strict=True):
            n, each = count_sites(self.deployment, process), 1.0
            if group is not None:
                each = (len(group.neurons) + len(group.synapses)) / len(group)
            expected += process.probability * n * each
            largest = max(largest, each)
        return max(expected, 32 * largest)

    def fault_set(self, k: int) -> FaultSet:
        """What fails in trial k: a pure function of (faults, plan, seed, k).

        Raises
        ------
        InputError
            If k is negative.
        """
        k = _whole("k", k, 0, 2**62)
        return self.fault_batch(k, k + 1)[0]

    def fault_batch(self, first: int, stop: int) -> FaultBatch:
        """The fault sets of trials first .. stop - 1, in the form engines read."""
        windows = self.n_inputs * self.ticks
        if not isinstance(self.plan, PlainMonteCarlo):
            return self.weighted_trials(first, stop).batch
        about = (self.deployment.sites, windows, self.seed, first, stop)
        held = self.deployment
        known = (held.defective_synapses, (held.stuck_synapses, held.stuck_weights))
        return draw(self.faults, self.plan, *about, self._groups, *known, self._values, self._parts)

    @cached_property
    def draws(self) -> ResolvedDraws:
        """The explicit arrays of a weighted plan.

        Raises
        ------
        InputError
            If the plan is plain, not resolved, or resolved for another campaign.
        """
        if isinstance(self.plan, PlainMonteCarlo):
            raise InputError(f"plan: expected one that weighs trials, got {self.plan}")
        draws = self.plan.draws
        if draws.campaign != self.recipe:
            raise InputError(
                "plan: expected one resolved for this campaign, got one resolved for another; "
                f"give it a new one, {self.plan!r}, and resolve the campaign again"
            )
        return draws

    def weighted_trials(self, first: int, stop: int) -> WeightedTrials:
        """Trials first .. stop - 1 of a weighted plan, with their weights.

        Raises
        ------
        InputError
            As `draws`.
        """
        return self.draws.draw(self.deployment.sites, self.n_inputs, self.seed, first, stop)

    @cached_property
    def _values(self) -> tuple[dict[int, float] | None, ...]:
        return tuple(stuck_values(self.network, process) for process in self.faults)

    @cached_property
    def _parts(self) -> tuple[WeightSites | None, ...]:
        return tuple(weight_sites(self.deployment, process) for process in self.faults)

    @cached_property
    def _groups(self) -> tuple[SiteGroups | None, ...]:
        return tuple(groups_of(self.deployment, process) for process in self.faults)

    def with_probabilities(self, probabilities: Sequence[float]) -> "Campaign":
        """The same campaign with other fault probabilities, one a process.

        That of stuck devices is the one of both states together; their shares stay.
        """
        if len(probabilities) != len(self.faults):
            raise InputError(
                f"probabilities: expected one for each of {len(self.faults)} fault processes, "
                f"got {len(probabilities)}"
            )
        pairs = zip(self.faults, probabilities, strict=True)
        return replace(self, faults=tuple(f.with_probability(p) for f, p in pairs))

    @cached_property
    def components(self) -> dict[str, str]:
        """All that determines the numbers, by name: readable where short, else a SHA-256."""
        parts = dict(self._recipe)
        if not isinstance(self.plan, PlainMonteCarlo) and self.plan.resolved is not None:
            parts["plan_arrays"] = self.draws.fingerprint
        return parts

    @cached_property
    def _recipe(self) -> dict[str, str]:
        network = self.network
        parts = {
            "network": _sha(
                network.structure.encode(), *(array.tobytes() for array in network.arrays)
            ),
            "placement": _sha(repr(self.deployment.blocks).encode()),
            "inputs": _sha(str(self.inputs.shape).encode(), self.inputs.tobytes()),
            "targets": "none"
            if self.targets is None
            else _sha(
                str((self.targets.shape, self.targets.dtype)).encode(), self.targets.tobytes()
            ),
            "histogram_edges": _sha(self.histogram_edges.tobytes()),
            "seed": str(self.seed),
            "loss": str(self.loss).lower(),
            "plan": repr(self.plan),
            "backend": self.backend,
            "dtype": self.dtype,
            "record": ", ".join(self.record) or "none",
            "epsilons": ", ".join(map(repr, self.epsilons)) or "none",
            "replicas": ", ".join(map(str, self.replicas)) or "none",
            "chunk": str(self.chunk),
            "stream_version": str(STREAM_VERSION),
        }
        if self.spiking is not None:
            parts["spiking"] = repr(self.spiking)
        if any(process.site in ("device", "bit") for process in self.faults):
            # What a part of a weight is worth is not in the weights.
            deployment = self.deployment
            trained = (layer.weight.tobytes() for layer in deployment.trained.layers)
            about = repr((deployment.chip.device, deployment.device_seed))
            parts["device"] = _sha(about.encode(), *trained)
        if self.deployment.defects is not None:
            places = [a.tobytes() for pair in self.deployment.places for a in pair]
            if len(self.deployment.stuck_synapses):
                places.append(self.deployment.stuck_weights.tobytes())
            parts["defects"] = _sha(repr(self.deployment.defects.defects).encode(), *places)
        for number, process in enumerate(self.faults, start=1):
            parts[f"fault process {number}"] = repr(process)
        return parts

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all that determines the numbers, in hexadecimal."""
        return _fingerprint(self.components)

    @property
    def recipe(self) -> str:
        """The fingerprint without the arrays of a resolved plan: what it is resolved from."""
        return _fingerprint(self._recipe)

    def __str__(self) -> str:
        return "\n".join(
            [
                f"{self.trials} trials x {self.n_inputs} inputs, seed {self.seed}, backend "
                f"{self.backend} ({self.dtype}), {self.plan}",
                *(() if self.spiking is None else (f"  {self.spiking}",)),
                *(f"  {process}" for process in self.faults),
            ]
        )


def spiking_model_for(backend: str, given: SpikingModel | None, chip: Chip) -> SpikingModel | None:
    """The spiking model that goes with a backend; None for backends that know no spikes.

    Raises
    ------
    InputError
        If one is given for such a backend.
    """
    if given is not None and not isinstance(given, SpikingModel):
        raise InputError(f"spiking: expected SpikingModel(...), got {given!r}")
    if backend in SPIKING_BACKENDS:
        return given or chip.spiking or SpikingModel()
    if given is not None:
        raise InputError(
            f"spiking: expected a spiking model with a spiking backend only, got backend "
            f"{backend!r}; choose one of {', '.join(SPIKING_BACKENDS)}"
        )
    return None


def _fingerprint(components: dict[str, str]) -> str:
    return _sha(*(f"{k}={v}\n".encode() for k, v in sorted(components.items())))


def _sha(*pieces: bytes) -> str:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(len(piece).to_bytes(8, "little"))
        digest.update(piece)
    return digest.hexdigest()


def _whole(name: str, value: object, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise InputError(f"{name}: expected a whole number, got {value!r}")
    if not low <= value <= high:
        raise InputError(f"{name}: expected a whole number from {low} to {high}, got {value}")
    return int(value)


def _one_of(name: str, value: object, allowed: Sequence[str]) -> None:
    if value not in allowed:
        spelled = ", ".join(f'"{a}"' for a in allowed)
        raise InputError(f"{name}: expected one of {spelled}, got {value!r}")


def _ascending(name: str, values: npt.ArrayLike) -> tuple[float, ...]:
    try:
        array = np.atleast_1d(np.asarray(values, np.float64))
    except (TypeError, ValueError) as error:
        raise InputError(f"{name}: expected numbers, got {values!r}") from error
    if not (np.isfinite(array).all() and (array > 0).all()):
        raise InputError(f"{name}: expected finite numbers above 0, got {values!r}")
    return tuple(float(v) for v in np.unique(array))
