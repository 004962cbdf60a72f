"""Theory for graphs of layers: against enumeration, finite differences and the simulator."""

from dataclasses import replace

import numpy as np
import pytest
from backend_contract import settings
from exact import (
    ExactLaw,
    PlainNetwork,
    enumerate_faults,
    fault_sets,
    set_probabilities,
    single_faults,
)
from graphs import KERNELS, SMOOTH, as_dense, convolution, dense, networks, sites_of
from hypothesis import given
from hypothesis import strategies as st

import neurosim as ns
from neurosim.backends.reference import ReferenceBackend
from neurosim.chip import Chip
from neurosim.errors import InputError
from neurosim.faults import FaultBatch, FaultSet, Intermittent, StuckAtZero, Transient
from neurosim.layers import AveragePool2D, Flatten, MaxPool2D
from neurosim.network import Network
from neurosim.theory.effects import kurtosis
from neurosim.theory.graph_effects import GraphEffects
from neurosim.theory.presentations import input_mean
from neurosim.theory.surrogate import surrogate_law


def campaign_of(network, inputs, faults, kernels="shared_in_time", **options):
    deployment = ns.deploy(network, Chip(name="any", kernels=kernels))
    return ns.Campaign(
        deployment=deployment, inputs=inputs, faults=faults, trials=1, seed=0,
        dtype="float64", **options,
    )  # fmt: skip


def chain(activation="tanh", readout=None, last="tanh"):
    rng = np.random.default_rng(8)
    layers = [
        convolution(rng, 1, 2, 2, activation), AveragePool2D(size=2, stride=1),
        convolution(rng, 2, 2, 1, activation, stride=(2, 1)), Flatten(), dense(rng, 2, 2, last),
    ]  # fmt: skip
    return Network(layers=layers, input_shape=(1, 4, 3), readout=readout), rng


@pytest.mark.parametrize("layer", [None, 1, 2])
@pytest.mark.parametrize("readout", [None, "softmax"])
def test_moments_of_neurons_are_those_of_the_equivalent_dense_network(layer, readout):
    network, rng = chain(readout=readout)
    x = rng.normal(size=(3, 12))
    faults = [StuckAtZero("neuron", probability=p, layers=[n]) for n, p in ((0, 0.1), (1, 0.2))]
    for method in ("first-order", "single-fault"):
        one, other = (
            ns.predict(campaign_of(n, x, faults), method, layer=layer)
            for n in (network, as_dense(network))
        )
        np.testing.assert_allclose(one.mean, other.mean, rtol=1e-9)
        np.testing.assert_allclose(one.variance, other.variance, rtol=1e-9)
        np.testing.assert_allclose(one.covariance, other.covariance, rtol=1e-9, atol=1e-15)
        np.testing.assert_allclose(one.kurtosis, other.kurtosis, rtol=1e-9)
        np.testing.assert_allclose(one.input_mean_variance, other.input_mean_variance, rtol=1e-9)
        np.testing.assert_allclose(
            one.site_contributions("neuron", 1), other.site_contributions("neuron", 1), rtol=1e-8
        )
        assert one.exact == other.exact


def test_a_linear_rest_makes_both_methods_exact():
    network, rng = chain("identity", last="identity")
    x = rng.normal(size=(1, 12))
    plain = PlainNetwork.of(as_dense(network))
    law = enumerate_faults(plain, x[0], plain.neurons(1), 0.1)
    for method in ("first-order", "single-fault"):
        faults = [StuckAtZero("neuron", probability=0.1, layers=[1])]
        prediction = ns.predict(campaign_of(network, x, faults), method)
        assert prediction.exact
        np.testing.assert_allclose(prediction.mean[0], law.mean, rtol=1e-10)
        np.testing.assert_allclose(prediction.variance[0], law.variance, rtol=1e-10)
        np.testing.assert_allclose(prediction.covariance[0], law.covariance, rtol=1e-10)
    assert not ns.predict(campaign_of(*chain_with_pool(), faults)).exact


def chain_with_pool():
    network, rng = chain("identity")
    pooled = replace(network, layers=(), nodes=tuple(
        replace(node, layer=MaxPool2D(size=2, stride=1))
        if isinstance(node.layer, AveragePool2D) else node for node in network.nodes
    ))  # fmt: skip
    return pooled, rng.normal(size=(1, 12))


def simulated_single_faults(network, inputs, kernels, kind, layer):
    """Errors with each site alone dead, by the slow backend: (n_sites, n_inputs, n_outputs)."""
    sites = sites_of(network, kernels)
    backend = ReferenceBackend(network, network.flatten(inputs), "float64")
    offsets = sites.neuron_offsets if kind == "neurons" else sites.synapse_offsets
    found = []
    for number in range(offsets[layer], offsets[layer + 1]):
        place = sites.neurons(number) if kind == "neurons" else sites.synapses(number)
        dead = {kind: [(*(int(n) for n in place), 0, len(inputs))]}
        batch = FaultBatch.of(FaultSet(n_presentations=len(inputs), **dead), sites)
        found.append(backend.errors(batch)[0])
    return np.array(found)


@settings(12)
@given(networks(), st.sampled_from(KERNELS), st.data())
def test_single_faults_are_those_of_the_simulator(case, kernels, data):
    network, inputs = case
    layer = data.draw(st.integers(1, network.depth))
    for site, kind in (("neuron", "neurons"), ("synapse", "synapses")):
        d = simulated_single_faults(network, inputs, kernels, kind, layer)
        faults = [StuckAtZero(site, probability=0.1, layers=[layer])]
        prediction = ns.predict(campaign_of(network, inputs, faults, kernels), "single-fault")
        np.testing.assert_allclose(prediction.mean, 0.1 * d.sum(axis=0), rtol=1e-8, atol=1e-12)
        np.testing.assert_allclose(
            prediction.variance, 0.09 * (d**2).sum(axis=0), rtol=1e-8, atol=1e-13
        )
        effects = prediction.model.effects.effects((site, layer), slice(0, len(inputs)))
        np.testing.assert_allclose(effects, d.transpose(2, 1, 0), rtol=1e-7, atol=1e-12)


@settings(12)
@given(networks(activations=SMOOTH), st.sampled_from(KERNELS), st.data())
def test_first_order_is_the_derivative_by_the_fault(case, kernels, data):
    """Weights and outputs scaled by 1 - h, in place of dead ones, in the equivalent sum."""
    network, inputs = case
    layer = data.draw(st.integers(1, network.depth))
    h = 1e-6
    number = network.graph.weighted[layer]
    node = network.graph.nodes[number - 1]
    faults = [StuckAtZero("synapse", probability=0.25, layers=[layer])]
    campaign = campaign_of(network, inputs, faults, kernels)
    prediction = ns.predict(campaign)
    effects = prediction.model.effects.effects(("synapse", layer), slice(0, len(inputs)))
    np.testing.assert_allclose(prediction.mean, 0.25 * effects.sum(axis=2).T, rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(
        prediction.variance, 0.1875 * (effects**2).sum(axis=2).T, rtol=1e-8, atol=1e-14
    )
    # One weight of the layer made smaller, at all its copies.
    matrix = node.layer.matrix_shape
    k = data.draw(st.integers(0, node.layer.weight.size - 1))
    weight = node.layer.weight.copy()
    weight.reshape(-1)[k] *= 1 - h
    nodes = list(network.graph.nodes)
    nodes[number - 1] = replace(node, layer=replace(node.layer, weight=weight))
    shape = network.graph.shapes[0]
    moved = Network(nodes=nodes, input_shape=shape, readout=network.readout)
    numeric = (moved(inputs) - network(inputs)) / h
    copies = effects.reshape(*effects.shape[:2], -1, *matrix).sum(axis=2)
    np.testing.assert_allclose(
        copies.reshape(*copies.shape[:2], -1)[:, :, k].T, numeric, rtol=1e-3, atol=1e-6
    )


@pytest.mark.parametrize("loss", ["squared_error", "cross_entropy"])
def test_losses_by_single_faults(loss):
    network, rng = chain(readout="softmax")
    x, targets = rng.normal(size=(2, 12)), np.array([0, 1])
    faults = [StuckAtZero("neuron", probability=0.1, layers=[1])]
    prediction = ns.predict(
        campaign_of(network, x, faults, targets=targets, loss=loss), "single-fault", loss=loss
    )
    plain = PlainNetwork.of(as_dense(network))
    for row in range(2):
        d = single_faults(
            plain, x[row], plain.neurons(1), loss=loss, target=np.eye(2)[targets[row]]
        )
        np.testing.assert_allclose(prediction.mean[row], 0.1 * d.sum(axis=0), rtol=1e-9)


LOSSES = ["squared_error", "absolute_error", "cross_entropy"]


def scaled_output(network, x, kind, layer, site, factor):
    """What the last node sends for one input, with one neuron or weight multiplied by a factor."""
    number = network.graph.weighted[layer]
    y = [network.graph.shaped(np.asarray(x, float)[None])]
    for k in range(len(network.graph.nodes) + 1):
        if k:
            node = network.graph.nodes[k - 1]
            part = node.layer
            if k == number and kind == "synapse":
                weight = part.weight.copy()
                weight.reshape(-1)[site] *= factor
                part = replace(part, weight=weight)
            y.append(part(*(y[source] for source in node.sources)))
        if k == number and kind == "neuron":
            y[k] = y[k].copy()
            y[k].reshape(-1)[site] *= factor
    return y[-1].reshape(-1)


@settings(15)
@given(networks(activations=SMOOTH), st.sampled_from(LOSSES), st.data())
def test_losses_by_first_order_are_the_quadratic_form_of_t1(case, loss, data):
    """By finite differences of every site and all 2^n fault sets of what they give."""
    network, inputs = case
    small = [
        (kind, layer, n)
        for layer in range(network.depth + 1)
        for kind, n in (
            ("neuron", network.widths[layer]),
            ("synapse", network.layers[layer - 1].weight.size if layer else 99),
        )
        if n <= 12
    ]
    kind, layer, n = data.draw(st.sampled_from(small))  # the last layer has few neurons
    softmax = network.readout == "softmax"
    if loss == "cross_entropy" and not softmax:
        loss = "squared_error"
    rng = np.random.default_rng(n)
    targets = rng.dirichlet(np.ones(network.widths[-1]), size=len(inputs))
    faults = [StuckAtZero(kind, probability=0.2, layers=[layer])]
    flat = network.flatten(inputs)
    prediction = ns.predict(campaign_of(network, flat, faults, targets=targets), loss=loss)
    h = 1e-6
    for i, x in enumerate(flat):

        def outputs(site, factor, x=x):
            y = scaled_output(network, x, kind, layer, site, factor)
            e = np.exp(y - y.max())
            return e / e.sum() if softmax and loss != "cross_entropy" else y

        g = np.array([(outputs(s, 1 - h) - outputs(s, 1 + h)) / (2 * h) for s in range(n)])
        u, t = outputs(0, 1), targets[i]
        if loss == "cross_entropy":
            p = np.exp(u - u.max()) / np.exp(u - u.max()).sum()
            slope, bend = p * t.sum() - t, t.sum() * (np.diag(p) - np.outer(p, p))
        elif loss == "squared_error":
            slope, bend = 2 * (u - t) / len(u), 2 * np.eye(len(u)) / len(u)
        else:
            slope, bend = np.sign(u - t) / len(u), np.zeros((len(u),) * 2)
        delta = fault_sets(n) @ g
        values = delta @ slope + 0.5 * np.einsum("ak,kl,al->a", delta, bend, delta)
        law = ExactLaw(values[:, None], set_probabilities(n, 0.2))
        scale = 1e-6 * (1 + np.abs(values).max() ** 2)
        np.testing.assert_allclose(prediction.mean[i], law.mean, rtol=1e-5, atol=scale)
        np.testing.assert_allclose(prediction.variance[i], law.variance, rtol=1e-5, atol=scale)
        np.testing.assert_allclose(
            prediction.mean_paper[i], 0.2 * (g @ slope).sum(), rtol=1e-5, atol=scale
        )


@pytest.mark.parametrize("loss", LOSSES)
def test_losses_by_first_order_are_those_of_the_equivalent_dense_network(loss):
    network, rng = chain(readout="softmax")
    x, targets = rng.normal(size=(3, 12)), np.array([0, 1, 0])
    faults = [
        StuckAtZero("neuron", probability=0.1, layers=[0, 2]),
        StuckAtZero("neuron", probability=0.2, layers=[1], persistence=Transient()),
        StuckAtZero("synapse", probability=0.05, layers=[3]),
    ]
    one, other = (
        ns.predict(campaign_of(n, x, faults, targets=targets, loss=loss), loss=loss)
        for n in (network, as_dense(network))
    )
    for name in (
        "mean", "mean_paper", "variance", "variance_paper", "kurtosis", "covariance",
        "input_mean_variance", "between_chip_variance", "within_chip_variance",
    ):  # fmt: skip
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-8, atol=1e-14)
    for name in ("mean_terms", "mean_contributions", "variance_contributions"):
        found, expected = getattr(one, name), getattr(other, name)
        assert found.keys() == expected.keys()
        for key in found:
            np.testing.assert_allclose(found[key], expected[key], rtol=1e-8, atol=1e-14)
    np.testing.assert_allclose(
        one.site_contributions("synapse", 3), other.site_contributions("synapse", 3), rtol=1e-8
    )
    laws = [prediction.distribution(1, 0) for prediction in (one, other)]
    np.testing.assert_allclose(laws[0].variance, laws[1].variance, rtol=1e-8)
    assert not one.exact


def test_a_squared_error_behind_a_linear_rest_is_exact():
    network, rng = chain("identity", last="identity")
    x, target = rng.normal(size=(1, 12)), rng.normal(size=(1, 2))
    plain = PlainNetwork.of(as_dense(network))
    law = enumerate_faults(
        plain, x[0], plain.neurons(1), 0.3, loss="squared_error", target=target[0]
    )
    faults = [StuckAtZero("neuron", probability=0.3, layers=[1])]
    campaign = campaign_of(network, x, faults, targets=target)
    prediction = ns.predict(campaign, loss="squared_error")
    assert prediction.exact
    np.testing.assert_allclose(prediction.mean[0], law.mean, rtol=1e-10)
    np.testing.assert_allclose(prediction.variance[0], law.variance, rtol=1e-10)


def test_losses_by_first_order_need_memory_for_all_outputs(monkeypatch):
    monkeypatch.setattr("neurosim.theory.graph_losses._MOST_VALUES", 10)
    network, rng = chain()
    faults = [StuckAtZero("neuron", probability=0.1)]
    campaign = campaign_of(network, rng.normal(size=(1, 12)), faults, targets=np.ones((1, 2)))
    with pytest.raises(InputError, match=r"loss: expected at most 10 outputs times sites"):
        ns.predict(campaign, loss="squared_error")


def test_dense_chains_with_new_activations_are_predicted_alike():
    rng = np.random.default_rng(9)
    layers = [dense(rng, 4, 5, "silu"), dense(rng, 5, 3, "relu6"), dense(rng, 3, 2, "gelu")]
    network = Network(layers=layers)
    x = rng.normal(size=(2, 4))
    d = simulated_single_faults(network, x, "shared_in_time", "synapses", 2)
    faults = [StuckAtZero("synapse", probability=0.1, layers=[2])]
    prediction = ns.predict(campaign_of(network, x, faults), "single-fault")
    np.testing.assert_allclose(prediction.mean, 0.1 * d.sum(axis=0), rtol=1e-10)
    sites = [ns.theory.Site.dead(synapses=[(2, 1, 3)], probability=0.5)]
    np.testing.assert_allclose(
        ns.theory.predict_sites(network, x, sites).mean, 0.5 * d[1 * 5 + 3], rtol=1e-10
    )
    with pytest.raises(InputError, match='method "second-order" knows only chains'):
        ns.predict(campaign_of(network, x, faults), "second-order")


def test_theory_for_chains_refuses_graphs():
    network = chain()[0]
    with pytest.raises(InputError, match="chain of dense layers for this part of the theory"):
        ns.theory.predict_sites(network, np.ones((1, 12)), [])
    faults = [StuckAtZero("neuron", probability=0.1)]
    campaign = campaign_of(network, np.ones((1, 12)), faults, targets=np.array([0]))
    with pytest.raises(InputError, match='method "mean-field" knows only chains'):
        ns.predict(campaign, "mean-field", loss="squared_error")
    with pytest.raises(InputError, match=r"probes: expected none .* of a loss"):
        ns.predict(campaign, loss="squared_error", probes=8)


def test_assumptions_of_a_graph_flag_relu_and_max_pools():
    rng = np.random.default_rng(10)
    layers = [
        convolution(rng, 1, 2, 3, "relu", padding=1), MaxPool2D(size=2), Flatten(), dense(rng, 8, 2)
    ]  # fmt: skip
    network = Network(layers=layers, input_shape=(1, 4, 4))
    faults = [StuckAtZero("neuron", probability=1e-3)]
    found = ns.check_assumptions(campaign_of(network, rng.normal(size=(3, 16)), faults))
    assert found["smooth"].verdict == "fails"
    assert "max-pool, relu" in found["smooth"].statement
    assert found["T1 near b4"].verdict == "fails"
    assert found.method == "single-fault"
    smooth = chain()[0]
    campaign = campaign_of(smooth, rng.normal(size=(3, 12)), faults)
    found = ns.check_assumptions(campaign)
    assert found["smooth"].verdict == "holds"
    assert found["second order"].verdict == "unknown"
    assert found["Lipschitz"].verdict == "holds"


MIXED = [
    StuckAtZero("neuron", probability=0.1),
    StuckAtZero("synapse", probability=0.05, persistence=Transient(), layers=[1, 2]),
    StuckAtZero("synapse", probability=0.2, persistence=Intermittent(mean_duration=3), layers=[2]),
]


@settings(10)
@given(networks(), st.sampled_from(KERNELS), st.sampled_from(["first-order", "single-fault"]))
def test_streamed_properties_are_sums_over_all_effects(case, kernels, method):
    network, inputs = case
    faults = [f for f in MIXED if f.layers is None or max(f.layers) <= network.depth]
    prediction = ns.predict(campaign_of(network, inputs, faults, kernels), method)
    effects, setting = prediction.model.effects, prediction.model.setting
    expected = kurtosis(effects, prediction.variance)
    np.testing.assert_allclose(prediction.kurtosis, expected, rtol=1e-8)
    slow = input_mean(effects, prediction.variance.mean(axis=0))
    for name in ("variance", "between", "each"):
        np.testing.assert_allclose(
            getattr(prediction.model.input_mean(), name), getattr(slow, name), rtol=1e-8, atol=1e-14
        )
    last = prediction.n_inputs - 1, prediction.n_outputs - 1
    law = prediction.distribution(*last)
    direct = surrogate_law([
        (effects.effects(b, slice(last[0], last[0] + 1))[last[1], 0], p)
        for b, p in setting.probabilities.items()
    ])  # fmt: skip
    np.testing.assert_allclose(law.mean, direct.mean, rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(law.variance, direct.variance, rtol=1e-10)
    assert law.variance == pytest.approx(float(prediction.variance[last]), rel=1e-8)


def test_first_order_takes_one_pass_an_output_for_all_moments(monkeypatch):
    network, rng = chain()
    seen = []
    walk = GraphEffects._derivatives

    def counted(self, x, outputs=slice(None)):
        for part in walk(self, x, outputs):
            seen.append(part[0].stop - part[0].start)
            yield part

    monkeypatch.setattr(GraphEffects, "_derivatives", counted)
    prediction = ns.predict(campaign_of(network, rng.normal(size=(1, 12)), MIXED))
    assert prediction.kurtosis.shape == (1, 2)
    assert prediction.within_chip_variance.shape == (2,)
    assert sum(seen) == 2
    prediction.distribution(0, 1)
    assert sum(seen) == 3


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("readout", [None, "softmax"])
def test_probes_estimate_the_variances_and_their_own_error(kernels, readout):
    network, rng = chain("silu", readout)
    campaign = campaign_of(network, rng.normal(size=(2, 12)), MIXED, kernels)
    exact = ns.predict(campaign)
    many = ns.predict(campaign, probes=8000)
    np.testing.assert_allclose(many.mean, exact.mean, rtol=1e-10)
    z = (many.variance - exact.variance) / many.variance_error
    assert np.abs(z).max() < 5  # false alarms: 8 cells at 6e-7 each
    # A variance 10 % off would have been seen.
    assert (0.1 * exact.variance / many.variance_error).min() > 5
    few = [ns.predict(replace(campaign, seed=seed), probes=64) for seed in range(100)]
    spread = np.std([p.variance for p in few], axis=0, ddof=1)
    told = np.sqrt(np.mean([p.variance_error**2 for p in few], axis=0))
    np.testing.assert_allclose(told, spread, rtol=0.35)  # five times the error of a spread of 100
    mean = np.mean([p.variance for p in few], axis=0)
    assert (np.abs(mean - exact.variance) < 5 * spread / 10).all()
    np.testing.assert_allclose(few[0].kurtosis, exact.kurtosis)
    assert "randomised part of the variance" in str(few[0])


@settings(10)
@given(networks(), st.sampled_from(KERNELS))
def test_the_mean_of_probes_is_that_of_passes_back(case, kernels):
    network, inputs = case
    faults = [f for f in MIXED if f.layers is None or max(f.layers) <= network.depth]
    campaign = campaign_of(network, inputs, faults, kernels)
    exact, found = ns.predict(campaign), ns.predict(campaign, probes=2)
    np.testing.assert_allclose(found.mean, exact.mean, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("loss", [None, "cross_entropy"])
def test_random_sites_estimate_single_fault_moments(kernels, loss):
    """Of a network of kinks, where T1 is far off; with the errors that they tell."""
    network, rng = chain("relu", readout="softmax", last="relu")
    campaign = campaign_of(
        network, rng.normal(size=(2, 12)), MIXED, kernels, targets=np.array([0, 1])
    )
    exact = ns.predict(campaign, "single-fault", loss=loss)
    first = ns.predict(replace(campaign, faults=MIXED), loss=loss)
    many = ns.predict(campaign, "single-fault", loss=loss, probes=20000)
    for name in ("mean", "variance"):
        difference = getattr(many, name) - getattr(exact, name)
        error = getattr(many, f"{name}_error")
        z = difference[error > 0] / error[error > 0]
        assert np.abs(z).max() < 5  # false alarms: 8 cells at 6e-7 each
        np.testing.assert_allclose(difference[error == 0], 0, atol=1e-12)
        # T1 would have been seen, and so would a tenth of the values.
        assert (np.abs(getattr(first, name) - getattr(exact, name)) / error).max() > 5
        assert (0.1 * np.abs(getattr(exact, name)) / error).max() > 5
    few = [
        ns.predict(replace(campaign, seed=seed), "single-fault", loss=loss, probes=30)
        for seed in range(200)
    ]
    for name in ("mean", "variance"):
        values = np.array([getattr(p, name) for p in few])
        told = np.sqrt(np.mean([getattr(p, f"{name}_error") ** 2 for p in few], axis=0))
        spread = values.std(axis=0, ddof=1)
        np.testing.assert_allclose(told, spread, rtol=0.35)
        far = np.abs(values.mean(axis=0) - getattr(exact, name))
        assert (far <= 5 * spread / np.sqrt(200) + 1e-12).all()


def test_where_t1_is_exact_random_sites_add_nothing():
    network, rng = chain("identity", last="identity")
    faults = [StuckAtZero("neuron", probability=0.2, layers=[1])]
    campaign = campaign_of(network, rng.normal(size=(2, 12)), faults)
    found, exact = ns.predict(campaign, "single-fault", probes=2), ns.predict(campaign)
    np.testing.assert_allclose(found.variance, exact.variance, rtol=1e-10)
    assert (found.variance_error < 1e-10 * exact.variance).all()
    nothing = replace(campaign, faults=[StuckAtZero("neuron", probability=0.0)])
    assert not ns.predict(nothing, "single-fault", probes=2).variance.any()


def test_assumptions_of_large_graphs_rest_on_a_sample_of_sites(monkeypatch):
    monkeypatch.setattr("neurosim.theory.assumptions._MOST_WORK", 1)
    faults = [StuckAtZero("neuron", probability=1e-3)]
    rng = np.random.default_rng(10)
    layers = [
        convolution(rng, 1, 2, 3, "relu", padding=1), MaxPool2D(size=2), Flatten(), dense(rng, 8, 2)
    ]  # fmt: skip
    kinked = Network(layers=layers, input_shape=(1, 4, 4))
    verdicts = []
    for network, n in ((chain("identity", last="identity")[0], 12), (kinked, 16)):
        campaign = campaign_of(network, rng.normal(size=(1, n)), faults)
        found = ns.check_assumptions(campaign)["T1 near b4"]
        verdicts.append(found.verdict)
        assert "by a sample of sites" in found.statement
    assert verdicts == ["holds", "fails"]
    monkeypatch.setattr("neurosim.theory.assumptions._MOST_SAMPLED_WORK", 1)
    assert ns.check_assumptions(campaign)["T1 near b4"].verdict == "unknown"


def test_compare_takes_no_variances_by_probes(tmp_path):
    network, rng = chain()
    campaign = campaign_of(network, rng.normal(size=(1, 12)), MIXED)
    with (
        ns.run(campaign, tmp_path / "trace.h5") as trace,
        pytest.raises(InputError, match="estimates by probes"),
    ):
        ns.compare(trace, ns.predict(campaign, probes=8))


def test_probes_are_for_first_order_on_graphs():
    network, rng = chain()
    campaign = campaign_of(network, rng.normal(size=(1, 12)), MIXED)
    with pytest.raises(InputError, match="probes: expected none"):
        ns.predict(campaign, "mean-field", probes=10)
    with pytest.raises(InputError, match="probes"):
        ns.predict(campaign, probes=1)
    plain = campaign_of(as_dense(network), rng.normal(size=(1, 12)), MIXED[:1])
    with pytest.raises(InputError, match="probes: expected none"):
        ns.predict(plain, probes=10)
