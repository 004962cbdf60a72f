"""Inference through the devices and converters of a chip, and what each non-ideality costs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

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

    @property
    def share(self) -> float:
        return self.clipped / self.total if self.total else 0.0


def crossbar_outputs(
    deployment: Deployment, inputs: npt.ArrayLike, *, off: Sequence[str] = (), read_seed: int = 0
) -> CrossbarOutputs:
    """Outputs of the chip core by core: programmed devices, read noise, DAC and ADC.

    The sum of a column is converted core by core and slice by slice; the results are added
    digitally. Read noise is drawn anew for every input.

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
    trained.require_chain("the crossbars of a chip")
    y = ideal = trained.flatten(inputs).astype(np.float64, copy=False)
    random = np.random.Generator(np.random.Philox(key=np.array([read_seed, 2**63], np.uint64)))
    dac, adc = _Count(), _Count()
    on_signals = {"read_noise", "dac", "adc"} & set(device.nonidealities)
    for number, layer in enumerate(trained.layers, start=1):
        scale = scale_of(layer.weight)
        programming, drift = deployment.device_draws(number)
        if not on_signals:
            weight = device.programmed_weights(
                layer.weight, scale, programming=programming, drift=drift
            )
            y = replace(layer, weight=weight)(y)
            continue
        digits = device.programmed_digits(layer.weight, scale, programming=programming, drift=drift)
        net = digits[0] - digits[1]
        noise = None
        if "read_noise" in device.nonidealities:
            conductance = device.programmed_conductances(
                layer.weight, scale, programming=programming, drift=drift
            )
            level = device.digits(1.0) - device.digits(0.0)  # levels of one siemens
            noise = (device.read_sigma_s(conductance) * level) ** 2
        largest = float(np.abs(ideal).max()) or 1.0
        y, inside = _converted_inputs(device, y, largest, bool((ideal < 0).any()))
        dac.clipped, dac.total = dac.clipped + int((~inside).sum()), dac.total + inside.size
        blocks = [block for block in deployment.blocks if block.layer == number]
        full = largest if device.dac_range is None else device.dac_range
        exact = (
            device.target_digits(layer.weight, scale)[0]
            - device.target_digits(layer.weight, scale)[1]
        )
        reach = (
            device.adc_range
            or max(
                float(
                    np.abs(
                        ideal[:, b.in_start : b.in_stop]
                        @ exact[k, b.out_start : b.out_stop, b.in_start : b.in_stop].T
                    ).max()
                )
                for b in blocks
                for k in range(device.slices)
            )
            / (full * device.steps)
            or 1.0
        )
        z = np.tile(layer.bias, (len(y), 1))
        for block in blocks:
            rows = slice(block.in_start, block.in_stop)
            columns = slice(block.out_start, block.out_stop)
            x = y[:, rows] / full
            for k in range(device.slices):
                sums = x @ (net[k, columns, rows].T / device.steps)
                if noise is not None:
                    for number_of_half, half in enumerate(noise[:, k, columns, rows]):
                        spread = np.sqrt(x**2 @ half.T) / device.steps
                        # All columns of a core share one reading of its offset column.
                        shared = device.mapping == "offset" and number_of_half == 1
                        shape = (len(x), 1) if shared else sums.shape
                        sums = sums + spread * random.standard_normal(shape)
                if "adc" in device.nonidealities:
                    largest_code = 2 ** ((device.adc_bits or 2) - 1) - 1
                    code = np.rint(sums / reach * largest_code)
                    adc.clipped += int((np.abs(code) > largest_code).sum())
                    adc.total += code.size
                    sums = np.clip(code, -largest_code, largest_code) * (reach / largest_code)
                worth = scale / device.span * float(device.radix**k) * device.steps * full
                z[:, columns] += worth * sums
        y = layer.activation(z)
        ideal = layer(ideal)
    return CrossbarOutputs(
        outputs=trained.read_out(y), dac_clipped=dac.share, adc_clipped=adc.share
    )


def _converted_inputs(
    device: CrossbarDevice, y: Array, largest: float, signed: bool
) -> tuple[Array, Array]:
    """Inputs as the DAC expresses them, and whether each was within its range."""
    if "dac" not in device.nonidealities or device.dac_bits is None:
        return y, np.ones(0, bool)
    reach = largest if device.dac_range is None else device.dac_range
    top = 2 ** (device.dac_bits - 1) - 1 if signed else 2**device.dac_bits - 1
    if top < 1:
        raise InputError(
            f"dac_bits: expected at least 2 for activities of both signs, got {device.dac_bits}"
        )
    code = np.rint(y / reach * top)
    low = -top if signed else 0
    inside = (code >= low) & (code <= top)
    return np.clip(code, low, top) * (reach / top), inside


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
