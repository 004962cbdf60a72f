"""Inference through the devices and converters of a chip, and what each non-ideality costs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from neurosim.blocks import seen_by
from neurosim.crossbar import NONIDEALITIES, CrossbarDevice, scale_of
from neurosim.deployment import Deployment
from neurosim.errors import InputError
from neurosim.layers import Array

__all__ = ["CrossbarOutputs", "NonIdealities", "NonIdeality", "crossbar_outputs", "nonidealities"]


@dataclass(frozen=True, kw_only=True, eq=False)
class CrossbarOutputs:
    """What the crossbars of a chip make of inputs.

    Parameters
    ----------
    outputs : ndarray, shape (n_inputs, n_outputs)
    dac_clipped, adc_clipped : float
        Share of the conversions that were beyond the range of the converter; 0 where there is none.
    """

    outputs: Array
    dac_clipped: float
    adc_clipped: float


@dataclass
class _Count:
    clipped: int = 0
    total: int = 0

    def add(self, clipped: Array) -> None:
        self.clipped += int(clipped.sum())
        self.total += clipped.size

    @property
    def share(self) -> float:
        return self.clipped / self.total if self.total else 0.0


def crossbar_outputs(
    deployment: Deployment, inputs: npt.ArrayLike, *, off: Sequence[str] = (), read_seed: int = 0
) -> CrossbarOutputs:
    """Outputs of the chip core by core: programmed devices, read noise, DAC and ADC.

    The sum of a column is converted core by core, slice by slice and, where inputs are applied
    in cycles, cycle by cycle; the results are shifted and added digitally. Read noise is drawn
    anew for every reading.

    Parameters
    ----------
    deployment : Deployment
        Of a chip with a device, with a device_seed.
    inputs : array_like, shape (n_inputs, *input_shape)
    off : sequence of str
        Non-idealities to switch off.
    read_seed : int
        Of the read noise.

    Raises
    ------
    InputError
        If there is no device or no device_seed, or a name in `off` is unknown.

    Examples
    --------
    >>> import neurosim as ns
    >>> network = ns.Network.dense(weights=[[[1.0, 0.4]]], biases=[[0]], activations=["identity"])
    >>> device = ns.CrossbarDevice(levels=2, g_on_s=2e-5, g_off_s=0.0, adc_bits=8, adc_range=1.0)
    >>> deployment = ns.deploy(network, ns.Chip(name="mine", device=device), device_seed=1)
    >>> result = crossbar_outputs(deployment, [[2.0, 1.0]])
    >>> result.outputs, result.adc_clipped
    (array([[2.]]), 0.0)
    """
    device = deployment.chip.device
    if device is None or deployment.device_seed is None:
        raise InputError(
            "deployment: expected one of a chip with a device and with a device_seed, got "
            f"{'no device' if device is None else 'no device_seed; deploy(..., device_seed=0)'}"
        )
    device = device.without(*off)
    trained = deployment.trained
    graph = trained.graph
    start = graph.shaped(trained.flatten(inputs).astype(np.float64, copy=False))
    y, ideal = [start], [start]
    random = np.random.Generator(np.random.Philox(key=np.array([read_seed, 2**63], np.uint64)))
    dac, adc = _Count(), _Count()
    on_signals = {"read_noise", "dac", "adc"} & set(device.nonidealities)
    for number, node in enumerate(graph.nodes, start=1):
        sources, wanted = [y[k] for k in node.sources], [ideal[k] for k in node.sources]
        ideal.append(node.layer(*wanted))
        if number not in graph.weighted:
            y.append(node.layer(*sources))
            continue
        crossbars = _Crossbars(deployment, device, graph.weighted.index(number))
        layer = crossbars.layer
        if not on_signals:
            y.append(replace(layer, weight=crossbars.weight)(sources[0]))
            continue
        z = crossbars.sums(sources[0], wanted[0], random, dac, adc)
        y.append(layer.activation(z.reshape(len(z), *graph.shapes[number])))
    return CrossbarOutputs(
        outputs=trained.read_out(y[-1].reshape(len(y[-1]), -1)),
        dac_clipped=dac.share,
        adc_clipped=adc.share,
    )


# What a cycle of the inputs is worth, and the signals of the rows in it, from -1 to 1.
_Cycle: TypeAlias = tuple[float, Array]


class _Crossbars:
    """The cores of one layer.

    Parameters
    ----------
    deployment : Deployment
    device : CrossbarDevice
        That of the chip, with something switched off.
    number : int
        Of the layer.
    """

    def __init__(self, deployment: Deployment, device: CrossbarDevice, number: int) -> None:
        self._deployment, self._device = deployment, device
        self.layer = deployment.trained.layers[number - 1]
        self._blocks = [block for block in deployment.blocks if block.layer == number]
        self._scale = scale_of(self.layer.weight)
        self._errors = deployment.device_errors(number, device)

    @property
    def weight(self) -> Array:
        """The weights that the devices hold."""
        return self._device.programmed_weights(self.layer.weight, self._scale, **self._errors)

    def _matrices(self, values: Array) -> Array:
        """Values of devices, (..., *weight.shape), as matrices, (..., n_out, n_in)."""
        lead = values.shape[: values.ndim - self.layer.weight.ndim]
        return values.reshape(*lead, *self.layer.matrix_shape)

    def sums(
        self, y: Array, ideal: Array, random: np.random.Generator, dac: _Count, adc: _Count
    ) -> Array:
        """Pre-activations, (n_inputs, channels, positions); ideal: inputs without any error."""
        device, layer = self._device, self.layer
        factors = self._matrices(self._errors["compensation"])
        digits = device.programmed_digits(layer.weight, self._scale, **self._errors)
        # Sums are multiplied by the factors after their conversion.
        net = self._matrices(digits[0] - digits[1]) / factors
        noise = self._noise()
        largest = float(np.abs(ideal).max()) or 1.0
        full = largest if device.dac_range is None else device.dac_range
        signed = bool((ideal < 0).any())
        cycles, inside = _cycles(device, y, full, signed)
        dac.add(~inside)
        reach = device.adc_range or self._largest_sum(_cycles(device, ideal, full, signed)[0])
        seen = [(worth, seen_by(layer, x)) for worth, x in cycles]
        z = np.zeros((len(y), len(layer.weight), seen[0][1].shape[3])) + layer.bias[:, None]
        for block in self._blocks:
            rows = slice(block.in_start, block.in_stop)
            for piece, k in product(self._deployment.pieces(block), range(device.slices)):
                weights = net[k, piece.channels, rows] / device.steps
                factor = factors[piece.channels, rows][:, :1]
                for worth, signals in seen:
                    x = signals[:, piece.group, rows, piece.positions]
                    sums = weights @ x
                    for half, variance in enumerate(noise[:, k, piece.channels, rows]):
                        spread = np.sqrt(variance @ x**2) / device.steps
                        # All columns of a core share one reading of its offset column.
                        shared = device.mapping == "offset" and half == 1
                        shape = (len(x), 1, x.shape[2]) if shared else sums.shape
                        sums = sums + spread * random.standard_normal(shape)
                    if "adc" in device.nonidealities:
                        top = 2 ** ((device.adc_bits or 2) - 1) - 1
                        code = np.rint(sums / reach * top)
                        adc.add(np.abs(code) > top)
                        sums = np.clip(code, -top, top) * (reach / top)
                    of_slice = self._scale / device.span * float(device.radix**k) * device.steps
                    z[:, piece.channels, piece.positions] += of_slice * worth * (factor * sums)
        return z

    def _noise(self) -> Array:
        """Variances of readings of the devices, in levels: (2, slices, n_out, n_in), or none."""
        device = self._device
        if "read_noise" not in device.nonidealities:
            return np.zeros((0, device.slices, *self.layer.matrix_shape))
        draws = {name: self._errors[name] for name in ("programming", "drift")}
        conductance = device.programmed_conductances(self.layer.weight, self._scale, **draws)
        level = device.digits(1.0) - device.digits(0.0)  # levels of one siemens
        return self._matrices((device.read_sigma_s(conductance) * level) ** 2)

    def _largest_sum(self, cycles: list[_Cycle]) -> float:
        """The largest |sum| without errors, in devices fully on at the largest input."""
        device, found = self._device, 0.0
        if "adc" not in device.nonidealities:
            return 1.0
        digits = device.target_digits(self.layer.weight, self._scale)
        net = self._matrices(digits[0] - digits[1]) / device.steps
        for _, x in cycles:
            seen = seen_by(self.layer, x)
            for block in self._blocks:
                rows = slice(block.in_start, block.in_stop)
                for piece in self._deployment.pieces(block):
                    here = seen[:, None, piece.group, rows, piece.positions]
                    sums = net[:, piece.channels, rows] @ here
                    found = max(found, float(np.abs(sums).max()))
        return found or 1.0


def _cycles(
    device: CrossbarDevice, y: Array, full: float, signed: bool
) -> tuple[list[_Cycle], Array]:
    """Inputs as the DAC applies them, cycle by cycle, and which of them were within its range.

    Of signed inputs the magnitude is applied, with the sign in each cycle.
    """
    converts = "dac" in device.nonidealities
    bits = device.input_bits or device.dac_bits
    if bits is None or not (converts or device.input_bits):
        return [(full, y / full)], np.ones(0, bool)
    top = 2 ** (bits - 1) - 1 if signed else 2**bits - 1
    if top < 1:
        raise InputError(
            f"dac_bits: expected at least 2 for activities of both signs, got {device.dac_bits}"
        )
    code, inside = y / full * top, np.ones(0, bool)
    if converts:
        code = np.rint(code)
        low = -top if signed else 0
        inside = (code >= low) & (code <= top)
        code = np.clip(code, low, top)
    if device.input_bits is None or device.dac_bits is None:
        return [(full, code / top)], inside
    radix, n_cycles = 2**device.dac_bits, -(-(bits - signed) // device.dac_bits)
    rest, sign = np.abs(code), np.sign(code)
    found = []
    for cycle in range(n_cycles):
        # The last one holds what is beyond the range, too.
        above = np.floor(rest / radix) if cycle + 1 < n_cycles else np.zeros(1)
        digit = rest - radix * above
        found.append((full / top * radix**cycle * (radix - 1), sign * digit / (radix - 1)))
        rest = above
    return found, inside


@dataclass(frozen=True, kw_only=True)
class NonIdeality:
    """What one non-ideality, or all of them, costs before any fault.

    Parameters
    ----------
    name : str
        One of `NONIDEALITIES`, or "all".
    error : float
        Root mean square difference from the outputs of the trained network, over inputs, outputs
        and chips.
    largest_error : float
        The largest |difference|.
    score, score_sd : float or None
        Mean and standard deviation over chips of the accuracy (targets are classes) or of the mean
        squared error (targets are wanted outputs).
    dac_clipped, adc_clipped : float
        Share of conversions beyond the range of the converter.
    """

    name: str
    error: float
    largest_error: float
    score: float | None
    score_sd: float | None
    dac_clipped: float
    adc_clipped: float


@dataclass(frozen=True, kw_only=True)
class NonIdealities:
    """The cost of each non-ideality alone and of all together; see `nonidealities`.

    Parameters
    ----------
    chip : str
    chips : int
        How many chips, each with devices of its own, were averaged over.
    measure : "accuracy", "mean squared error" or None
        What the scores are.
    ideal : float or None
        Score of the trained network.
    parts : tuple of NonIdeality
        In the order of `NONIDEALITIES`, "all" last.
    """

    chip: str
    chips: int
    measure: str | None
    ideal: float | None
    parts: tuple[NonIdeality, ...]

    def __getitem__(self, name: str) -> NonIdeality:
        for part in self.parts:
            if part.name == name:
                return part
        raise InputError(
            f"name: expected one of {', '.join(part.name for part in self.parts)}, got {name!r}"
        )

    def __str__(self) -> str:
        many = "1 chip" if self.chips == 1 else f"{self.chips} chips"
        head = f"{'':14}{'rms error':>11}{'largest':>11}"
        lines = [f"non-idealities of {self.chip} alone, without faults, {many}"]
        if self.ideal is not None:
            lines[0] += f"; {self.measure} {self.ideal:.4g} where all is ideal"
            head += f"  {self.measure}"
        lines.append(head)
        for part in self.parts:
            line = f"  {part.name.replace('_', ' '):12}{part.error:11.4g}{part.largest_error:11.4g}"
            if part.score is not None:
                line += f"  {part.score:.4g}"
                line += f" +- {part.score_sd:.2g}" if self.chips > 1 else ""
            for name in ("dac", "adc"):
                share = getattr(part, f"{name}_clipped")
                line += f"  {name.upper()} clips {share:.3%}" if share else ""
            lines.append(line)
        return "\n".join(lines)


def nonidealities(
    deployment: Deployment,
    inputs: npt.ArrayLike,
    targets: npt.ArrayLike | None = None,
    *,
    chips: int = 1,
) -> NonIdealities:
    """The error, or the loss of accuracy, that each non-ideality alone makes before any fault.

    Parameters
    ----------
    deployment : Deployment
        Of a chip with a device. Without a device_seed the first chip is number 0.
    inputs : array_like, shape (n_inputs, *input_shape)
    targets : array_like, optional
        Class numbers (n_inputs,) or wanted outputs (n_inputs, n_outputs).
    chips : int
        Average over so many chips: device_seed, device_seed + 1, ...

    Raises
    ------
    InputError
        If the chip has no device, or the targets do not fit.

    Examples
    --------
    >>> import neurosim as ns
    >>> network = ns.Network.dense(weights=[[[1.0, 0.4]]], biases=[[0]], activations=["identity"])
    >>> chip = ns.Chip(name="mine", device=ns.CrossbarDevice(mapping="digital", bits=2))
    >>> print(nonidealities(ns.deploy(network, chip), [[1.0, 1.0]]))
    non-idealities of mine alone, without faults, 1 chip
                    rms error    largest
      levels              0.4        0.4
      all                 0.4        0.4
    """
    device = deployment.chip.device
    if device is None:
        raise InputError(
            f"deployment: expected a chip with a device, got {deployment.chip.name}, which has "
            "none; give its profile a [device] table"
        )
    if isinstance(chips, bool) or not isinstance(chips, int) or chips < 1:
        raise InputError(f"chips: expected a whole number from 1 on, got {chips!r}")
    golden = deployment.trained(inputs)
    wanted = None if targets is None else _checked_targets(targets, golden)
    names = device.nonidealities
    first = deployment.device_seed or 0
    parts = []
    for name in (*names, "all"):
        off = () if name == "all" else [other for other in NONIDEALITIES if other != name]
        found = [
            crossbar_outputs(
                replace(deployment, device_seed=first + k), inputs, off=off, read_seed=first + k
            )
            for k in range(chips)
        ]
        errors = np.array([result.outputs - golden for result in found])
        scores = None if wanted is None else [_score(result.outputs, wanted) for result in found]
        parts.append(
            NonIdeality(
                name=name,
                error=float(np.sqrt(np.mean(errors**2))),
                largest_error=float(np.abs(errors).max()),
                score=None if scores is None else float(np.mean(scores)),
                score_sd=None if scores is None else _spread(scores),
                dac_clipped=float(np.mean([result.dac_clipped for result in found])),
                adc_clipped=float(np.mean([result.adc_clipped for result in found])),
            )
        )
    measure = None if wanted is None else ("accuracy", "mean squared error")[wanted.ndim - 1]
    return NonIdealities(
        chip=deployment.chip.name,
        chips=chips,
        measure=measure,
        ideal=None if wanted is None else _score(golden, wanted),
        parts=tuple(parts),
    )


def _checked_targets(targets: npt.ArrayLike, golden: Array) -> Array:
    wanted = np.asarray(targets)
    classes = wanted.shape == golden.shape[:1] and wanted.dtype.kind in "iu"
    if classes and wanted.min() >= 0 and wanted.max() < golden.shape[1]:
        return wanted
    if wanted.shape == golden.shape and wanted.dtype.kind in "fiub" and np.isfinite(wanted).all():
        return wanted.astype(np.float64)
    raise InputError(
        f"targets: expected class numbers from 0 to {golden.shape[1] - 1} of shape "
        f"{golden.shape[:1]}, or finite wanted outputs of shape {golden.shape}, got "
        f"{wanted.dtype} of shape {wanted.shape}"
    )


def _spread(scores: list[float]) -> float:
    """Standard deviation; exactly 0 where all are the same."""
    return 0.0 if len(set(scores)) == 1 else float(np.std(scores, ddof=1))


def _score(outputs: Array, wanted: Array) -> float:
    if wanted.ndim == 1:
        return float((outputs.argmax(axis=1) == wanted).mean())
    return float(((outputs - wanted) ** 2).mean())
