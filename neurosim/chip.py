"""The virtual chip: cores and their crossbars, default faults, published numbers with sources."""

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from functools import partial
from importlib.resources import files
from math import prod
from os import PathLike
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

import msgspec

from neurosim.crossbar import CrossbarDevice
from neurosim.errors import FormatError, InputError, named_entry
from neurosim.faults import FaultProcess, fault_process, persistence_of
from neurosim.spiking_model import SpikingModel

__all__ = ["Chip", "Coefficients", "Quantity", "Window", "chip_profiles"]

STATUSES = {
    "verified": "read in the source itself",
    "secondary": "read in another work that cites the source",
    "unverified": "from memory; not checked against the source",
    "assumption": "a modelling choice, no measurement",
}

# How the kernels of a convolution lie on crossbars.
KERNELS = ("shared_in_time", "replicated_in_space")

# Units of the optional numbers: SI, and in the name.
_UNITS = {"_j": "J", "_s": "s", "_hz": "Hz", "_w": "W", "_v": "V"}


# Keys of [neurons]: a membrane time constant makes neurons leak.
_NEURON_KEYS = (
    "duration_s",
    "time_step_s",
    "threshold_v",
    "membrane_time_constant_s",
    "synaptic_time_constant_s",
    "refractory_s",
    "maximum_rate_hz",
)


# Keys of [energy] and [timing]: what neurosim.costs computes with.
_COST_KEYS = {
    "energy": (
        "energy_per_synaptic_operation_j",
        "energy_per_multiply_accumulate_j",
        "energy_per_spike_j",
        "static_power_w",
    ),
    "timing": ("time_per_matrix_vector_product_s",),
}
_RIVAL_ENERGIES = {"energy_per_synaptic_operation_j", "energy_per_multiply_accumulate_j"}

# Keys of [device] that are whole numbers.
_COUNTS = ("levels", "slices", "bits", "dac_bits", "adc_bits", "input_bits")


class Quantity(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A number with its unit, its source and how far it was checked.

    Parameters
    ----------
    value : int or float
    unit : str
        SI; "1" for counts and probabilities.
    source : str
        Where the number stands.
    status : str
        "verified", "secondary", "unverified" or "assumption" (`STATUSES` says what they mean).
    """

    value: int | float
    unit: str
    source: Annotated[str, msgspec.Meta(min_length=1)]
    status: str

    def __str__(self) -> str:
        unit = "" if self.unit == "1" else f" {self.unit}"
        return f"{self.value:g}{unit} [{self.status}; {self.source}]"


class Coefficients(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A polynomial of a conductance G with its source and how far it was checked.

    Parameters
    ----------
    value : tuple of float
        c_0, c_1, ... in c_0 + c_1 G + c_2 G^2 + ..., in siemens.
    unit : str
        "S^(1-k)", that of c_k.
    source, status : str
        As for a `Quantity`.
    """

    value: tuple[float, ...]
    unit: str
    source: Annotated[str, msgspec.Meta(min_length=1)]
    status: str

    def __str__(self) -> str:
        values = ", ".join(f"{value:g}" for value in self.value)
        return f"({values}) {self.unit} [{self.status}; {self.source}]"


class Window(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A half-open range of time with its source and how far it was checked.

    Parameters
    ----------
    value : (float, float)
        First and stop.
    unit : str
        "presentations" or "s".
    source, status : str
        As for a `Quantity`.
    """

    value: tuple[float, float]
    unit: str
    source: Annotated[str, msgspec.Meta(min_length=1)]
    status: str

    def __str__(self) -> str:
        first, stop = self.value
        return f"{first:g} to {stop:g} {self.unit} [{self.status}; {self.source}]"


class _About(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    name: str
    description: str


class _Geometry(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    rows: Quantity | None = None
    columns: Quantity | None = None
    cores: Quantity | None = None
    neurons: Quantity | None = None
    synapses: Quantity | None = None


class _Mapping(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    kernels: str = KERNELS[0]


class _Weights(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    levels: Quantity


class _Device(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    mapping: str
    two_sided: bool = False
    levels: Quantity | None = None
    slices: Quantity | None = None
    bits: Quantity | None = None
    g_on_s: Quantity | None = None
    g_off_s: Quantity | None = None
    g_stuck_lrs_s: Quantity | None = None
    g_stuck_hrs_s: Quantity | None = None
    programming_error: Coefficients | None = None
    programming_error_limit_s: Quantity | None = None
    read_noise: Coefficients | None = None
    drift_nu: Quantity | None = None
    drift_nu_sd: Quantity | None = None
    drift_t0_s: Quantity | None = None
    drift_time_s: Quantity | None = None
    drift_compensation: str | None = None
    dac_bits: Quantity | None = None
    adc_bits: Quantity | None = None
    input_bits: Quantity | None = None
    adc_range: Quantity | None = None


class _Fault(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    site: str
    persistence: str
    probability: Quantity | None = None
    stuck_lrs: Quantity | None = None
    stuck_hrs: Quantity | None = None
    bits: list[int] | None = None
    mean_duration: Quantity | None = None
    mean_duration_s: Quantity | None = None
    onset: Window | None = None
    onset_s: Window | None = None
    layers: list[int] | None = None
    value: Quantity | Literal["maximum"] | None = None
    length: Quantity | None = None
    along: str | None = None


class _Profile(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    chip: _About
    geometry: _Geometry = msgspec.field(default_factory=_Geometry)
    mapping: _Mapping = msgspec.field(default_factory=_Mapping)
    weights: _Weights | None = None
    device: _Device | None = None
    faults: list[_Fault] = []
    neurons: dict[str, Quantity] = {}
    energy: dict[str, Quantity] = {}
    timing: dict[str, Quantity] = {}


@dataclass(frozen=True, kw_only=True)
class Chip:
    """A virtual chip.

    Parameters
    ----------
    name, description : str
    rows, columns : int, optional
        Crossbar of one core: a row carries an input, a column drives a neuron. None: unlimited.
    cores : int, optional
        Number of cores; None: unlimited.
    faults : tuple of StuckAtZero, StuckAt, Cluster, StuckDevice and BitFlip
        The fault processes a campaign uses by default.
    weight_levels : int, optional
        Number of values a weight can take, where that is all that is known; None: any real number.
    kernels : "shared_in_time" or "replicated_in_space"
        Whether a convolution has its weights once, for all positions one after the other, or a
        copy for each position.
    device : CrossbarDevice, optional
        How weights are held; `deploy` programs them when it is given a device_seed.
    spiking : SpikingModel, optional
        How its neurons spike: what a spiking campaign uses by default.
    quantities : mapping of str to Quantity, Coefficients or Window
        Every number of the profile with its source, by its key there.

    Raises
    ------
    InputError
        If a size is not a whole number from 1 on.

    Examples
    --------
    >>> Chip.load("crossbar-256").rows
    256
    """

    name: str
    description: str = ""
    rows: int | None = None
    columns: int | None = None
    cores: int | None = None
    faults: tuple[FaultProcess, ...] = ()
    weight_levels: int | None = None
    kernels: str = "shared_in_time"
    device: CrossbarDevice | None = None
    spiking: SpikingModel | None = None
    quantities: Mapping[str, Quantity | Coefficients | Window] = field(
        default_factory=lambda: MappingProxyType({})
    )

    def __post_init__(self) -> None:
        for key, least in (("rows", 1), ("columns", 1), ("cores", 1), ("weight_levels", 2)):
            value = getattr(self, key)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InputError(
                    f"{key}: expected a whole number from {least} on, or none for unlimited, "
                    f"got {value!r}"
                )
        if self.kernels not in KERNELS:
            raise InputError(f"kernels: expected {' or '.join(KERNELS)}, got {self.kernels!r}")
        if self.device is not None and not isinstance(self.device, CrossbarDevice):
            raise InputError(f"device: expected CrossbarDevice(...), got {self.device!r}")
        object.__setattr__(self, "faults", tuple(self.faults))
        object.__setattr__(self, "quantities", MappingProxyType(dict(self.quantities)))

    def __reduce__(self) -> tuple[Any, ...]:
        # Executors send chips to workers, and a mapping proxy cannot be pickled.
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return partial(Chip, **{**values, "quantities": dict(self.quantities)}), ()

    @staticmethod
    def load(name: str | PathLike[str]) -> "Chip":
        """Read a chip by the name of its profile, or from the path of a TOML file.

        Raises
        ------
        InputError
            If there is no such profile, or a key or value in it is wrong.
        FormatError
            If the file is missing or no TOML.

        Examples
        --------
        >>> Chip.load("ideal").cores is None
        True
        """
        text = str(name)
        known = chip_profiles()
        if text in known:
            return _read(known[text])
        path = Path(text)
        if path.suffix == ".toml" or path.exists() or path.parent != Path():
            return _read(path)
        close = get_close_matches(text, known, n=1)
        mend = f"; did you mean {close[0]}?" if close else ""
        raise InputError(
            f"chip: expected the path of a .toml profile or one of {', '.join(known)}, "
            f"got {text!r}{mend}"
        )

    def __str__(self) -> str:
        rows = [f"{self.name}: {self.description}"]
        rows += [f"  {key} = {quantity}" for key, quantity in self.quantities.items()]
        rows += [] if self.device is None else [f"  device: {self.device}"]
        rows += [f"  default faults: {process}" for process in self.faults]
        return "\n".join(rows)


def chip_profiles() -> dict[str, Path]:
    """Names of the profiles that come with neurosim, with their paths.

    Examples
    --------
    >>> "ideal" in chip_profiles()
    True
    """
    return {path.stem: path for path in sorted(_folder().glob("*.toml"))}


def _folder() -> Path:
    """hw_profiles: inside an installed package, beside the package in a checkout."""
    package = Path(str(files("neurosim")))
    for folder in (package / "hw_profiles", package.parent / "hw_profiles"):
        if folder.is_dir():
            return folder
    raise FormatError(
        f"hw_profiles: expected the folder in {package} or beside it, got none; "
        "is the installation complete?"
    )


def _read(path: Path) -> Chip:
    try:
        entries = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise FormatError(f"{path}: expected a readable chip profile, got {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise FormatError(f"{path}: expected TOML, got an error: {error}") from error
    _refuse_unknown_keys(path, entries)
    try:
        profile = msgspec.convert(entries, _Profile)
        return _chip(profile)
    except msgspec.ValidationError as error:
        mend = (
            "; a number stands beside its source: "
            "{ value = ..., unit = ..., source = ..., status = ... }"
        )
        about = named_entry(str(error))
        raise InputError(f"{path}: {about}{mend if 'a table' in about else ''}") from error
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _refuse_unknown_keys(path: Path, entries: dict[str, Any]) -> None:
    """Name a misspelt key and the nearest right one, which msgspec alone does not."""
    tables: list[tuple[str, Any, type[msgspec.Struct]]] = [
        ("profile", entries, _Profile),
        ("chip", entries.get("chip"), _About),
        ("geometry", entries.get("geometry"), _Geometry),
        ("mapping", entries.get("mapping"), _Mapping),
        ("weights", entries.get("weights"), _Weights),
        ("device", entries.get("device"), _Device),
    ]
    faults = entries.get("faults")
    tables += [("faults", entry, _Fault) for entry in (faults if isinstance(faults, list) else [])]
    for place, table, shape in tables:
        for key in table if isinstance(table, dict) else ():
            if key not in shape.__struct_fields__:
                close = get_close_matches(key, shape.__struct_fields__, n=1)
                mend = f"; did you mean {close[0]}?" if close else ""
                raise InputError(
                    f"{path}: {place}: expected keys {', '.join(shape.__struct_fields__)}, "
                    f"got {key}{mend}"
                )


def _chip(profile: _Profile) -> Chip:
    quantities = dict(_quantities(profile))
    for key, quantity in quantities.items():
        if quantity.status not in STATUSES:
            raise InputError(
                f"{key}: expected status {', '.join(STATUSES)}, got {quantity.status!r}"
            )
        place, _, name = key.partition(".")
        if place in _COST_KEYS and name not in _COST_KEYS[place]:
            close = get_close_matches(name, _COST_KEYS[place], n=1)
            mend = f"; did you mean {close[0]}?" if close else ""
            raise InputError(
                f"{place}: expected keys {', '.join(_COST_KEYS[place])}, got {name}{mend}"
            )
        unit = _expected_unit(key)
        if quantity.unit != unit:
            raise InputError(f"{key}: expected unit {unit!r}, got {quantity.unit!r}")
        if place in _COST_KEYS and isinstance(quantity, Quantity) and quantity.value <= 0:
            raise InputError(f"{key}: expected a value above 0, got {quantity.value}")
    if len(_RIVAL_ENERGIES & profile.energy.keys()) == 2:
        raise InputError(
            f"energy: expected one of {' and '.join(sorted(_RIVAL_ENERGIES))}, got both; a chip "
            "computes with spikes or with matrix products, and its energy would count twice"
        )
    if profile.weights is not None and profile.device is not None:
        raise InputError(
            "weights.levels: expected none beside [device], which says how weights are held"
        )
    geometry = profile.geometry
    _check_totals(geometry)
    sizes = {key: getattr(geometry, key) for key in ("rows", "columns", "cores")}
    return Chip(
        name=profile.chip.name,
        description=profile.chip.description,
        faults=tuple(
            _process(f"faults.{number}", fault, profile)
            for number, fault in enumerate(profile.faults, start=1)
        ),
        weight_levels=None if profile.weights is None else _count(profile.weights.levels),
        kernels=profile.mapping.kernels,
        device=None if profile.device is None else _crossbar_device(profile.device),
        spiking=_spiking_model(profile.neurons) if profile.neurons else None,
        quantities=quantities,
        **{key: None if size is None else _count(size) for key, size in sizes.items()},
    )


def _check_totals(geometry: _Geometry) -> None:
    """Totals that a source states must be those of the cores."""
    for name, factors in (
        ("neurons", ("cores", "columns")),
        ("synapses", ("cores", "columns", "rows")),
    ):
        stated = getattr(geometry, name)
        if stated is None:
            continue
        parts = [getattr(geometry, key) for key in factors]
        if None in parts:
            raise InputError(
                f"geometry.{name}: expected {', '.join(factors)} beside it, got "
                f"{', '.join(key for key in factors if getattr(geometry, key)) or 'none'}"
            )
        product = prod(_count(part) for part in parts)
        if stated.value != product:
            raise InputError(
                f"geometry.{name}: expected {' x '.join(factors)} = {product}, got "
                f"{stated.value:g}; the geometry contradicts itself"
            )


def _crossbar_device(entry: _Device) -> CrossbarDevice:
    values: dict[str, Any] = {"mapping": entry.mapping, "two_sided": entry.two_sided}
    for key in _Device.__struct_fields__:
        quantity = getattr(entry, key)
        if isinstance(quantity, Quantity) and key in _COUNTS:
            values[key] = _count(quantity)
        elif isinstance(quantity, Quantity | Coefficients):
            values[key] = quantity.value
    try:
        return CrossbarDevice(**values)
    except InputError as error:
        raise InputError(f"device.{error}") from error


def _quantities(profile: _Profile) -> Iterator[tuple[str, Quantity | Coefficients | Window]]:
    """Every number of a profile, by its key."""
    for key in _Geometry.__struct_fields__:
        quantity = getattr(profile.geometry, key)
        if quantity is not None:
            yield f"geometry.{key}", quantity
    if profile.weights is not None:
        yield "weights.levels", profile.weights.levels
    for key in _Device.__struct_fields__ if profile.device is not None else ():
        quantity = getattr(profile.device, key)
        if isinstance(quantity, Quantity | Coefficients):
            yield f"device.{key}", quantity
    for number, fault in enumerate(profile.faults, start=1):
        for key in (
            "probability", "stuck_lrs", "stuck_hrs", "mean_duration", "mean_duration_s", "onset",
            "onset_s", "value", "length",
        ):  # fmt: skip
            quantity = getattr(fault, key)
            if quantity not in (None, "maximum"):
                yield f"faults.{number}.{key}", quantity
    for place in ("neurons", "energy", "timing"):
        for key, quantity in getattr(profile, place).items():
            yield f"{place}.{key}", quantity


def _expected_unit(key: str) -> str:
    if key.startswith(("neurons.", "energy.", "timing.")):
        for ending, unit in _UNITS.items():
            if key.endswith(ending):
                return unit
        raise InputError(f"{key}: expected a name that ends in {', '.join(_UNITS)}, its SI unit")
    if key.startswith("device."):
        if key in ("device.programming_error", "device.read_noise"):
            return "S^(1-k)"
        if key in ("device.drift_t0_s", "device.drift_time_s"):
            return "s"
        return "S" if key.endswith("_s") else "1"
    if key.endswith(("mean_duration_s", "onset_s")):
        return "s"
    return "presentations" if key.endswith(("mean_duration", "onset")) else "1"


def _spiking_model(neurons: Mapping[str, Quantity]) -> SpikingModel:
    for key in neurons:
        if key not in _NEURON_KEYS:
            close = get_close_matches(key, _NEURON_KEYS, n=1)
            mend = f"; did you mean {close[0]}?" if close else ""
            raise InputError(f"neurons: expected keys {', '.join(_NEURON_KEYS)}, got {key}{mend}")
    values = {key: float(quantity.value) for key, quantity in neurons.items()}
    leaks = "membrane_time_constant_s" in values
    return SpikingModel(neuron="lif" if leaks else "if", **values)  # type: ignore[arg-type]


def _count(quantity: Quantity) -> int:
    if quantity.value != int(quantity.value):
        raise InputError(
            f"geometry, weights, device, length: expected whole numbers, got {quantity.value}"
        )
    return int(quantity.value)


def _presentations(window: Window) -> tuple[int, int]:
    if any(value != int(value) for value in window.value):
        raise InputError(f"onset: expected whole numbers of presentations, got {window.value}")
    return int(window.value[0]), int(window.value[1])


def _process(key: str, fault: _Fault, profile: _Profile) -> FaultProcess:
    timed = {"duration_s"} & profile.neurons.keys() or profile.timing
    for name in ("mean_duration_s", "onset_s"):
        if getattr(fault, name) is not None and not timed:
            raise InputError(
                f"{key}.{name}: expected neurons.duration_s beside it, the time that one "
                "presentation takes on this chip, or timing.time_per_matrix_vector_product_s, got "
                f"neither; give {name.removesuffix('_s')} in presentations"
            )
    names = ("probability", "stuck_lrs", "stuck_hrs", "mean_duration", "mean_duration_s")
    given = {
        name: None if getattr(fault, name) is None else getattr(fault, name).value for name in names
    }
    return fault_process(
        fault.site,
        **{name: given[name] for name in names[:3]},
        bits=fault.bits,
        value=fault.value.value if isinstance(fault.value, Quantity) else fault.value,
        length=None if fault.length is None else _count(fault.length),
        along=fault.along,
        layers=fault.layers,
        persistence=persistence_of(
            fault.persistence,
            given["mean_duration"],
            mean_duration_s=given["mean_duration_s"],
            onset=None if fault.onset is None else _presentations(fault.onset),
            onset_s=None if fault.onset_s is None else fault.onset_s.value,
        ),
    )
