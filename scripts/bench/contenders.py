"""Ways to compute the errors of given fault sets: neurosim and its peers, checked before timed.

Every contender gets the same fault sets, drawn by a campaign, as lists of site numbers, and
produces errors (n_trials, n_inputs, n_outputs) in single precision, a block of trials at a time.
Run alone, prints the largest absolute difference of each from masked forward passes in float64.
"""

import argparse
import copy
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, pairwise

import numpy as np
from machine import THREADS, print_table
from networks import NETWORKS, Problem, problem

import neurosim as ns
from neurosim.backends import backend_of
from neurosim.executors import ThreadExecutor

# A contender further from float64 than this is not timed.
TOLERANCES = {"neurosim": 2e-6}
PEER_TOLERANCE = 1e-4
# Fault sets drawn for a case.
_MOST_FAULTS, _MOST_TRIALS = 2e7, 2**16
_SEARCH_PAIRS = (512, 1024, 2048, 4096, 8192)
_SEARCH_WEIGHTS = (1, 2, 4, 8, 16)


class Faults:
    """Fault sets of the first trials of a campaign, drawn once, in the form each contender takes.

    Parameters
    ----------
    found : Problem
    site : "neuron" or "synapse"
    probability : float
        Of every neuron of layers 0..L-1, or of every synapse.
    """

    def __init__(self, found: Problem, site: str, probability: float):
        self.site, self.probability = site, probability
        network = found.network
        deployment = ns.deploy(network, ns.Chip.load("ideal"))
        self.campaign = ns.Campaign(
            deployment=deployment,
            faults=[ns.StuckAtZero(site, probability=probability)],
            inputs=found.inputs,
            trials=_MOST_TRIALS,
            seed=1,
        )
        widths = network.widths
        sites = sum(widths[:-1])
        if site == "synapse":
            sites = sum(a * b for a, b in pairwise(widths))
        most_trials = min(_MOST_TRIALS, max(1.0, _MOST_FAULTS / (probability * sites)))
        # An even share for each thread, and two units to keep it busy: where they would hold too
        # many faults for the memory of a benchmark, smaller ones than those of the campaign.
        share = 2 * THREADS
        chunk = self.chunk = int(min(self.campaign.chunk, max(1.0, most_trials // share)))
        chunks = int(max(1, most_trials // chunk // share)) * share
        self.batches = [
            self.campaign.fault_batch(k * chunk, (k + 1) * chunk) for k in range(chunks)
        ]
        self.n_trials = chunks * chunk
        events = [b.neurons if site == "neuron" else b.synapses for b in self.batches]
        self.counts = np.concatenate([np.diff(e.offsets) for e in events])
        numbers = np.concatenate([e.site for e in events])
        trials = np.repeat(np.arange(self.n_trials), self.counts)
        all_sites = self.batches[0].sites
        bounds = all_sites.neuron_offsets if site == "neuron" else all_sites.synapse_offsets
        # By layer: offsets of trials, trial of each fault, number within the layer.
        self.layers = []
        for first, stop in pairwise(bounds):
            here = (numbers >= first) & (numbers < stop)
            offsets = np.searchsorted(trials[here], np.arange(self.n_trials + 1))
            self.layers.append((offsets, trials[here], numbers[here] - first))

    def rows(self, layer: int, first: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """Faults of a layer in trials first..stop-1: (trial - first, number within the layer)."""
        offsets, trials, numbers = self.layers[layer]
        part = slice(offsets[first], offsets[stop])
        return trials[part] - first, numbers[part]

    def of_trial(self, layer: int, trial: int) -> np.ndarray:
        """Numbers within the layer of what fails in a trial."""
        offsets, _, numbers = self.layers[layer]
        return numbers[offsets[trial] : offsets[trial + 1]]

    def n_check(self) -> int:
        """So many first trials hold enough faulty ones for a check."""
        wanted = 24 if self.campaign.n_inputs <= 100 else 8
        faulty = np.cumsum(self.counts > 0)
        return min(int(np.searchsorted(faulty, wanted)) + 1, 4096, self.n_trials)


def activation(kind, parameter, z, library):
    """Activation, in place where there is one, by numpy or torch."""
    if library is np:
        match kind:
            case "sigmoid":
                np.multiply(z, np.float32(-parameter), out=z)
                np.exp(z, out=z)
                z += 1
                np.reciprocal(z, out=z)
            case "tanh":
                np.tanh(z, out=z)
            case "relu":
                np.maximum(z, 0, out=z)
        return z
    match kind:
        case "sigmoid":
            return z.mul_(parameter).sigmoid_()
        case "tanh":
            return z.tanh_()
        case "relu":
            return z.relu_()
        case "softplus":
            return library.nn.functional.softplus(z)
        case "soft_clip":
            softplus = library.nn.functional.softplus
            return softplus(z).sub_(softplus(z.sub_(parameter)))
        case "gelu":
            return library.nn.functional.gelu(z)
        case "mish":
            return library.nn.functional.mish(z, inplace=True)
    return z


class Neurosim:
    """Units of work of the campaign on threads, each with one BLAS thread, as `ns.run` does."""

    name = "neurosim"

    def __init__(self, found: Problem, faults: Faults):
        self.faults = faults
        self.backend = backend_of(faults.campaign)
        self.executor = ThreadExecutor(threads=THREADS)
        self.detail = f"{faults.chunk} trials a unit"

    def errors(self, n_trials: int) -> Iterator[np.ndarray]:
        """Errors of the first trials, in blocks."""
        campaign, chunk = self.faults.campaign, self.faults.chunk
        batches = self.faults.batches[: n_trials // chunk]
        if n_trials % chunk:
            batches = [*batches, campaign.fault_batch(n_trials // chunk * chunk, n_trials)]
        yield from self.executor.map(self.backend.errors, batches)

    def whole(self, n_trials: int) -> int:
        """About so many trials, in whole units of work, an even share for each thread."""
        share = 2 * THREADS * self.faults.chunk
        return min(-(-n_trials // share) * share, self.faults.n_trials)

    def preparation(self, n_trials: int) -> float:
        """Seconds a fresh backend needs beyond those of one that has computed before."""
        seconds = []
        for _ in range(3):
            start = time.perf_counter()
            self.backend = backend_of(self.faults.campaign)
            consume(self.errors(n_trials))
            middle = time.perf_counter()
            consume(self.errors(n_trials))
            seconds.append(2 * middle - start - time.perf_counter())
        return max(0.0, min(seconds))


class _Library:
    """What plain forward passes have in common: weights and golden outputs in single precision."""

    def __init__(self, found: Problem, faults: Faults):
        self.found, self.faults = found, faults
        layers = found.network.layers
        self.widths = found.network.widths
        self.kinds = [(la.activation.kind, la.activation.parameter) for la in layers]
        self.x = found.inputs
        self.weights = [np.ascontiguousarray(la.weight, np.float32) for la in layers]
        self.biases = [la.bias.astype(np.float32) for la in layers]
        self.prepare()

    def prepare(self):
        """Golden outputs, by the same operations as faulty ones."""
        y = self.x
        for w, b, kind in zip(self.weights, self.biases, self.kinds, strict=True):
            y = activation(*kind, y @ w.T + b, np)
        self.golden = y

    def whole(self, n_trials: int) -> int:
        """About so many trials that can be computed at once."""
        return min(n_trials, self.faults.n_trials)

    def sizes(self):
        """Numbers of trials at a time to choose from."""
        if self.faults.site == "synapse":
            return _SEARCH_WEIGHTS
        return sorted({max(1, pairs // len(self.x)) for pairs in _SEARCH_PAIRS})


class NumpyBatched(_Library):
    """Masked forward passes of many trials at a time in NumPy."""

    name = "numpy batched"

    def __init__(self, found, faults):
        super().__init__(found, faults)
        self.size = _fastest(self, self.sizes(), self.errors)
        self.detail = f"{self.size} trials at a time"

    def choose(self, size):
        """Compute so many trials at a time."""
        self.size = size

    def errors(self, n_trials: int) -> Iterator[np.ndarray]:
        """Errors of the first trials, in blocks."""
        for first in range(0, n_trials, self.size):
            stop = min(first + self.size, n_trials)
            yield (self._neurons if self.faults.site == "neuron" else self._synapses)(first, stop)

    def _neurons(self, first, stop):
        n, m = stop - first, len(self.x)
        y = np.broadcast_to(self.x, (n, *self.x.shape))
        for k, (w, b) in enumerate(zip(self.weights, self.biases, strict=True)):
            mask = np.ones((n, 1, self.widths[k]), np.float32)
            trials, units = self.faults.rows(k, first, stop)
            mask[trials, 0, units] = 0
            y = np.multiply(y, mask).reshape(n * m, -1) @ w.T
            y += b
            y = activation(*self.kinds[k], y, np).reshape(n, m, -1)
        return y - self.golden

    def _synapses(self, first, stop):
        n, m = stop - first, len(self.x)
        y = None
        for k, (w, b) in enumerate(zip(self.weights, self.biases, strict=True)):
            masked = np.repeat(w[None], n, axis=0)
            trials, numbers = self.faults.rows(k + 1, first, stop)
            masked.reshape(n, -1)[trials, numbers] = 0
            if y is None:
                y = self.x @ masked.reshape(-1, w.shape[1]).T
                y = y.reshape(m, n, -1)
            else:
                y = (y.transpose(1, 0, 2) @ masked.transpose(0, 2, 1)).transpose(1, 0, 2)
            y += b
            y = activation(*self.kinds[k], y, np)
        return np.ascontiguousarray((y - self.golden[:, None]).transpose(1, 0, 2))


class _Torch(_Library):
    def prepare(self):
        """Weights and golden outputs as tensors."""
        import torch

        torch.set_num_threads(THREADS)
        torch.set_grad_enabled(False)
        self.torch = torch
        self.x = torch.from_numpy(np.ascontiguousarray(self.x))
        self.weights = [torch.from_numpy(w) for w in self.weights]
        self.biases = [torch.from_numpy(b) for b in self.biases]
        self.product, self.size = self._mkl, 1
        self.products = {"MKL": self._mkl, "oneDNN": self._onednn}
        y = self.x
        for k in range(len(self.weights)):
            y = self._layer(k, y)
        self.golden = y

    def choose(self, option):
        """Take a library for products and a number of trials at a time."""
        self.product, self.size = self.products[option[0]], option[1]

    def search(self, sizes, errors):
        """Choose what is fastest for the method `errors`."""
        best = _fastest(self, [(p, s) for p in self.products for s in sizes], errors)
        self.detail = f"{best[0]}, {best[1]} trials at a time"

    def _mkl(self, y, w, b):
        return self.torch.addmm(b, y, w.T)

    def _onednn(self, y, w, b):
        # What torch.compile makes of a layer on CPUs; MKL is slow on some processors.
        return self.torch.ops.mkldnn._linear_pointwise(y, w, b, "none", [], "")

    def _layer(self, k, y):
        z = self.product(y, self.weights[k], self.biases[k])
        return activation(*self.kinds[k], z, self.torch)


class TorchBatched(_Torch):
    """Masked forward passes of many trials at a time: the fastest product and number of trials."""

    name = "torch batched"

    def __init__(self, found, faults):
        super().__init__(found, faults)
        self.search(self.sizes(), self.all_errors)

    def errors(self, n_trials: int) -> Iterator[np.ndarray]:
        """Errors of the first trials, in blocks."""
        yield from self.all_errors(n_trials)

    def all_errors(self, n_trials: int) -> Iterator[np.ndarray]:
        """Errors of the first trials, whether something fails in them or not."""
        for first in range(0, n_trials, self.size):
            stop = min(first + self.size, n_trials)
            block = (self._neurons if self.faults.site == "neuron" else self._synapses)(first, stop)
            yield block.numpy()

    def _neurons(self, first, stop):
        n, m = stop - first, len(self.x)
        y = self.x.expand(n, -1, -1)
        for k in range(len(self.weights)):
            mask = self.torch.ones(n, 1, self.widths[k])
            trials, units = self.faults.rows(k, first, stop)
            mask.numpy()[trials, 0, units] = 0
            # The inputs are shared by all trials, later layers are ours to overwrite.
            y = y * mask if k == 0 else y.mul_(mask)
            y = self._layer(k, y.view(n * m, -1)).view(n, m, -1)
        return y - self.golden

    def _synapses(self, first, stop):
        n, m = stop - first, len(self.x)
        y = None
        for k, w in enumerate(self.weights):
            masked = w.repeat(n, 1, 1)
            trials, numbers = self.faults.rows(k + 1, first, stop)
            masked.view(n, -1).numpy()[trials, numbers] = 0
            if y is None:
                # All trials share the inputs: one product serves them all.
                z = self.product(self.x, masked.view(-1, w.shape[1]), self.biases[k].repeat(n))
                y = z.view(m, n, -1).transpose(0, 1)
            else:
                y = self.torch.baddbmm(self.biases[k], y, masked.transpose(1, 2))
            y = activation(*self.kinds[k], y, self.torch)
        return (y - self.golden).contiguous()


class TorchFaultyOnly(TorchBatched):
    """The same, but trials in which nothing fails are not computed."""

    name = "torch, faulty trials only"

    def errors(self, n_trials: int) -> Iterator[np.ndarray]:
        """Errors of the first trials, in blocks."""
        whole, everything = self.faults, self.faults.counts[:n_trials]
        chosen = np.flatnonzero(everything > 0)
        if len(chosen) == n_trials:
            yield from self.all_errors(n_trials)
            return
        self.faults = _subset(whole, chosen)
        try:
            at = 0
            for block in self.all_errors(len(chosen)):
                # Zeros of the fault-free trials up to the last one of this block.
                stop = n_trials if at + len(block) == len(chosen) else chosen[at + len(block)]
                start = 0 if at == 0 else chosen[at]
                result = np.zeros((stop - start, *block.shape[1:]), np.float32)
                result[chosen[at : at + len(block)] - start] = block
                at += len(block)
                yield result
            if not len(chosen):
                yield np.zeros((n_trials, *self.golden.shape), np.float32)
        finally:
            self.faults = whole


class TorchLoop(_Torch):
    """One trial after the other."""

    name = "torch loop"

    def __init__(self, found, faults):
        super().__init__(found, faults)
        self.search([1], self.errors)

    def errors(self, n_trials: int) -> Iterator[np.ndarray]:
        """Errors of the first trials, in blocks."""
        for trial in range(n_trials):
            y = self.x.clone() if self.faults.site == "neuron" else self.x
            for k, w in enumerate(self.weights):
                if self.faults.site == "neuron":
                    y[:, self.torch.from_numpy(self.faults.of_trial(k, trial))] = 0
                    y = self._layer(k, y)
                else:
                    masked = w.clone()
                    masked.view(-1)[self.torch.from_numpy(self.faults.of_trial(k + 1, trial))] = 0
                    z = self.product(y, masked, self.biases[k])
                    y = activation(*self.kinds[k], z, self.torch)
            yield (y - self.golden).numpy()[None]


class FreshMasks(_Torch):
    """The scheme of arXiv 1902.01686: like dropout, fresh masks for each input and repetition.

    It has other fault sets, and no chip whose faults all inputs meet: the moments at one input are
    those of the campaign, joint laws over inputs are not.
    """

    name = "fresh masks"

    def __init__(self, found, faults):
        super().__init__(found, faults)
        self.search(self.sizes(), self.errors)

    def _masks(self, n):
        m = len(self.x)
        for width in self.widths[:-1]:
            yield self.torch.rand(n * m, width).ge_(self.faults.probability)

    def errors(self, n_trials: int) -> Iterator[np.ndarray]:
        """Errors of the first trials, in blocks."""
        self.torch.manual_seed(1)
        for first in range(0, n_trials, self.size):
            n, m = min(self.size, n_trials - first), len(self.x)
            y = self.x.repeat(n, 1)
            for k, mask in enumerate(self._masks(n)):
                y = self._layer(k, y.mul_(mask))
            yield (y.view(n, m, -1) - self.golden).numpy()

    def reference(self, n_trials: int) -> Iterator[np.ndarray]:
        """Errors in float64 with the same masks."""
        self.torch.manual_seed(1)
        layers = self.found.network.layers
        golden = self.found.network(self.found.inputs)
        for first in range(0, n_trials, self.size):
            n, m = min(self.size, n_trials - first), len(self.x)
            y = np.tile(self.found.inputs.astype(np.float64), (n, 1))
            for layer, mask in zip(layers, self._masks(n), strict=True):
                y = layer.activation((y * mask.numpy()) @ layer.weight.T + layer.bias)
            yield y.reshape(n, m, -1) - golden


class PyTorchFI(_Torch):
    """PyTorchFI 0.6.0 as its documentation uses it: a list of faults, a corrupted model, a call.

    A neuron fault names the element of the batch, so a dead neuron is one fault an input.
    """

    name = "PyTorchFI"
    detail = "a declaration a trial"

    def __init__(self, found, faults):
        super().__init__(found, faults)
        from pytorchfi.core import fault_injection

        neurons = faults.site == "neuron"
        self.injector = fault_injection(
            self._model(),
            len(self.x),
            input_shape=[self.widths[0]],
            layer_types=["all"] if neurons else [self.torch.nn.Linear],
        )

    def _model(self):
        nn, torch, kinds = self.torch.nn, self.torch, self.kinds

        class Inputs(nn.Module):
            """Faults are injected into outputs of modules: the inputs need one."""

            def forward(self, x):
                return x.clone()

        class Steep(nn.Module):
            """sigmoid(a z)."""

            def __init__(self, parameter):
                super().__init__()
                self.parameter = parameter

            def forward(self, z):
                return torch.sigmoid(self.parameter * z)

        modules = [Inputs()]
        for k, (w, b) in enumerate(zip(self.weights, self.biases, strict=True)):
            linear = nn.Linear(w.shape[1], w.shape[0])
            linear.weight.copy_(w)
            linear.bias.copy_(b)
            modules.append(linear)
            kind, parameter = kinds[k]
            if kind != "identity":
                known = {"relu": nn.ReLU, "tanh": nn.Tanh}
                modules.append(Steep(parameter) if kind == "sigmoid" else known[kind]())
        return nn.Sequential(*modules).eval()

    def errors(self, n_trials: int) -> Iterator[np.ndarray]:
        """Errors of the first trials, in blocks."""
        m = len(self.x)
        for trial in range(n_trials):
            batch, layers, first, second = [], [], [], []
            if self.faults.site == "neuron":
                for k in range(len(self.weights)):
                    for unit in self.faults.of_trial(k, trial).tolist():
                        batch += range(m)
                        # Modules: the inputs, then a layer and its activation each.
                        layers += [2 * k] * m
                        first += [unit] * m
                none = [None] * len(batch)
                model = self.injector.declare_neuron_fi(
                    batch=batch, layer_num=layers, dim1=first, dim2=none, dim3=none,
                    value=[0.0] * len(batch),
                )  # fmt: skip
            else:
                for k, w in enumerate(self.weights):
                    rows, columns = np.divmod(self.faults.of_trial(k + 1, trial), w.shape[1])
                    layers += [k] * len(rows)
                    first += rows.tolist()
                    second += columns.tolist()
                none = [None] * len(first)
                model = self.injector.declare_weight_fi(
                    layer_num=layers, k=first, dim1=second, dim2=none, dim3=none,
                    value=[0.0] * len(first),
                )  # fmt: skip
            yield (model(self.x) - self.golden).numpy()[None]


class PyTorchFIFunction(PyTorchFI):
    """PyTorchFI with a function of the user's that sets whole columns to 0."""

    name = "PyTorchFI, own function"

    def errors(self, n_trials: int) -> Iterator[np.ndarray]:
        """Errors of the first trials, in blocks."""
        for trial in range(n_trials):

            def kill(module, inputs, output, trial=trial):
                k, odd = divmod(self.injector.get_current_layer(), 2)
                if not odd and k < len(self.weights):
                    output[:, self.torch.from_numpy(self.faults.of_trial(k, trial))] = 0
                self.injector.updateLayer()

            model = self.injector.declare_neuron_fi(function=kill)
            yield (model(self.x) - self.golden).numpy()[None]


def _subset(faults: Faults, chosen: np.ndarray) -> Faults:
    """Some trials of fault sets, numbered anew, for plain forward passes."""
    part = copy.copy(faults)
    part.counts, part.n_trials, part.layers = faults.counts[chosen], len(chosen), []
    for offsets, _, numbers in faults.layers:
        counts = offsets[chosen + 1] - offsets[chosen]
        starts = np.concatenate([[0], np.cumsum(counts)])
        trials = np.repeat(np.arange(len(chosen)), counts)
        where = np.arange(starts[-1]) - starts[trials] + offsets[chosen][trials]
        part.layers.append((starts, trials, numbers[where]))
    return part


def _fastest(contender, options, errors):
    """The option with which a contender computes fastest; it keeps it."""
    n_trials = contender.whole(max(8192 // len(contender.x), 16))
    fastest = dict.fromkeys(options, float("inf"))
    # In turns, as the measurement itself; the first turn warms up.
    for turn in range(5):
        for option in options:
            contender.choose(option)
            start = time.perf_counter()
            consume(errors(n_trials))
            if turn:
                fastest[option] = min(fastest[option], time.perf_counter() - start)
    best = min(fastest, key=fastest.get)
    contender.choose(best)
    return best


def consume(blocks: Iterator[np.ndarray]) -> None:
    """Let blocks be computed and dropped, as a campaign without records does."""
    for _ in blocks:
        pass


def reference_errors(found: Problem, faults: Faults, n_trials: int) -> Iterator[np.ndarray]:
    """Errors of single trials by masked forward passes in float64."""
    layers = found.network.layers
    x = found.inputs.astype(np.float64)
    golden = found.network(x)
    for trial in range(n_trials):
        y = x
        for k, layer in enumerate(layers):
            w = layer.weight
            if faults.site == "neuron":
                y = y.copy()
                y[:, faults.of_trial(k, trial)] = 0
            else:
                w = w.copy()
                w.ravel()[faults.of_trial(k + 1, trial)] = 0
            y = layer.activation(y @ w.T + layer.bias)
        yield y - golden


def largest_difference(contender, found: Problem, faults: Faults) -> float:
    """Largest absolute difference of a contender's errors from masked passes in float64."""
    n = faults.n_check()
    if isinstance(contender, FreshMasks):
        n = min(n, 24)
        expected = np.concatenate(list(contender.reference(n)))
    else:
        expected = np.stack(list(reference_errors(found, faults, n)))
    errors = np.concatenate(list(islice(contender.errors(n), n)))
    if errors.shape != expected.shape or errors.dtype != np.float32:
        raise SystemExit(f"{contender.name}: errors are {errors.dtype} {errors.shape}")
    return float(np.abs(errors - expected).max())


@dataclass(frozen=True)
class Checked:
    """A contender, its largest absolute difference from float64, and whether that is small."""

    contender: object
    difference: float

    @property
    def passed(self) -> bool:
        """Whether it may be timed."""
        return self.difference <= TOLERANCES.get(self.contender.name, PEER_TOLERANCE)


NEURON_CONTENDERS = (
    Neurosim, TorchBatched, TorchFaultyOnly, NumpyBatched, TorchLoop, FreshMasks, PyTorchFI,
    PyTorchFIFunction,
)  # fmt: skip
SYNAPSE_CONTENDERS = (
    Neurosim, TorchBatched, TorchFaultyOnly, NumpyBatched, TorchLoop, PyTorchFI,
)  # fmt: skip


def check(kinds, found: Problem, faults: Faults) -> list[Checked]:
    """Make contenders and compare each with float64."""
    made = [kind(found, faults) for kind in kinds]
    return [Checked(c, largest_difference(c, found, faults)) for c in made]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", choices=NETWORKS, default=next(iter(NETWORKS)))
    parser.add_argument("--site", choices=("neuron", "synapse"), default="neuron")
    parser.add_argument("--probability", type=float, default=1e-2)
    parser.add_argument("--inputs", type=int, default=100)
    arguments = parser.parse_args()
    found = problem(arguments.network, arguments.inputs)
    faults = Faults(found, arguments.site, arguments.probability)
    kinds = NEURON_CONTENDERS if arguments.site == "neuron" else SYNAPSE_CONTENDERS
    rows = [
        (c.contender.name, f"{c.difference:.1e}", c.contender.detail, "" if c.passed else "FAILS")
        for c in check(kinds, found, faults)
    ]
    print_table(("contender", "largest difference", "how", ""), rows)


if __name__ == "__main__":
    main()
