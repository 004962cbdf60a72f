"""What fails, where and how often: fault processes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

import numpy as np

from neurosim.errors import InputError
from neurosim.faults.persistence import (
    Intermittent,
    Permanent,
    Persistence,
    Transient,
    is_number,
    onset_window,
)

__all__ = [
    "BitFlip",
    "Cluster",
    "FaultProcess",
    "SiteKind",
    "StuckAt",
    "StuckAtZero",
    "StuckDevice",
    "fault_process",
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
        if not (is_number(self.probability) and 0 <= self.probability <= 1):
            raise InputError(
                f"probability: expected a number in [0, 1], got {self.probability!r}"
                + (
                    "; is it a percentage?"
                    if is_number(self.probability) and 1 < self.probability <= 100
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
        self._check_bursts()

    def _check_bursts(self) -> None:
        """Refuse bursts that cannot be: too short for the probability, or endless in a window."""
        if not isinstance(self.persistence, Intermittent) or self.persistence.in_seconds:
            return  # of seconds a campaign makes presentations
        if self.probability == 1 and onset_window(self.persistence) is not None:
            raise InputError(
                "probability: expected below 1 for intermittent faults with an onset window, got "
                "1; give Permanent(), or Transient() with a window"
            )
        if self.probability < 1:
            odds = self.probability / (1 - self.probability)
            if self.persistence.presentations < odds:
                raise InputError(
                    f"mean_duration: expected at least p / (1 - p) = {odds:g} presentations at "
                    f"probability {self.probability:g}, got {self.persistence.presentations:g}; "
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
        what = f"{self._state} {self._sites} of {where}"
        return f"{what}, p = {self.probability:g}, {self.persistence}"

    @property
    def kind(self) -> str:
        """One of its sites, in words: processes of one kind and layer hit the same sites."""
        return self.site

    @property
    def _sites(self) -> str:
        return _SITES[self.site][0]

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
        if not (is_number(self.value) and np.isfinite(self.value)):
            wanted = 'a finite number or "maximum"' if self.site == "neuron" else "a finite number"
            raise InputError(f"value: expected {wanted}, got {self.value!r}")
        object.__setattr__(self, "value", float(self.value))

    @property
    def _state(self) -> str:
        value = self.value if isinstance(self.value, str) else f"{self.value:g}"
        return f"stuck-at-{value}"


@dataclass(frozen=True)
class Cluster(FaultProcess):
    """Independent clusters: runs of adjacent rows, columns or crosspoints of a core, all dead.

    A cluster may start at every row, column or crosspoint of a core, and takes the next ones with
    it, up to `length` in all and none beyond the edge of the core. What two clusters hit is dead
    once. A distribution of lengths is a process for each length.

    Parameters
    ----------
    site : "row", "column" or "synapse"
        What lies side by side; crosspoints are called by what they hold.
    length : int
        How many, from 1 on.
    along : "row" or "column", optional
        For synapses, and there required: the line of the crossbar on which they lie.
    probability : float
        Per possible start, as in `StuckAtZero`. Starts from which a cluster reaches nothing in use
        do not count.
    layers, persistence
        As in `StuckAtZero`.

    Raises
    ------
    InputError
        As `StuckAtZero` does, or if the length is no whole number from 1 on, or `along` is missing
        or out of place.

    Examples
    --------
    >>> str(Cluster("column", length=3, probability=1e-4))
    'stuck-at-0 clusters of 3 columns of every layer, p = 0.0001, permanent'
    >>> str(Cluster("synapse", length=2, along="column", probability=1e-6, layers=[1]))
    'stuck-at-0 clusters of 2 synapses along columns of layer 1, p = 1e-06, permanent'
    """

    length: int = field(kw_only=True)
    along: Literal["row", "column"] | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.site not in ("row", "column", "synapse"):
            raise InputError(
                f'site: expected "row", "column" or "synapse" for a cluster, got {self.site!r}'
            )
        whole = isinstance(self.length, int | np.integer) and not isinstance(self.length, bool)
        if not (whole and self.length >= 1):
            raise InputError(f"length: expected a whole number from 1 on, got {self.length!r}")
        object.__setattr__(self, "length", int(self.length))
        allowed = ("row", "column") if self.site == "synapse" else (None,)
        if self.along not in allowed:
            spelled = '"row" or "column"' if self.site == "synapse" else "none"
            raise InputError(
                f"along: expected {spelled} for a cluster of {self.site}s, got {self.along!r}"
            )

    @property
    def kind(self) -> str:
        """One of its sites, in words."""
        wise = "" if self.along is None else f"{self.along}-wise "
        return f"{wise}{self.length}-{self.site} cluster"

    @property
    def _sites(self) -> str:
        along = "" if self.along is None else f" along {self.along}s"
        return f"clusters of {self.length} {_SITES[self.site][0]}{along}"

    @property
    def _state(self) -> str:
        return "stuck-at-0"


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
            if not (is_number(value) and 0 <= value <= 1):
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
    length: int | None = None,
    along: str | None = None,
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
        "length": length,
        "along": along,
    }
    given = {name: entry for name, entry in keys.items() if entry is not None}
    kinds: dict[str, tuple[type[FaultProcess], tuple[str, ...], tuple[str, ...]]] = {
        "device": (StuckDevice, ("stuck_lrs", "stuck_hrs"), ()),
        "bit": (BitFlip, ("probability",), ("bits",)),
    }
    plain: tuple[type[FaultProcess], tuple[str, ...], tuple[str, ...]]
    plain = (StuckAtZero, ("probability",), ("value", "length"))
    if value is not None:
        plain = (StuckAt, ("probability",), ("value",))
    elif length is not None or along is not None:
        plain = (Cluster, ("probability", "length"), ("along",))
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
