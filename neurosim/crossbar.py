"""The devices that hold the weights: conductances, their errors, and the converters around them.

A weight of a layer is scale * d / span, where scale is the largest |weight| of the layer and d a
signed number of levels, spread over slices and over a plus and a minus device:

    d = sum over slices k of radix^k * (plus_k - minus_k),   a level = (levels - 1) (G - g_off) / R

with R = g_on - g_off. Where levels are unlimited a level is (G - g_off) / R. In an offset mapping
the minus device is the one of the offset column, shared by all weights of a row of a core.
docs/crossbar.md has the formulas one by one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from neurosim.errors import InputError
from neurosim.layers import Array

__all__ = ["HALVES", "NONIDEALITIES", "CrossbarDevice", "Half", "StuckState", "scale_of"]

WeightMapping: TypeAlias = Literal["differential", "offset", "digital"]
Half: TypeAlias = Literal["plus", "minus"]
StuckState: TypeAlias = Literal["stuck_lrs", "stuck_hrs"]
DriftCompensation: TypeAlias = Literal["core", "column"]

HALVES = get_args(Half)

# In the order in which a signal meets them; the first three are in the weights.
NONIDEALITIES = ("levels", "programming", "drift", "read_noise", "dac", "adc")

_LARGEST_SPAN = 2**52  # levels of a weight are counted in float64


def scale_of(weight: Array) -> float:
    """The weight of a layer that the full range of conductance stands for: its largest |weight|.

    Examples
    --------
    >>> scale_of(np.array([[0.5, -2.0]]))
    2.0
    """
    return float(np.abs(weight).max()) or 1.0


@dataclass(frozen=True, kw_only=True)
class CrossbarDevice:
    """How a chip holds weights: mapping, conductances, their errors, converters.

    Parameters
    ----------
    mapping : "differential", "offset" or "digital"
        The difference of two devices; one device less that of an offset column; signed integers.
    two_sided : bool
        Differential only. False: one of the two devices is off. True: their sum is constant.
    levels : int, optional
        Conductances that a device can be programmed to, evenly spaced from g_off_s to g_on_s;
        None: any.
    slices : int
        Devices (pairs of them) that share the digits of a weight, in base `levels`.
    bits : int, optional
        Digital only, and there required: signed integers of so many bits.
    g_on_s, g_off_s : float
        Conductance of a device that is on (LRS) and off (HRS), in siemens; not digital.
    g_stuck_lrs_s, g_stuck_hrs_s : float, optional
        Conductance of a device stuck in LRS (shorted, say) and in HRS (open: 0); by default g_on_s
        and g_off_s.
    programming_error : sequence of float
        Standard deviation of a programmed conductance, in siemens, as a polynomial of its target G
        in siemens: c_0 + c_1 G + c_2 G^2 + ...; c_k in S^(1-k).
    programming_error_limit_s : float, optional
        The largest conductance that the polynomial holds for.
    read_noise : sequence of float
        Standard deviation of one reading of a conductance, as `programming_error`.
    drift_nu, drift_nu_sd : float
        Mean and standard deviation over devices of the exponent in G(t) = G ((t + t0) / t0)^-nu.
    drift_t0_s, drift_time_s : float
        t0 and the time t since programming, in seconds.
    drift_compensation : "core" or "column", optional
        Sums of a core, or of each of its columns, are multiplied by what its devices conducted in
        all after programming over what they conduct at time t (`drift_factors`).
    dac_bits, adc_bits : int, optional
        Resolution of the converters of a row and of a column; None: exact.
    input_bits : int, optional
        Resolution of the inputs of a row where it is applied in cycles of dac_bits each, the least
        significant first; the sums of each cycle are converted, shifted and added. None: dac_bits,
        in one cycle.
    dac_range : float, optional
        The largest |activity| that the DAC can express; None: the largest one of each layer for the
        inputs at hand.
    adc_range : float, optional
        The largest |sum of a column| that the ADC can express, where 1 is one device fully on at
        the largest input; None: the largest one of each layer for the inputs at hand.
    off : sequence of str
        Non-idealities that are switched off (`NONIDEALITIES` has their names).

    Raises
    ------
    InputError
        If a value is out of range or two values contradict each other.

    Examples
    --------
    >>> device = CrossbarDevice(levels=3, g_on_s=20e-6, g_off_s=2e-6)
    >>> device.programmed_weights(np.array([[0.4, -1.0]]), scale=1.0)
    array([[ 0.5, -1. ]])
    """

    mapping: WeightMapping = "differential"
    two_sided: bool = False
    levels: int | None = None
    slices: int = 1
    bits: int | None = None
    g_on_s: float | None = None
    g_off_s: float | None = None
    g_stuck_lrs_s: float | None = None
    g_stuck_hrs_s: float | None = None
    programming_error: Sequence[float] = ()
    programming_error_limit_s: float | None = None
    read_noise: Sequence[float] = ()
    drift_nu: float = 0.0
    drift_nu_sd: float = 0.0
    drift_t0_s: float | None = None
    drift_time_s: float | None = None
    drift_compensation: DriftCompensation | None = None
    dac_bits: int | None = None
    adc_bits: int | None = None
    input_bits: int | None = None
    dac_range: float | None = None
    adc_range: float | None = None
    off: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.mapping not in get_args(WeightMapping):
            spelled = ", ".join(f'"{name}"' for name in get_args(WeightMapping))
            raise InputError(f"mapping: expected one of {spelled}, got {self.mapping!r}")
        least = {
            "levels": 2, "slices": 1, "bits": 2, "dac_bits": 1, "adc_bits": 2, "input_bits": 1
        }  # fmt: skip
        for name, low in least.items():
            value = getattr(self, name)
            if value is not None:
                high = 2**24 if name == "levels" else 32
                object.__setattr__(self, name, _whole(name, value, low, high))
        for name in ("programming_error", "read_noise"):
            object.__setattr__(self, name, _coefficients(name, getattr(self, name)))
        unknown = [name for name in self.off if name not in NONIDEALITIES]
        if unknown:
            raise InputError(f"off: expected some of {', '.join(NONIDEALITIES)}, got {unknown[0]}")
        off = tuple(name for name in NONIDEALITIES if name in self.off)
        object.__setattr__(self, "off", off)
        for name in ("dac", "adc"):
            given = getattr(self, f"{name}_range")
            if given is not None:
                _positive(f"{name}_range", given)
                if getattr(self, f"{name}_bits") is None:
                    raise InputError(
                        f"{name}_range: expected {name}_bits beside it, got none; a converter "
                        "without a resolution is exact and has no range"
                    )
        if self.input_bits is not None and not (self.dac_bits or 99) <= self.input_bits:
            raise InputError(
                "input_bits: expected at least dac_bits, the bits that one cycle applies, got "
                f"{self.input_bits} and {self.dac_bits or 'none'}"
            )
        if self.mapping == "digital":
            self._check_digital()
        else:
            self._check_analog()

    def _check_digital(self) -> None:
        if self.bits is None:
            raise InputError('bits: expected the number of bits of a "digital" mapping, got none')
        default = {entry.name: entry.default for entry in fields(self)}
        for name in default.keys() - {"mapping", "bits", "off"}:
            if getattr(self, name) != default[name]:
                raise InputError(
                    f'{name}: expected none for a "digital" mapping, which has no conductances, '
                    f"got {getattr(self, name)!r}"
                )

    def _check_analog(self) -> None:
        if self.bits is not None:
            raise InputError(
                f'bits: expected them for a "digital" mapping only, got {self.bits} for '
                f'"{self.mapping}"; give levels, the conductances of one device'
            )
        for name in ("g_on_s", "g_off_s"):
            value = getattr(self, name)
            if value is None:
                raise InputError(
                    f'{name}: expected a conductance in siemens for a "{self.mapping}" mapping, '
                    "got none"
                )
            if not (_is_number(value) and 0 <= value < np.inf):
                raise InputError(f"{name}: expected siemens from 0 on, got {value!r}")
        if not self.g_on_s > self.g_off_s:  # type: ignore[operator]
            raise InputError(
                f"g_on_s: expected more than g_off_s = {self.g_off_s:g} S, got {self.g_on_s:g} S; "
                "are the two exchanged, or are they resistances?"
            )
        stuck = [self._stuck_conductance(state) for state in get_args(StuckState)]
        if not (all(_is_number(g) and np.isfinite(g) for g in stuck) and 0 <= stuck[1] < stuck[0]):
            raise InputError(
                "g_stuck_lrs_s, g_stuck_hrs_s: expected siemens from 0 on, the first larger, got "
                f"{stuck[0]!r} and {stuck[1]!r}"
            )
        if self.two_sided and self.mapping != "differential":
            raise InputError(f'two_sided: expected a "differential" mapping, got "{self.mapping}"')
        if self.slices > 1:
            if self.levels is None:
                raise InputError(
                    f"slices: expected levels beside them, got none for {self.slices} slices; "
                    "they are the base of the digits that the slices share"
                )
            if self.two_sided:
                raise InputError(
                    f"slices: expected 1 for a two-sided mapping, got {self.slices}; digits are "
                    "split for one-sided and offset mappings only"
                )
            if self.levels**self.slices > _LARGEST_SPAN:
                raise InputError(
                    f"slices: expected at most 2^52 values of a weight, got {self.levels} levels "
                    f"in {self.slices} slices"
                )
        if self.mapping == "offset" and self.levels == 2 and self.slices == 1:
            raise InputError(
                "levels: expected at least 3 for an offset mapping in one slice, got 2; one level "
                "stands for 0, and there is one on each side"
            )
        self._check_errors()

    def _check_errors(self) -> None:
        g_on, g_off = self._g_on, self._g_off
        limit = self.programming_error_limit_s
        if limit is not None and not (_is_number(limit) and g_on <= limit * (1 + 1e-9)):
            raise InputError(
                f"programming_error_limit_s: expected at least g_on_s = {g_on:g} S, got {limit!r}; "
                "the polynomial of the programming error is not known up there"
            )
        for name in ("programming_error", "read_noise"):
            conductance = np.linspace(g_off, g_on, 1001)
            sigma = np.polynomial.polynomial.polyval(conductance, getattr(self, name) or (0.0,))
            if sigma.min() < 0:
                where = conductance[sigma.argmin()]
                raise InputError(
                    f"{name}: expected a standard deviation from 0 on between g_off_s and g_on_s, "
                    f"got {sigma.min():g} S at {where:g} S; are the coefficients in siemens, the "
                    "constant one first?"
                )
        for name in ("drift_nu", "drift_nu_sd"):
            value = getattr(self, name)
            if not (_is_number(value) and 0 <= value < np.inf):
                raise InputError(f"{name}: expected a number from 0 on, got {value!r}")
        drifts = self.drift_nu > 0 or self.drift_nu_sd > 0
        kinds = get_args(DriftCompensation)
        if self.drift_compensation is not None and not (
            drifts and self.drift_compensation in kinds
        ):
            raise InputError(
                f"drift_compensation: expected {' or '.join(kinds)} where drift_nu or drift_nu_sd "
                f"is above 0 and none elsewhere, got {self.drift_compensation!r}"
            )
        for name in ("drift_t0_s", "drift_time_s"):
            value = getattr(self, name)
            if drifts != (value is not None):
                raise InputError(
                    f"{name}: expected seconds where drift_nu or drift_nu_sd is above 0 and none "
                    f"elsewhere, got {value!r}"
                )
            if value is not None and name == "drift_t0_s":
                _positive(name, value)
            elif value is not None and not (_is_number(value) and 0 <= value < np.inf):
                raise InputError(f"{name}: expected seconds from 0 on, got {value!r}")

    @property
    def _g_on(self) -> float:
        return float(self.g_on_s or 0.0)

    @property
    def _g_off(self) -> float:
        return float(self.g_off_s or 0.0)

    @property
    def radix(self) -> int:
        """What a digit of a slice is worth in digits of the slice below."""
        return self.levels or 1

    @property
    def steps(self) -> int:
        """The largest digit of a device: levels - 1; 1 where levels are unlimited."""
        return 1 if self.levels is None else self.levels - 1

    @property
    def _middle(self) -> float:
        """Digits that stand for weight 0 in an offset mapping."""
        return 0.5 if self.levels is None else float(self.levels**self.slices // 2)

    @property
    def span(self) -> float:
        """Digits that stand for the largest weight."""
        if self.mapping == "digital":
            return float(2 ** ((self.bits or 2) - 1) - 1)
        total = 1 if self.levels is None else self.levels**self.slices - 1
        return total - self._middle if self.mapping == "offset" else float(total)

    @property
    def nonidealities(self) -> tuple[str, ...]:
        """What makes this device other than ideal, without what is switched off."""
        present = {
            "levels": self.levels is not None or self.bits is not None,
            "programming": any(self.programming_error),
            "drift": self.drift_time_s is not None and self.drift_time_s > 0,
            "read_noise": any(self.read_noise),
            "dac": self.dac_bits is not None,
            "adc": self.adc_bits is not None,
        }
        return tuple(name for name in NONIDEALITIES if present[name] and name not in self.off)

    def without(self, *names: str) -> "CrossbarDevice":
        """The same device with some non-idealities switched off.

        Examples
        --------
        >>> CrossbarDevice(mapping="digital", bits=4).without("levels").nonidealities
        ()
        """
        return replace(self, off=(*self.off, *names))

    def only(self, *names: str) -> "CrossbarDevice":
        """The same device with all non-idealities but these switched off."""
        unknown = [name for name in names if name not in NONIDEALITIES]
        if unknown:
            raise InputError(
                f"names: expected some of {', '.join(NONIDEALITIES)}, got {unknown[0]}"
            )
        return replace(self, off=tuple(name for name in NONIDEALITIES if name not in names))

    def target_digits(self, weight: npt.ArrayLike, scale: float) -> Array:
        """Levels to which the devices of weights are programmed.

        Parameters
        ----------
        weight : array_like, any shape, at most `scale` in absolute value
        scale : float
            The weight that `span` stands for (`scale_of` the layer).

        Returns
        -------
        ndarray, shape (2, slices, *weight.shape)
            Plus and minus devices; slice 0 is the least significant.

        Raises
        ------
        InputError
            If a weight is beyond the scale.

        Examples
        --------
        >>> device = CrossbarDevice(levels=4, slices=2, g_on_s=1e-4, g_off_s=1e-6)
        >>> device.target_digits([-7.0], scale=15.0)[:, :, 0]
        array([[0., 0.],
               [3., 1.]])
        """
        weight = np.asarray(weight, np.float64)
        if weight.size and not np.abs(weight).max() <= scale:
            raise InputError(
                f"weight: expected at most the scale {scale:g} in absolute value, got "
                f"{np.abs(weight).max():g}; the scale belongs to the layer of the weights"
            )
        exact = self.levels is None and self.bits is None
        rounded = (lambda number: number) if exact else np.rint
        if self.two_sided:
            half = weight / scale * (self.span / 2)
            pair = [rounded(self.span / 2 + half), rounded(self.span / 2 - half)]
            return np.stack(pair)[:, None]
        d = rounded(weight / scale * self.span)
        if self.mapping == "offset":
            plus, minus = self._middle + d, np.full_like(d, self._middle)
        else:
            plus, minus = np.maximum(d, 0), np.maximum(-d, 0)
        return np.stack([self._slices_of(plus), self._slices_of(minus)])

    def _slices_of(self, number: Array) -> Array:
        if self.slices == 1:
            return number[None]
        digits = []
        for _ in range(self.slices):
            number, digit = np.divmod(number, self.radix)
            digits.append(digit)
        return np.stack(digits)

    def conductances(self, weight: npt.ArrayLike, scale: float) -> Array:
        """Conductances in siemens to which the devices of weights are programmed.

        Parameters and shape as `target_digits`.

        Raises
        ------
        InputError
            If the mapping is digital, or a weight is beyond the scale.

        Examples
        --------
        >>> device = CrossbarDevice(g_on_s=10e-6, g_off_s=2e-6)
        >>> 1e6 * device.conductances([0.5], scale=1.0)[:, 0, 0]
        array([6., 2.])
        """
        self._check_conductive()
        level = (self._g_on - self._g_off) / self.steps
        return self._g_off + level * self.target_digits(weight, scale)

    def digits(self, conductance: npt.ArrayLike) -> Array:
        """Levels, not rounded, that conductances of any shape stand for."""
        self._check_conductive()
        ratio = (np.asarray(conductance, np.float64) - self._g_off) / (self._g_on - self._g_off)
        return self.steps * ratio

    def weights(self, digits: npt.ArrayLike, scale: float) -> Array:
        """Weights, shape (...), that devices with digits of shape (2, slices, ...) stand for.

        Examples
        --------
        >>> device = CrossbarDevice(g_on_s=10e-6, g_off_s=2e-6)
        >>> device.weights(device.digits([[[5e-6]], [[7e-6]]]), scale=1.0)
        array([-0.25])
        """
        digits = np.asarray(digits, np.float64)
        net = digits[0] - digits[1]
        total = net[0]
        for number in range(1, self.slices):
            total = total + float(self.radix**number) * net[number]
        return scale * (total / self.span)

    def programmed_conductances(
        self,
        weight: npt.ArrayLike,
        scale: float,
        *,
        programming: npt.ArrayLike = 0.0,
        drift: npt.ArrayLike = 0.0,
    ) -> Array:
        """Conductances as they are after programming and drift, without what is switched off.

        Parameters
        ----------
        weight, scale
            As in `target_digits`.
        programming, drift : array_like, shape (2, slices, *weight.shape)
            Standard normal numbers, one a device: its programming error and its exponent of drift.
            0 stands for a device without error and with the mean exponent.

        Returns
        -------
        ndarray, shape (2, slices, *weight.shape), siemens
            A conductance that an error would make negative is 0.
        """
        conductance = self.conductances(weight, scale)
        if "programming" in self.nonidealities:
            sigma = self.programming_sigma_s(conductance)
            conductance = np.maximum(conductance + sigma * np.asarray(programming), 0.0)
        if "drift" in self.nonidealities and self.drift_t0_s and self.drift_time_s:
            nu = self.drift_nu + self.drift_nu_sd * np.asarray(drift)
            conductance = conductance * (1 + self.drift_time_s / self.drift_t0_s) ** -nu
        return conductance

    def programming_sigma_s(self, conductance: npt.ArrayLike) -> Array:
        """Standard deviation in siemens of devices programmed to these conductances."""
        return _sigma(self.programming_error, conductance)

    def read_sigma_s(self, conductance: npt.ArrayLike) -> Array:
        """Standard deviation in siemens of one reading of devices at these conductances."""
        return _sigma(self.read_noise, conductance)

    def programmed_digits(
        self,
        weight: npt.ArrayLike,
        scale: float,
        *,
        programming: npt.ArrayLike = 0.0,
        drift: npt.ArrayLike = 0.0,
        compensation: npt.ArrayLike = 1.0,
    ) -> Array:
        """What `weights` turns into the weights that the chip computes with.

        Parameters as `programmed_conductances`, and `compensation`, by what sums are multiplied
        (`drift_factors`). With "levels" switched off, the part of a weight that its levels round
        away stays in the plus device of slice 0.
        """
        digits = target = self.target_digits(weight, scale)
        if {"programming", "drift"} & set(self.nonidealities):
            digits = np.asarray(compensation) * self.digits(
                self.programmed_conductances(weight, scale, programming=programming, drift=drift)
            )
        if "levels" in self.off:
            lost = np.asarray(weight, np.float64) - self.weights(target, scale)
            digits = digits.copy()
            digits[0, 0] += lost * (self.span / scale)
        return digits

    def drift_factors(
        self,
        weight: npt.ArrayLike,
        scale: float,
        where: npt.ArrayLike,
        *,
        programming: npt.ArrayLike = 0.0,
        drift: npt.ArrayLike = 0.0,
    ) -> Array:
        """What `drift_compensation` multiplies the sums with, for each weight; 1 without it.

        The conductances of all devices that are read together (of an offset mapping without those
        of the offset column), as they are after programming over what they are at time t.

        Parameters
        ----------
        weight, scale, programming, drift
            As in `programmed_conductances`.
        where : array_like of int, shape of weight
            The number of the core, or of the column, that holds each weight.

        References
        ----------
        M. Le Gallo et al., Adv. Electron. Mater. 4 (2018) 1700627.

        Examples
        --------
        Devices that drift alike are restored:

        >>> device = CrossbarDevice(g_on_s=2e-5, g_off_s=0.0, drift_nu=0.05, drift_t0_s=20.0,
        ...                         drift_time_s=3600.0, drift_compensation="core")
        >>> weight = np.array([0.5, -1.0])
        >>> factors = device.drift_factors(weight, 1.0, [0, 0])
        >>> factors * device.programmed_weights(weight, 1.0)
        array([ 0.5, -1. ])
        """
        weight = np.asarray(weight, np.float64)
        if self.drift_compensation is None or "drift" not in self.nonidealities:
            return np.ones(weight.shape)
        draws = {"programming": programming, "drift": drift}
        groups = np.unique(np.asarray(where), return_inverse=True)[1].ravel()
        currents = []
        for device in (self.without("drift"), self):
            g = device.programmed_conductances(weight, scale, **draws)
            each = g[0] if self.mapping == "offset" else g[0] + g[1]
            currents.append(np.bincount(groups, weights=each.sum(axis=0).ravel()))
        factors = np.ones(len(currents[0]))  # of a core that conducts nothing
        np.divide(currents[0], currents[1], out=factors, where=currents[1] > 0)
        return factors[groups].reshape(weight.shape)

    def programmed_weights(
        self,
        weight: npt.ArrayLike,
        scale: float,
        *,
        programming: npt.ArrayLike = 0.0,
        drift: npt.ArrayLike = 0.0,
        compensation: npt.ArrayLike = 1.0,
    ) -> Array:
        """Weights that the chip computes with, (...): levels, programming error, drift.

        Parameters as `programmed_digits`. With all three switched off, or none of them in
        the device, the weights are returned bit for bit.
        """
        if not {"levels", "programming", "drift"} & set(self.nonidealities):
            return np.array(weight, np.float64)
        digits = self.programmed_digits(
            weight, scale, programming=programming, drift=drift, compensation=compensation
        )
        return self.weights(digits, scale)

    def stuck_weight(
        self,
        weight: npt.ArrayLike,
        scale: float,
        *,
        half: Half,
        state: StuckState,
        slice_number: int = 0,
        digits: Array | None = None,
        compensation: npt.ArrayLike = 1.0,
    ) -> Array:
        """Weights, one device of each of which is stuck.

        Parameters
        ----------
        weight, scale
            As in `target_digits`.
        half : "plus" or "minus"
            Which device of the pair; in an offset mapping "minus" is the device of the offset
            column, which all weights of the row of a core share.
        state : "stuck_lrs" or "stuck_hrs"
            Stuck at g_stuck_lrs_s or at g_stuck_hrs_s.
        slice_number : int
            0 is the least significant slice.
        digits : ndarray, shape (2, slices, *weight.shape), optional
            The devices as they are (`programmed_digits`); by default those without errors.
        compensation : array_like, shape of weight
            By what sums are multiplied (`drift_factors`), the stuck device with them.

        Returns
        -------
        ndarray, shape of weight

        Raises
        ------
        InputError
            If there is no such device.

        Examples
        --------
        A half that is stuck at HRS takes its part of the weight away; where that half was off
        already, nothing changes:

        >>> device = CrossbarDevice(g_on_s=20e-6, g_off_s=2e-6)
        >>> device.stuck_weight([0.5, -0.5], 1.0, half="plus", state="stuck_hrs")
        array([ 0. , -0.5])
        >>> device.stuck_weight([0.5, -0.5], 1.0, half="plus", state="stuck_lrs")
        array([1. , 0.5])

        An open device is no zero weight unless the on/off ratio is infinite:

        >>> open_ = replace(device, g_stuck_hrs_s=0.0)
        >>> open_.stuck_weight([0.0, 0.5], 1.0, half="plus", state="stuck_hrs").round(3)
        array([-0.111, -0.111])
        """
        self._check_conductive()
        for name, value, allowed in (
            ("half", half, HALVES),
            ("state", state, get_args(StuckState)),
        ):
            if value not in allowed:
                raise InputError(f"{name}: expected {' or '.join(allowed)}, got {value!r}")
        if not 0 <= slice_number < self.slices:
            raise InputError(f"slice_number: expected 0 to {self.slices - 1}, got {slice_number}")
        held = self.programmed_digits(weight, scale) if digits is None else digits
        held = np.array(held, np.float64)
        stuck = self.digits(self._stuck_conductance(state))
        held[HALVES.index(half), slice_number] = np.asarray(compensation) * stuck
        return self.weights(held, scale)

    def flipped_weight(self, weight: npt.ArrayLike, scale: float, *, bit: int) -> Array:
        """Weights of a digital core after one bit of each has flipped.

        Parameters
        ----------
        weight, scale
            As in `target_digits`.
        bit : int
            0 is the least significant, bits - 1 the sign of the two's complement.

        Raises
        ------
        InputError
            If the mapping is not digital or there is no such bit.

        Examples
        --------
        >>> CrossbarDevice(mapping="digital", bits=3).flipped_weight([1.0, 0.0], 3.0, bit=2)
        array([-3., -4.])
        """
        if self.mapping != "digital" or self.bits is None:
            raise InputError(
                f'mapping: expected "digital" for bits that flip, got "{self.mapping}"; '
                "devices get stuck instead"
            )
        if not 0 <= bit < self.bits:
            raise InputError(f"bit: expected 0 to {self.bits - 1}, got {bit}")
        held = self.target_digits(weight, scale)
        code = (held[0, 0] - held[1, 0]).astype(np.int64) & (2**self.bits - 1)
        code ^= 1 << bit
        value = np.where(code >> (self.bits - 1), code - 2**self.bits, code)
        return scale * (value / self.span)

    def _stuck_conductance(self, state: StuckState) -> float:
        given = self.g_stuck_lrs_s if state == "stuck_lrs" else self.g_stuck_hrs_s
        return (self._g_on if state == "stuck_lrs" else self._g_off) if given is None else given

    def _check_conductive(self) -> None:
        if self.mapping == "digital":
            raise InputError(
                'mapping: expected "differential" or "offset" for conductances, got "digital"'
            )

    def __str__(self) -> str:
        if self.mapping == "digital":
            parts = [f"digital, {self.bits} bits"]
        else:
            kind: str = self.mapping
            if kind == "differential":
                kind += ", two-sided" if self.two_sided else ", one-sided"
            levels = "any conductance" if self.levels is None else f"{self.levels} levels"
            ratio = f"{self._g_on / self._g_off:.3g}" if self._g_off else "infinite"
            parts = [kind, f"{levels} from {self._g_off:g} to {self._g_on:g} S (on/off {ratio})"]
            if self.slices > 1:
                parts.append(f"{self.slices} slices")
            parts += [
                name.replace("_", " ")
                for name in ("programming", "drift", "read_noise")
                if name in self.nonidealities
            ]
            if self.drift_compensation is not None:
                parts.append(f"compensated by {self.drift_compensation}")
            parts += [
                f"{name.upper()} {getattr(self, f'{name}_bits')} bits"
                for name in ("dac", "adc")
                if name in self.nonidealities
            ]
            if self.input_bits is not None:
                parts.append(f"inputs of {self.input_bits} bits in cycles")
        if self.off:
            parts.append(f"switched off: {', '.join(self.off)}")
        return ", ".join(parts)


def _sigma(coefficients: Sequence[float], conductance: npt.ArrayLike) -> Array:
    conductance = np.asarray(conductance, np.float64)
    if not coefficients:
        return np.zeros_like(conductance)
    # Beyond the range of conductances, where errors carry devices, a fit may turn negative.
    return np.maximum(np.polynomial.polynomial.polyval(conductance, coefficients), 0.0)


def _coefficients(name: str, values: Sequence[float]) -> tuple[float, ...]:
    try:
        array = np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name}: expected a list of coefficients, got {values!r}") from error
    if array.ndim != 1 or not np.isfinite(array).all():
        raise InputError(f"{name}: expected a list of finite coefficients, got {values!r}")
    return tuple(float(value) for value in array)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def _positive(name: str, value: object) -> None:
    if not (_is_number(value) and 0 < value < np.inf):  # type: ignore[operator]
        raise InputError(f"{name}: expected a finite number above 0, got {value!r}")


def _whole(name: str, value: object, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise InputError(f"{name}: expected a whole number, got {value!r}")
    if not low <= value <= high:
        raise InputError(f"{name}: expected a whole number from {low} to {high}, got {value}")
    return int(value)
