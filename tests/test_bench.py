"""The benchmarks' own checks, on a small network and without the peers that need torch."""

import itertools
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

import neurosim as ns

BENCH = Path(__file__).parent.parent / "scripts" / "bench"


@pytest.fixture
def load(monkeypatch):
    """Import a script of scripts/bench under its name there, for one test."""
    monkeypatch.syspath_prepend(BENCH)
    before = set(sys.modules)
    yield import_module
    for name in set(sys.modules) - before:
        if (BENCH / f"{name}.py").exists():
            del sys.modules[name]


def small_problem(networks, activation="sigmoid(4)", n_inputs=6):
    rng = np.random.default_rng(3)
    network = ns.Network.dense(
        weights=[rng.normal(size=s).astype(np.float32) for s in ((8, 12), (3, 8))],
        biases=[rng.normal(size=n).astype(np.float32) for n in (8, 3)],
        activations=[activation, "identity"],
    )
    inputs = rng.random((n_inputs, 12)).astype(np.float32)
    inputs[:, ::3] = 0
    return networks.Problem(name="small", network=network, inputs=inputs, accuracy=0.1)


@pytest.mark.parametrize("site", ["neuron", "synapse"])
@pytest.mark.parametrize("activation", ["sigmoid(4)", "relu", "tanh"])
def test_contenders_agree_with_masked_passes_and_a_wrong_one_is_not_timed(load, site, activation):
    contenders = load("contenders")
    found = small_problem(load("networks"), activation)
    faults = contenders.Faults(found, site, 0.05)

    class Late(contenders.NumpyBatched):
        """Each trial with the fault set of the one before."""

        def errors(self, n_trials):
            yield np.roll(np.concatenate(list(super().errors(n_trials))), 1, axis=0)

    kinds = (contenders.Neurosim, contenders.NumpyBatched, Late)
    checked = contenders.check(kinds, found, faults)
    assert [entry.passed for entry in checked] == [True, True, False]


def test_the_limit_counts_pairs_as_enumeration_does(load):
    """With activations alone to pay for, it is the expected number of changed hidden layers."""
    limits, machine = load("limits"), load("machine")
    found = small_problem(load("networks"), n_inputs=1)
    free = {"sgemm": {"any": np.inf}, "axpy": np.inf, "write": np.inf}
    speeds = machine.Limits(activation={"sigmoid": 1.0}, quiet=True, **free)
    p, effective = 0.2, int((found.inputs[0] != 0).sum())
    chances = {"changed": 0.0, "two or more": 0.0}
    for dead in itertools.product((0, 1), repeat=effective):
        chance = p ** sum(dead) * (1 - p) ** (effective - sum(dead))
        chances["changed"] += chance * (sum(dead) >= 1)
        chances["two or more"] += chance * (sum(dead) >= 2)
    for tabulated, name in ((False, "changed"), (True, "two or more")):
        seconds = limits.least_seconds(found, "neuron", p, speeds, tabulated)
        assert seconds == pytest.approx(8 * chances[name], rel=1e-12)


def test_windows_in_which_others_work_are_dropped(load, monkeypatch):
    machine = load("machine")
    clock = iter(np.arange(1000.0))
    busy = iter([0, 0, 0, 5, 5, 5, 5, 5] + [5] * 92)
    monkeypatch.setattr(machine, "used_by_others", lambda: float(next(busy)))
    monkeypatch.setattr(machine.time, "perf_counter", lambda: float(next(clock)))
    timing = machine.interleaved({"one": (lambda: None, 4)}, 3)["one"]
    assert (timing.quiet, timing.noisy) == ([0.25] * 3, [0.25])
    assert timing.trusted
    assert timing.median == 0.25


def test_the_page_holds_the_documented_numbers(load):
    document = load("document")
    page = document.PAGE.read_text()
    assert document.fill(page) == page
    with pytest.raises(SystemExit, match="expected one place for table machine"):
        document.fill(page.replace("<!-- table: machine -->", ""))


def test_the_page_of_convolutions_holds_the_documented_numbers(load):
    script = load("convolutions")
    page = script.PAGE.read_text()
    assert script.fill(page) == page


@pytest.mark.parametrize("name", ["vgg16", "mobilenet"])
def test_convolutional_networks_are_the_same_in_onnx_runtime(load, name):
    script = load("convolutions")
    network, x = script.network_of(name, 32)
    found = network.graph.outputs(x)
    peer = script.session_of(network, 1).run(None, {"x": x.reshape(1, 3, 32, 32)})[0]
    np.testing.assert_allclose(found, peer, rtol=0, atol=1e-5 * np.abs(peer).max())


def test_the_page_of_the_estimators_holds_the_documented_numbers(load):
    document = load("estimators_document")
    page = document.PAGE.read_text()
    assert document.fill(page, document.TABLES, document.PAGE) == page


def test_estimators_report_gains_and_tails_of_a_small_network(load):
    estimators = load("estimators")
    found = small_problem(load("networks"), n_inputs=2)
    rows = estimators.moments(found, evaluations=256, seeds=2)
    assert [row["p"] for row in rows] == ["0.0001", "0.001", "0.01", "0.05"]
    gains = [float(row["mean_gain"]) for row in rows]
    assert gains[0] > gains[1] > gains[2] > gains[3] > 1
    rows = estimators.tails(found, 4000, 1, (1e-3,))
    assert all(float(row["probability"]) < 0.1 for row in rows)
