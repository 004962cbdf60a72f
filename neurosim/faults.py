"""What fails, where, how often and for how long: fault processes, and what failed in one trial.

Values only: nothing here draws a random number. Layer 0 is the input and layer l = 1..L the output
of the l-th weighted layer; the synapses of layer l are the weights W_l.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from neurosim.errors import InputError
from neurosim.kernels.draws import merge_windows
from neurosim.layers import Array

__all__ = [
    "BitFlip",
    "Events",
    "FaultBatch",
    "FaultProcess",
    "FaultSet",
    "Intermittent",
    "Permanent",
    "Persistence",
    "SiteKind",
    "Sites",
    "StuckAt",
    "StuckAtZero",
    "StuckDevice",
    "Transient",
    "ValuedEvents",
    "fault_process",
    "persistence_of",
]

SiteKind: TypeAlias = Literal["neuron", "synapse", "row", "column", "core", "link", "device", "bit"]

# In words, and the first layer that has such sites.
_SITES = {
    "neuron": ("neurons", 0),
    "synapse": ("synapses", 1),
    "row": ("rows", 1),
    "column": ("columns", 1),
    "core": ("cores", 1),
    "link": ("links", 2),
    "device": ("devices", 1),
    "bit": ("bits", 1),
}


@dataclass(frozen=True)
class Permanent:
    """A fault drawn once a trial that lasts the whole trial.

    Examples
    --------
    >>> StuckAtZero("neuron", probability=1e-3, persistence=Permanent()).persistence
    Permanent()
    """

    def __str__(self) -> str:
        return "permanent"


@dataclass(frozen=True)
class Transient:
    """A fault drawn anew, independently, at each presentation.

    Examples
    --------
    >>> str(StuckAtZero("synapse", probability=1e-4, persistence=Transient()))
    'stuck-at-0 synapses of every layer, p = 0.0001, transient'
    """

    def __str__(self) -> str:
        return "transient"


@dataclass(frozen=True, kw_only=True)
class Intermittent:
    """A fault that comes and goes: a stationary two-state Markov chain over the presentations.

    Parameters
    ----------
    mean_duration : float
        Mean length of a burst in presentations, at least 1. With the probability p of the
        process it fixes P(repair) = 1/m and P(onset) = p / (m (1 - p)) for one step.

    Raises
    ------
    InputError
        If mean_duration is below 1 or not finite.

    Examples
    --------
    >>> Intermittent(mean_duration=5).mean_duration
    5
    """

    mean_duration: float

    def __post_init__(self) -> None:
        if not (_is_number(self.mean_duration) and 1 <= self.mean_duration < np.inf):
            raise InputError(
                "mean_duration: expected at least 1 presentation and finite, "
                f"got {self.mean_duration!r}"
            )

    def __str__(self) -> str:
        return f"intermittent, mean duration {self.mean_duration:g} presentations or ticks"


Persistence: TypeAlias = Permanent | Transient | Intermittent


def persistence_of(kind: str, mean_duration: float | None) -> Persistence:
    """The persistence that a file names: permanent, transient, or intermittent with its duration.

    Raises
    ------
    InputError
        If the kind is unknown, or a mean duration is missing or out of place.
    """
    if kind not in ("permanent", "transient", "intermittent"):
        raise InputError(
            f"persistence: expected permanent, transient or intermittent, got {kind!r}"
        )
    if kind == "intermittent":
        if mean_duration is None:
            raise InputError("mean_duration: expected one for an intermittent fault, got none")
        return Intermittent(mean_duration=mean_duration)
    if mean_duration is not None:
        raise InputError(
            f"mean_duration: expected one for intermittent faults only, got one for a {kind} fault"
        )
    return Permanent() if kind == "permanent" else Transient()


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


@dataclass(frozen=True)
class FaultProcess:
    """What fails, how often and for how long: what all fault processes have in common."""

    site: SiteKind
    probability: float = field(kw_only=True)
    layers: Sequence[int] | None = field(default=None, kw_only=True)
    persistence: Persistence = field(default_factory=Permanent, kw_only=True)

    def __post_init__(self) -> None:
        if self.site not in _SITES:
            spelled = ", ".join(f'"{name}"' for name in _SITES)
            raise InputError(f"site: expected one of {spelled}, got {self.site!r}")
        if not (_is_number(self.probability) and 0 <= self.probability <= 1):
            raise InputError(
                f"probability: expected a number in [0, 1], got {self.probability!r}"
                + (
                    "; is it a percentage?"
                    if _is_number(self.probability) and 1 < self.probability <= 100
                    else ""
                )
            )
        object.__setattr__(self, "probability", float(self.probability))
        if self.layers is not None:
            layers = self.layers
            if not isinstance(layers, Iterable) or not all(
                isinstance(n, int | np.integer) and not isinstance(n, bool) and n >= 0
                for n in layers
            ):
                raise InputError(f"layers: expected a list of layer numbers, got {layers!r}")
            if not list(layers) or len(set(layers)) != len(list(layers)):
                raise InputError(
                    f"layers: expected distinct layer numbers, at least one, got {layers!r}"
                )
            object.__setattr__(self, "layers", tuple(sorted(int(n) for n in layers)))
        if not isinstance(self.persistence, Permanent | Transient | Intermittent):
            raise InputError(
                "persistence: expected Permanent(), Transient() or Intermittent(mean_duration=...)"
                f", got {self.persistence!r}"
            )
        if isinstance(self.persistence, Intermittent) and self.probability < 1:
            odds = self.probability / (1 - self.probability)
            if self.persistence.mean_duration < odds:
                raise InputError(
                    f"mean_duration: expected at least p / (1 - p) = {odds:g} presentations at "
                    f"probability {self.probability:g}, got {self.persistence.mean_duration:g}; "
                    "shorter bursts cannot fill so large a share of the time"
                )

    def with_probability(self, probability: float) -> "FaultProcess":
        """The same process at another probability."""
        return replace(self, probability=probability)

    def layers_in(self, widths: Sequence[int]) -> tuple[int, ...]:
        """The layers meant on a network of widths n_0..n_L.

        Raises
        ------
        InputError
            If a layer does not exist there.
        """
        depth = len(widths) - 1
        first, last = _SITES[self.site][1], depth
        if self.layers is None:
            return tuple(range(first, depth if self.site == "neuron" else depth + 1))
        wrong = [n for n in self.layers if not first <= n <= last]
        if wrong:
            raise InputError(
                f"layers: expected {self.site} layers from {first} to {last} of this network of "
                f"{depth} weighted layers, got {wrong[0]}"
            )
        return tuple(self.layers)

    def __str__(self) -> str:
        where = (
            "every layer"
            if self.layers is None
            else (
                f"layer {self.layers[0]}"
                if len(self.layers) == 1
                else f"layers {', '.join(map(str, self.layers))}"
            )
        )
        plural = _SITES[self.site][0]
        return f"{self._state} {plural} of {where}, p = {self.probability:g}, {self.persistence}"

    @property
    def _state(self) -> str:
        return "faulty"


@dataclass(frozen=True)
class StuckAtZero(FaultProcess):
    """Independent stuck-at-0 faults: hardware that carries nothing any more.

    Parameters
    ----------
    site : "neuron", "synapse", "row", "column", "core" or "link"
        The kind of hardware that fails. A neuron outputs 0; a synapse has weight 0; the input
        driver of a crossbar row takes that row of weights with it, a column its partial sum; a
        core all its weights and the neurons whose circuits sit on it; a link what one core sends
        to another.
    probability : float
        Per site: per trial (permanent), per presentation (transient), at any presentation
        (intermittent, stationary). In [0, 1].
    layers : sequence of int, optional
        Which layers: 0 is the input, l = 1..L the output of the l-th weighted layer; the synapses
        of layer l are W_l, and the rows, columns and cores of layer l hold them; the links of
        layer l = 2..L lead to those cores. By default every neuron of layers 0..L-1, all else
        of every layer that has it.
    persistence : Permanent, Transient or Intermittent
        How long a fault lasts.

    Raises
    ------
    InputError
        If a value is out of range, or a burst length contradicts the probability.

    Examples
    --------
    >>> str(StuckAtZero("neuron", probability=1e-3, layers=[1]))
    'stuck-at-0 neurons of layer 1, p = 0.001, permanent'
    """

    @property
    def _state(self) -> str:
        return "stuck-at-0"


@dataclass(frozen=True)
class StuckAt(FaultProcess):
    """Independent faults that set outputs of neurons, or weights of synapses, to a value.

    Where a neuron or synapse is stuck at 0 at the same time, it is 0.

    Parameters
    ----------
    site : "neuron" or "synapse"
    value : float or "maximum"
        What the output (in the unit of the activations) or the weight is stuck at. "maximum", for
        neurons: the largest value of the activation, a neuron that always fires at its full rate;
        activations without one need a number.
    probability, layers, persistence
        As in `StuckAtZero`.

    Raises
    ------
    InputError
        As `StuckAtZero` does, or if the value is no finite number.

    Examples
    --------
    >>> str(StuckAt("neuron", value="maximum", probability=1e-3, layers=[1]))
    'stuck-at-maximum neurons of layer 1, p = 0.001, permanent'
    """

    value: float | Literal["maximum"] = field(kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.site not in ("neuron", "synapse"):
            raise InputError(
                f'site: expected "neuron" or "synapse" for a value, got {self.site!r}; '
                "StuckAtZero silences rows, columns, cores and links"
            )
        if self.value == "maximum" and self.site == "neuron":
            return
        if not (_is_number(self.value) and np.isfinite(self.value)):
            wanted = 'a finite number or "maximum"' if self.site == "neuron" else "a finite number"
            raise InputError(f"value: expected {wanted}, got {self.value!r}")
        object.__setattr__(self, "value", float(self.value))

    @property
    def _state(self) -> str:
        value = self.value if isinstance(self.value, str) else f"{self.value:g}"
        return f"stuck-at-{value}"


@dataclass(frozen=True)
class StuckDevice(FaultProcess):
    """Devices stuck in one of two states that exclude each other, independently of each other.

    Every synapse has the devices of its chip's `CrossbarDevice`: plus and minus, of each slice; an
    offset column, which all synapses of a row share, is left out. A stuck device adds to the weight
    of its synapse what its conductance is worth more or less than before (`stuck_weight`); where a
    synapse has several, all of them do. Where the synapse is dead, its weight is 0.

    Parameters
    ----------
    stuck_lrs, stuck_hrs : float
        Probability that a device is stuck at g_stuck_lrs_s, and at g_stuck_hrs_s.
    layers
        As in `StuckAtZero`.
    persistence : Permanent
        Devices that are stuck stay so.

    Raises
    ------
    InputError
        If a probability is out of range, the two add up to more than 1, or the fault is not
        permanent.

    Examples
    --------
    >>> str(StuckDevice(stuck_lrs=0.02, stuck_hrs=0.01))
    'stuck devices of every layer, p = 0.03, permanent (LRS 0.02, HRS 0.01)'
    """

    site: SiteKind = field(default="device", init=False)
    probability: float = field(default=0.0, init=False, repr=False)
    stuck_lrs: float = field(kw_only=True)
    stuck_hrs: float = field(kw_only=True)

    def __post_init__(self) -> None:
        for name in ("stuck_lrs", "stuck_hrs"):
            value = getattr(self, name)
            if not (_is_number(value) and 0 <= value <= 1):
                raise InputError(f"{name}: expected a probability in [0, 1], got {value!r}")
            object.__setattr__(self, name, float(value))
        total = self.stuck_lrs + self.stuck_hrs
        if total > 1:
            raise InputError(
                f"stuck_lrs, stuck_hrs: expected at most 1 together, got {total:g}; a device is in "
                "one state only"
            )
        object.__setattr__(self, "probability", total)
        super().__post_init__()
        if not isinstance(self.persistence, Permanent):
            raise InputError(
                f"persistence: expected Permanent() for stuck devices, got {self.persistence!r}"
            )

    def with_probability(self, probability: float) -> "StuckDevice":
        """The same shares of the two states, at another probability of both together.

        Raises
        ------
        InputError
            If neither state has a probability, so that there are no shares.
        """
        if probability == self.probability:
            return self
        if self.probability == 0:
            raise InputError(
                "probabilities: expected 0 for devices that are never stuck, got "
                f"{probability!r}; their shares of stuck_lrs and stuck_hrs are not known"
            )
        # The smaller share is what the larger one leaves: the two add up to exactly the total.
        larger = max(self.stuck_lrs, self.stuck_hrs) / self.probability * probability
        pair = (larger, probability - larger)
        lrs, hrs = pair if self.stuck_lrs >= self.stuck_hrs else pair[::-1]
        return replace(self, stuck_lrs=lrs, stuck_hrs=hrs)

    @property
    def _state(self) -> str:
        return "stuck"

    def __str__(self) -> str:
        return f"{super().__str__()} (LRS {self.stuck_lrs:g}, HRS {self.stuck_hrs:g})"


@dataclass(frozen=True)
class BitFlip(FaultProcess):
    """Independent flips of the bits in which a digital chip holds its weights.

    A bit that flips adds to the weight, or takes from it, what it is worth (`flipped_weight`);
    where several of one weight flip, all of them do. Where the synapse is dead, its weight is 0.

    Parameters
    ----------
    probability : float
        Per bit: per trial (permanent) or per presentation (transient).
    bits : sequence of int, optional
        Which bits: 0 is the least significant, the last one the sign; by default all.
    layers
        As in `StuckAtZero`.
    persistence : Permanent or Transient

    Raises
    ------
    InputError
        If a value is out of range, or the fault is intermittent.

    Examples
    --------
    >>> str(BitFlip(probability=1e-6))
    'flipped bits of every layer, p = 1e-06, permanent'
    """

    site: SiteKind = field(default="bit", init=False)
    bits: Sequence[int] | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.persistence, Intermittent):
            raise InputError(
                "persistence: expected Permanent() or Transient() for bits that flip, got "
                f"{self.persistence!r}"
            )
        if self.bits is None:
            return
        bits = self.bits
        if not (
            isinstance(bits, Iterable)
            and all(isinstance(b, int | np.integer) and not isinstance(b, bool) for b in bits)
            and list(bits)
            and len(set(bits)) == len(list(bits))
            and min(bits) >= 0
        ):
            raise InputError(f"bits: expected distinct numbers of bits from 0 on, got {bits!r}")
        object.__setattr__(self, "bits", tuple(sorted(int(b) for b in bits)))

    @property
    def _state(self) -> str:
        return "flipped"

    def __str__(self) -> str:
        chosen = "" if self.bits is None else f" ({', '.join(map(str, self.bits))} only)"
        return super().__str__() + chosen


def fault_process(
    site: str,
    *,
    persistence: Persistence,
    layers: Sequence[int] | None,
    probability: float | None = None,
    stuck_lrs: float | None = None,
    stuck_hrs: float | None = None,
    bits: Sequence[int] | None = None,
    value: float | str | None = None,
) -> FaultProcess:
    """The fault process that a table of a file describes.

    Raises
    ------
    InputError
        If a key is missing or does not go with the site, or a value is not what it must be.
    """
    keys = {
        "probability": probability,
        "stuck_lrs": stuck_lrs,
        "stuck_hrs": stuck_hrs,
        "bits": bits,
        "value": value,
    }
    given = {name: entry for name, entry in keys.items() if entry is not None}
    kinds: dict[str, tuple[type[FaultProcess], tuple[str, ...], tuple[str, ...]]] = {
        "device": (StuckDevice, ("stuck_lrs", "stuck_hrs"), ()),
        "bit": (BitFlip, ("probability",), ("bits",)),
    }
    plain = (StuckAtZero if value is None else StuckAt, ("probability",), ("value",))
    kind, needed, optional = kinds.get(site, plain)
    for name in needed:
        if name not in given:
            raise InputError(f'{name}: expected one for a fault of site "{site}", got none')
    for name in given:
        if name not in needed + optional:
            raise InputError(
                f'{name}: expected {", ".join(needed + optional)} for a fault of site "{site}", '
                f"got {name} too"
            )
    about = {**given, "layers": layers, "persistence": persistence}
    return kind(**about) if site in kinds else kind(site, **about)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Sites:
    """The numbering of neurons and synapses of a network: one integer a site, layer after layer.

    Parameters
    ----------
    widths : tuple of int
        n_0, ..., n_L.
    matrices : tuple of (n_out, n_in), optional
        Shapes of the weight matrices of layers 1..L as crossbars hold them; by default
        (n_l, n_{l-1}). Rows of several copies of a kernel follow each other.

    Examples
    --------
    >>> sites = Sites((3, 2))
    >>> sites.synapse_numbers([1], [1], [0]), sites.neuron_numbers([1], [1])
    (array([3]), array([4]))
    """

    widths: tuple[int, ...]
    matrices: tuple[tuple[int, int], ...] = ()

    @property
    def weight_shapes(self) -> tuple[tuple[int, int], ...]:
        """(n_out, n_in) of the synapses of layers 1..L."""
        return self.matrices or tuple((b, a) for a, b in pairwise(self.widths))

    @property
    def neuron_offsets(self) -> Array:
        """First number of each layer 0..L, and the total: shape (L + 2,)."""
        return np.cumsum([0, *self.widths], dtype=np.int64)

    @property
    def synapse_offsets(self) -> Array:
        """First number of each layer 1..L at index l, and the total: shape (L + 2,)."""
        return np.cumsum([0, 0, *(a * b for a, b in self.weight_shapes)], dtype=np.int64)

    def neuron_numbers(self, layer: npt.ArrayLike, unit: npt.ArrayLike) -> Array:
        """Numbers of neurons."""
        return self.neuron_offsets[np.asarray(layer, np.int64)] + np.asarray(unit, np.int64)

    def synapse_numbers(
        self, layer: npt.ArrayLike, out: npt.ArrayLike, in_: npt.ArrayLike
    ) -> Array:
        """Numbers of synapses, W_l row by row."""
        number = np.asarray(layer, np.int64)
        n_in = np.array(self.weight_shapes, np.int64).reshape(-1, 2)[number - 1, 1]
        return (
            self.synapse_offsets[number]
            + np.asarray(out, np.int64) * n_in
            + np.asarray(in_, np.int64)
        )

    def neurons(self, numbers: Array) -> tuple[Array, Array]:
        """(layer, unit) of neuron numbers."""
        offsets = self.neuron_offsets
        layer = np.searchsorted(offsets, numbers, side="right") - 1
        return layer, numbers - offsets[layer]

    def synapses(self, numbers: Array) -> tuple[Array, Array, Array]:
        """(layer, out, in) of synapse numbers."""
        offsets = self.synapse_offsets
        layer = np.searchsorted(offsets, numbers, side="right") - 1
        n_in = np.array(self.weight_shapes, np.int64).reshape(-1, 2)[layer - 1, 1]
        out, in_ = np.divmod(numbers - offsets[layer], n_in)
        return layer, out, in_


NEURON_EVENT = np.dtype([("layer", "i4"), ("unit", "i8"), ("start", "i8"), ("stop", "i8")])
SYNAPSE_EVENT = np.dtype(
    [("layer", "i4"), ("out", "i8"), ("in", "i8"), ("start", "i8"), ("stop", "i8")]
)
NEURON_VALUE_EVENT = np.dtype([*NEURON_EVENT.descr, ("value", "f8")])
SYNAPSE_WEIGHT_EVENT = np.dtype([*SYNAPSE_EVENT.descr, ("weight", "f8")])
# The fields of a FaultSet and the form of their rows.
FAULT_EVENTS = {
    "neurons": NEURON_EVENT,
    "synapses": SYNAPSE_EVENT,
    "neuron_values": NEURON_VALUE_EVENT,
    "synapse_weights": SYNAPSE_WEIGHT_EVENT,
}


def _event_array(name: str, events: Iterable[Any], dtype: np.dtype[np.void]) -> Array:
    fields = dtype.names or ()
    try:
        rows = (
            events
            if isinstance(events, np.ndarray) and events.dtype == dtype
            else np.array([tuple(row) for row in events], dtype=dtype)
        )
    except (TypeError, ValueError) as error:
        raise InputError(f"{name}: expected rows of ({', '.join(fields)}), got {error}") from error
    rows = np.unique(rows)
    rows.setflags(write=False)
    return rows


@dataclass(frozen=True, kw_only=True, eq=False)
class FaultSet:
    """What failed in one trial.

    Parameters
    ----------
    n_presentations : int
        Presentations in the trial; windows are half-open ranges [start, stop) of them.
    neurons : structured array or rows of (layer, unit, start, stop)
        Dead neurons. Sorted, without repetition.
    synapses : structured array or rows of (layer, out, in, start, stop)
        Dead synapses W_layer[out, in]. Sorted, without repetition.
    neuron_values : structured array or rows of (layer, unit, start, stop, value)
        Neurons whose output is stuck at a value; while one is dead too, it is 0.
    synapse_weights : structured array or rows of (layer, out, in, start, stop, weight)
        Synapses whose weight is stuck at a value; while one is dead too, it is 0.

    Raises
    ------
    InputError
        If a window is empty or outside the trial, a number is negative, a value is not finite, or
        one neuron or synapse has two values at a time.

    Examples
    --------
    >>> FaultSet(n_presentations=2, neurons=[(1, 5, 0, 2)]).neurons["unit"]
    array([5])
    """

    n_presentations: int
    neurons: Array = ()  # type: ignore[assignment]
    synapses: Array = ()  # type: ignore[assignment]
    neuron_values: Array = ()  # type: ignore[assignment]
    synapse_weights: Array = ()  # type: ignore[assignment]

    def __post_init__(self) -> None:
        for name, dtype in FAULT_EVENTS.items():
            rows = _event_array(name, getattr(self, name), dtype)
            object.__setattr__(self, name, rows)
            for row in rows:
                if not 0 <= row["start"] < row["stop"] <= self.n_presentations:
                    raise InputError(
                        f"{name}: expected windows 0 <= start < stop <= {self.n_presentations} "
                        f"presentations, got [{row['start']}, {row['stop']})"
                    )
            place = _place(dtype)
            if len(rows) and min(int(rows[f].min()) for f in place) < 0:
                raise InputError(f"{name}: expected numbers from 0 on, got a negative one")
            if name in ("neuron_values", "synapse_weights"):
                _check_values(name, rows, place)

    def masks(self, presentation: int) -> tuple[Array, Array]:
        """Neurons and synapses dead at one presentation.

        Returns
        -------
        neurons : ndarray of int, shape (n, 2), columns (layer, unit)
        synapses : ndarray of int, shape (n, 3), columns (layer, out, in)

        Examples
        --------
        >>> FaultSet(n_presentations=2, neurons=[(1, 5, 1, 2)]).masks(0)[0].shape
        (0, 2)
        """
        if not 0 <= presentation < self.n_presentations:
            raise InputError(
                f"presentation: expected 0 to {self.n_presentations - 1}, got {presentation}"
            )
        found = []
        for rows in (self.neurons, self.synapses):
            now = rows[(rows["start"] <= presentation) & (presentation < rows["stop"])]
            columns = [now[name] for name in _place(now.dtype)]
            found.append(np.unique(np.stack(columns, axis=1), axis=0))
        return found[0], found[1]

    def values(self, presentation: int) -> tuple[Array, Array]:
        """Neurons and synapses stuck at a value at one presentation, dead ones among them.

        Returns
        -------
        neurons : structured array of (layer, unit, start, stop, value)
        synapses : structured array of (layer, out, in, start, stop, weight)

        Examples
        --------
        >>> fault_set = FaultSet(n_presentations=2, neuron_values=[(1, 5, 0, 2, 1.0)])
        >>> fault_set.values(0)[0]["value"]
        array([1.])
        """
        if not 0 <= presentation < self.n_presentations:
            raise InputError(
                f"presentation: expected 0 to {self.n_presentations - 1}, got {presentation}"
            )
        found = [
            rows[(rows["start"] <= presentation) & (presentation < rows["stop"])]
            for rows in (self.neuron_values, self.synapse_weights)
        ]
        return found[0], found[1]

    def __len__(self) -> int:
        return sum(len(getattr(self, name)) for name in FAULT_EVENTS)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, FaultSet):
            return NotImplemented
        return self.n_presentations == other.n_presentations and all(
            np.array_equal(getattr(self, n), getattr(other, n)) for n in FAULT_EVENTS
        )

    def __hash__(self) -> int:
        return hash((self.n_presentations, *(getattr(self, n).tobytes() for n in FAULT_EVENTS)))

    def __str__(self) -> str:
        neurons = len(self.neurons) + len(self.neuron_values)
        synapses = len(self.synapses) + len(self.synapse_weights)
        return (
            f"{neurons} neuron and {synapses} synapse fault events in "
            f"{self.n_presentations} presentations"
        )


def _place(dtype: np.dtype[Any]) -> tuple[str, ...]:
    """Names of the columns that say where an event is."""
    return tuple(n for n in dtype.names or () if n not in ("start", "stop", "value", "weight"))


def _check_values(name: str, rows: Array, place: tuple[str, ...]) -> None:
    """Refuse values that are not finite, and two of them for one thing at a time."""
    column = (rows.dtype.names or ())[-1]
    if not np.isfinite(rows[column]).all():
        raise InputError(f"{name}: expected finite values, got NaN or infinity")
    rows = np.sort(rows, order=[*place, "start"])
    same = np.ones(max(0, len(rows) - 1), bool)
    for field_name in place:
        same &= rows[field_name][1:] == rows[field_name][:-1]
    if (same & (rows["start"][1:] < rows["stop"][:-1])).any():
        raise InputError(f"{name}: expected one value at a time, got windows that overlap")


@dataclass(frozen=True, kw_only=True, eq=False)
class Events:
    """Fault events of one kind of site over several trials, as flat arrays.

    The events of trial k of the batch are ``offsets[k]:offsets[k + 1]``, sorted by site and start;
    windows of one site do not overlap.

    Parameters
    ----------
    offsets : ndarray of int64, shape (n_trials + 1,)
    site : ndarray of int64, shape (n_events,)
        Site numbers (`Sites`).
    start, stop : ndarray of int32, shape (n_events,)
        Windows of presentations.
    """

    offsets: Array
    site: Array
    start: Array
    stop: Array


@dataclass(frozen=True, kw_only=True, eq=False)
class ValuedEvents(Events):
    """Events that set something to a value.

    Parameters
    ----------
    value : ndarray of float64, shape (n_events,)
        Of the output of a neuron, or the weight of a synapse.
    """

    value: Array


def _valued(site: Array, rows: Array, column: str) -> ValuedEvents:
    """Valued events of one trial."""
    order = np.lexsort((rows["start"], site))
    return ValuedEvents(
        offsets=np.array([0, len(rows)]),
        site=site[order],
        start=rows["start"][order].astype(np.int32),
        stop=rows["stop"][order].astype(np.int32),
        value=rows[column][order].astype(np.float64),
    )


def _events(site: Array, rows: Array) -> Events:
    """Events of one trial; overlapping windows of a site, as users may give them, are united."""
    offsets, site, start, stop = merge_windows(
        1,
        np.zeros(len(rows), np.int64),
        site,
        rows["start"].astype(np.int32),
        rows["stop"].astype(np.int32),
    )
    return Events(offsets=offsets, site=site, start=start, stop=stop)


@dataclass(frozen=True, kw_only=True, eq=False)
class FaultBatch:
    """The fault sets of consecutive trials in the form that engines read.

    Parameters
    ----------
    sites : Sites
    n_presentations : int
    neurons, synapses : Events
    counts : ndarray of int64, shape (n_trials, n_processes)
        Faults each process drew: sites (permanent) or pairs of site and presentation (else),
        before overlaps of processes are merged.
    neuron_values, synapse_weights : ValuedEvents, optional
        What is stuck at a value; None where nothing is. Where it is dead too, it is 0.
    """

    sites: Sites
    n_presentations: int
    neurons: Events
    synapses: Events
    counts: Array
    neuron_values: ValuedEvents | None = None
    synapse_weights: ValuedEvents | None = None

    @property
    def valued(self) -> Array:
        """Trials in which something is stuck at a value, ascending."""
        found = np.zeros(len(self), bool)
        for events in (self.neuron_values, self.synapse_weights):
            if events is not None:
                found |= np.diff(events.offsets) > 0
        return np.flatnonzero(found)

    @staticmethod
    def of(fault_set: FaultSet, sites: Sites) -> "FaultBatch":
        """One fault set as a batch, checked against the network.

        Raises
        ------
        InputError
            If the fault set names a neuron or synapse that the network does not have.
        """
        widths = np.array(sites.widths)
        neurons, synapses = fault_set.neurons, fault_set.synapses
        depth = len(widths) - 1
        set_neurons, set_synapses = fault_set.neuron_values, fault_set.synapse_weights
        for name, rows, first in (
            ("neurons", neurons, 0),
            ("synapses", synapses, 1),
            ("neuron_values", set_neurons, 0),
            ("synapse_weights", set_synapses, 1),
        ):
            for row in rows[(rows["layer"] < first) | (rows["layer"] > depth)]:
                raise InputError(
                    f"{name}: expected layers from {first} to {depth}, got {row['layer']}"
                )
        every = np.array(sites.weight_shapes, np.int64).reshape(-1, 2)
        shapes, held = every[synapses["layer"] - 1], every[set_synapses["layer"] - 1]
        limits = [
            ("neurons", neurons, "unit", widths[neurons["layer"]]),
            ("synapses", synapses, "out", shapes[:, 0]),
            ("synapses", synapses, "in", shapes[:, 1]),
            ("neuron_values", set_neurons, "unit", widths[set_neurons["layer"]]),
            ("synapse_weights", set_synapses, "out", held[:, 0]),
            ("synapse_weights", set_synapses, "in", held[:, 1]),
        ]
        for name, rows, column, limit in limits:
            for row, n in zip(
                rows[rows[column] >= limit], limit[rows[column] >= limit], strict=True
            ):
                raise InputError(
                    f"{name}: expected {column} from 0 to {n - 1} in layer {row['layer']}, "
                    f"got {row[column]}"
                )
        return FaultBatch(
            sites=sites,
            n_presentations=fault_set.n_presentations,
            neurons=_events(sites.neuron_numbers(neurons["layer"], neurons["unit"]), neurons),
            synapses=_events(
                sites.synapse_numbers(synapses["layer"], synapses["out"], synapses["in"]), synapses
            ),
            counts=np.empty((1, 0), np.int64),
            neuron_values=_valued(
                sites.neuron_numbers(set_neurons["layer"], set_neurons["unit"]),
                set_neurons,
                "value",
            ),
            synapse_weights=_valued(
                sites.synapse_numbers(
                    set_synapses["layer"], set_synapses["out"], set_synapses["in"]
                ),
                set_synapses,
                "weight",
            ),
        )

    @staticmethod
    def without_faults(widths: Sequence[int], n_presentations: int) -> "FaultBatch":
        """One trial in which nothing fails."""
        nothing = FaultSet(n_presentations=n_presentations)
        return FaultBatch.of(nothing, Sites(tuple(widths)))

    def __len__(self) -> int:
        return len(self.neurons.offsets) - 1

    def __getitem__(self, k: int) -> FaultSet:
        if not 0 <= k < len(self):
            raise IndexError(k)
        found = {}
        for name, dtype in FAULT_EVENTS.items():
            events = getattr(self, name)
            if events is None:
                continue
            a, b = events.offsets[k : k + 2]
            rows = np.empty(b - a, dtype)
            locate = self.sites.neurons if "neuron" in name else self.sites.synapses
            for column, numbers in zip(_place(dtype), locate(events.site[a:b]), strict=True):
                rows[column] = numbers
            rows["start"], rows["stop"] = events.start[a:b], events.stop[a:b]
            if isinstance(events, ValuedEvents):
                rows[(dtype.names or ())[-1]] = events.value[a:b]
            found[name] = rows
        return FaultSet(n_presentations=self.n_presentations, **found)

    def __iter__(self) -> Iterator[FaultSet]:
        return (self[k] for k in range(len(self)))
