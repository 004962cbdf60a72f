"""check_assumptions: every verdict both ways, and which method it advises."""

from itertools import pairwise
from typing import get_args

import numpy as np
import pytest
from test_methods import campaign_of

import neurosim as ns
from neurosim.cli import _METHODS
from neurosim.errors import InputError
from neurosim.theory.continuity import discretise
from neurosim.theory.prediction import Method


def checked(network, blocks, p, **options):
    inputs = 1 + np.random.default_rng(0).normal(size=(12, network.widths[0]))
    faults = [ns.StuckAtZero(kind, probability=p, layers=[layer]) for kind, layer in blocks]
    return ns.check_assumptions(campaign_of(network, inputs, faults), **options)


def random_network(widths, activations, scale=1.0):
    rng = np.random.default_rng(1)
    return ns.Network.dense(
        weights=[scale * rng.normal(size=(b, a)) / np.sqrt(a) for a, b in pairwise(widths)],
        biases=[rng.normal(size=n) for n in widths[1:]],
        activations=activations,
    )


def smooth_network(n):
    return discretise(
        [lambda t, s: np.cos(t + s), lambda t, s: 1 + t * s],
        [lambda t: 0 * t, lambda t: 0 * t],
        [n, n, 1],
        ["sigmoid(4)", "identity"],
    )


def test_a_wide_smooth_network_meets_them_all():
    found = checked(smooth_network(400), [("neuron", 1)], 1e-3)
    assert {entry.name: entry.verdict for entry in found} == dict.fromkeys(
        ["A1", "A2", "AA1", "A3", "smooth", "Lipschitz", "remainder", "T1 near b4",
         "second order", "mean field"], "holds",
    )  # fmt: skip
    assert found.method == "first-order"
    assert "A1" in str(found)
    assert found["A2"].figure == 400


def test_a_narrow_relu_network_fails_most():
    found = checked(random_network((30, 20, 4), ["relu", "identity"]), [("neuron", 0)], 0.05)
    verdicts = {entry.name: entry.verdict for entry in found}
    assert (
        verdicts["A1"] == verdicts["A2"] == verdicts["smooth"] == verdicts["T1 near b4"] == "fails"
    )
    assert verdicts["second order"] == "unknown"
    assert verdicts["remainder"] == "unknown"  # (p + 1/n)^3 n / p = 0.4
    assert found.method == "single-fault"
    assert "relu" in found["smooth"].statement


def test_steep_activations_and_unbalanced_weights_are_told():
    network = ns.Network.dense(
        weights=[np.diag([1.0] * 149 + [1e-4]), np.ones((1, 150))],
        biases=[np.zeros(150), np.zeros(1)],
        activations=["sigmoid(8)", "identity"],
    )
    found = checked(network, [("neuron", 1)], 1e-3)
    assert found["Lipschitz"].verdict == "fails"
    assert found["Lipschitz"].figure == 2
    assert found["AA1"].verdict == "fails"
    assert found["AA1"].figure == pytest.approx(1e-4)
    assert found["A3"].verdict == "fails"


def test_many_small_neurons_ask_for_the_mean_field():
    found = checked(smooth_network(400), [("neuron", 0)], 0.3)
    assert found["T1 near b4"].verdict == "holds"
    assert found["mean field"].verdict == "fails"
    assert found.method == "mean-field"


def test_few_sites_are_enumerated_and_linear_ones_are_exact():
    tanh = random_network((3, 6, 2), ["tanh", "tanh"])
    assert checked(tanh, [("neuron", 1)], 0.1).method == "enumeration"
    linear = random_network((3, 60, 2), ["tanh", "identity"])
    found = checked(linear, [("neuron", 1)], 0.1)
    assert found.method == "first-order"
    assert "exact" in found.advice


def test_what_takes_long_is_unknown(monkeypatch):
    from neurosim.theory import assumptions

    monkeypatch.setattr(assumptions, "_MOST_WORK", 10)
    found = checked(random_network((30, 20, 4), ["tanh", "tanh"]), [("neuron", 0)], 0.01)
    assert found["T1 near b4"].verdict == "unknown"
    assert "compare both with a simulation" in found.advice


def test_nothing_fails_and_wrong_arguments():
    network = random_network((3, 4, 2), ["tanh", "identity"])
    assert checked(network, [("neuron", 0)], 0.0).advice == "Nothing fails."
    with pytest.raises(InputError, match="inputs: expected a whole number from 1 on"):
        checked(network, [("neuron", 0)], 0.1, inputs=0)
    with pytest.raises(InputError, match="name: expected one of A1"):
        checked(network, [("neuron", 0)], 0.1)["A9"]


def test_the_command_line_knows_every_method():
    assert get_args(Method) == _METHODS


def test_a_layer_without_weights_has_no_balance():
    network = ns.Network.dense(
        weights=[np.zeros((3, 2)), np.ones((2, 3))],
        biases=[np.ones(3), np.zeros(2)],
        activations=["tanh", "identity"],
    )
    found = checked(network, [("neuron", 1)], 0.1)
    assert found["AA1"].verdict == "unknown"
    assert "AA1" in str(found)


def test_single_faults_are_set_beside_t1_on_as_many_inputs_as_time_allows(monkeypatch):
    from neurosim.theory import assumptions

    network = random_network((30, 20, 4), ["tanh", "tanh"])
    asked = []

    class Counted(assumptions.SingleEffects):
        def sums(self, rows):
            asked.append(self.setting.n_inputs)
            return super().sums(rows)

    monkeypatch.setattr(assumptions, "SingleEffects", Counted)
    work = 30 * (20 * 4 + 4 * 20)  # each dead input: two layers behind it
    for limit, n_inputs in ((10 * work, 8), (3.5 * work, 3)):
        monkeypatch.setattr(assumptions, "_MOST_WORK", limit)
        asked.clear()
        assert checked(network, [("neuron", 0)], 0.01)["T1 near b4"].verdict != "unknown"
        assert set(asked) == {n_inputs}


def test_weights_beyond_a_float_are_unknown():
    network = random_network((3, 6, 2), ["identity", "tanh"], scale=1e200)
    assert checked(network, [("neuron", 0), ("neuron", 1)], 0.1)["A1"].verdict == "fails"
