"""Neurons and synapses stuck at a value: backends, theory, traces, bad input."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from backend_contract import networks
from exact import PlainNetwork
from hypothesis import given, settings
from hypothesis import strategies as st

import neurosim as ns
from neurosim.errors import InputError

PERSISTENCES = [ns.Permanent(), ns.Transient(), ns.Intermittent(mean_duration=3)]


def by_force(network, inputs, fault_set):
    """Errors (n_inputs, n_outputs): values are set, then zeros."""
    plain, rows = PlainNetwork.of(network), []
    for x, y in enumerate(inputs):
        neurons, synapses = fault_set.masks(x)
        stuck, held = fault_set.values(x)
        values = {(n, i): v for n, i, _, _, v in stuck.tolist()}
        values |= dict.fromkeys(map(tuple, neurons.tolist()), 0.0)
        weights = {(n, i, j): w for n, i, j, _, _, w in held.tolist()}
        weights |= dict.fromkeys(map(tuple, synapses.tolist()), 0.0)
        effect = ([(*k, v) for k, v in values.items()], [(*k, w) for k, w in weights.items()])
        rows.append(plain.with_effect(y, *effect) - plain.with_effect(y))
    return np.array(rows)


@given(case=networks(max_depth=3, max_width=8), data=st.data(), seed=st.integers(0, 100))
@settings(max_examples=60, deadline=None)
def test_backends_set_values_and_zeros_win(case, data, seed):
    network, inputs = case
    some = st.sampled_from(PERSISTENCES)
    faults = [
        ns.StuckAt("neuron", value=-0.7, probability=0.3, persistence=data.draw(some)),
        ns.StuckAt("synapse", value=0.4, probability=0.2, persistence=data.draw(some)),
        ns.StuckAtZero("neuron", probability=0.2, persistence=data.draw(some)),
        ns.StuckAtZero("column", probability=0.1),
    ]
    chosen = [faults[k] for k in data.draw(st.sets(st.integers(0, 3), min_size=1))]
    campaign = ns.Campaign(
        deployment=ns.deploy(network, ns.Chip(name="c", rows=3, columns=2)),
        faults=chosen, inputs=inputs, trials=6, seed=seed, dtype="float64",
    )  # fmt: skip
    for k in range(4):
        fault_set = campaign.fault_set(k)
        expected = by_force(network, inputs, fault_set)
        for backend in ("reference", "compiled"):
            found = ns.evaluate(campaign.deployment, fault_set, inputs, backend=backend)
            np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-11)


def small():
    rng = np.random.default_rng(3)
    network = ns.Network.dense(
        weights=[rng.normal(size=(4, 3)), rng.normal(size=(2, 4))],
        biases=[rng.normal(size=4), rng.normal(size=2)],
        activations=["sigmoid(4)", "identity"],
    )
    return network, rng.normal(size=(3, 3))


def campaign_of(*faults, trials=4000, **options):
    network, inputs = small()
    return ns.Campaign(
        deployment=ns.deploy(network, ns.Chip(name="c", rows=4, columns=2)),
        faults=faults, inputs=inputs, trials=trials, seed=2, **options,
    )  # fmt: skip


ALWAYS_ON = ns.StuckAt("neuron", value="maximum", probability=0.1, layers=[1])
HELD = ns.StuckAt("synapse", value=0.5, probability=0.1, layers=[2])


def test_enumeration_is_the_sum_over_all_sets():
    campaign = campaign_of(
        ALWAYS_ON, ns.StuckAtZero("neuron", probability=0.2, layers=[1]), HELD
    )  # 4 + 4 + 8 sites
    plain = PlainNetwork.of(campaign.network)
    mean, square = np.zeros((2, 2))
    x = campaign.inputs[1]
    golden = plain.with_effect(x)
    for state in product(range(3), repeat=4):  # alive, at the maximum, dead
        neurons = [(1, i, float(s == 1)) for i, s in enumerate(state) if s]
        p_neurons = np.prod([(0.72, 0.08, 0.2)[s] for s in state])
        for bits in product([0, 1], repeat=8):
            synapses = [(2, *divmod(b, 4), 0.5) for b, bit in enumerate(bits) if bit]
            p = p_neurons * 0.1 ** sum(bits) * 0.9 ** (8 - sum(bits))
            change = plain.with_effect(x, neurons, synapses) - golden
            mean, square = mean + p * change, square + p * change**2
    prediction = ns.predict(campaign, "enumeration")
    np.testing.assert_allclose(prediction.mean[1], mean, rtol=1e-10)
    np.testing.assert_allclose(prediction.variance[1], square - mean**2, rtol=1e-9)


@pytest.mark.parametrize("process", [ALWAYS_ON, HELD])
def test_single_faults_are_exact_where_the_rest_is_linear(process):
    campaign = campaign_of(process)
    single, exact = (ns.predict(campaign, method) for method in ("single-fault", "enumeration"))
    assert single.exact
    np.testing.assert_allclose(single.mean, exact.mean, rtol=1e-12)
    np.testing.assert_allclose(single.variance, exact.variance, rtol=1e-11)
    first = ns.predict(campaign, "first-order")
    np.testing.assert_allclose(first.variance, exact.variance, rtol=1e-11)
    kind = f"stuck {process.site}"
    layer = process.layers[0]
    shares = single.site_contributions(kind, layer)
    np.testing.assert_allclose(shares.sum(axis=1), single.variance.mean(axis=0), rtol=1e-12)


@pytest.mark.parametrize("persistence", PERSISTENCES)
def test_simulation_agrees_and_a_wrong_value_is_seen(persistence, tmp_path):
    faults = (
        replace(ALWAYS_ON, persistence=persistence),
        ns.StuckAtZero("neuron", probability=0.05, layers=[1]),
    )
    campaign = campaign_of(*faults, trials=6000, epsilons=[0.3], record=["faults"])
    with ns.run(campaign, tmp_path / "trace.h5", progress=False) as trace:
        right = ns.compare(trace, ns.predict(campaign, "enumeration"), false_alarm_rate=1e-4)
        assert right.agrees, str(right)
        assert trace.fault_set(7) == campaign.fault_set(7)
        assert len(trace.fault_set(7).neuron_values) or len(trace.fault_set(8).neuron_values)
        other = campaign_of(replace(faults[0], value=0.9), faults[1])
        wrong = replace(ns.predict(other, "enumeration"), campaign=campaign)
        assert not ns.compare(trace, wrong, false_alarm_rate=1e-4).agrees


def test_a_trace_is_continued_with_values(tmp_path):
    campaign = campaign_of(ALWAYS_ON, trials=300, record=["faults", "error", "hidden"])
    with ns.run(campaign, tmp_path / "whole.h5", progress=False) as whole:
        errors = np.asarray(whole.errors)
        with ns.run(replace(campaign, trials=100), tmp_path / "part.h5", progress=False) as part:
            np.testing.assert_array_equal(np.asarray(part.errors), errors[:100])
        with ns.run(campaign, tmp_path / "part.h5", progress=False) as continued:
            np.testing.assert_array_equal(np.asarray(continued.errors), errors)
            assert continued.fault_set(299) == campaign.fault_set(299)


def test_a_value_of_0_is_the_same_as_dead():
    inputs = small()[1]
    always = (0, len(inputs))
    deployment = campaign_of(HELD).deployment
    for stuck, dead in (
        ({"neuron_values": [(1, 2, *always, 0.0)]}, {"neurons": [(1, 2, *always)]}),
        ({"synapse_weights": [(2, 0, 1, *always, 0.0)]}, {"synapses": [(2, 0, 1, *always)]}),
    ):
        found = [
            ns.evaluate(deployment, ns.FaultSet(n_presentations=3, **events), inputs)
            for events in (stuck, dead)
        ]
        np.testing.assert_allclose(*found, rtol=1e-13)


def test_bad_values_are_refused():
    with pytest.raises(InputError, match='site: expected "neuron" or "synapse" for a value'):
        ns.StuckAt("core", value=1.0, probability=0.1)
    for value in (float("nan"), "minimum", None, True):
        with pytest.raises(InputError, match="value: expected a finite number"):
            ns.StuckAt("neuron", value=value, probability=0.1)
    with pytest.raises(InputError, match="value: expected a finite number, got 'maximum'"):
        ns.StuckAt("synapse", value="maximum", probability=0.1)
    for layers, what in ((None, "layer 0"), ([2], "layer 2")):
        with pytest.raises(InputError, match=f'expected a number for {what}, got "maximum"'):
            campaign_of(replace(ALWAYS_ON, layers=layers))
    with pytest.raises(InputError, match="expected one StuckAt for neurons of layer 1"):
        campaign_of(ALWAYS_ON, replace(ALWAYS_ON, value=0.5))
    with pytest.raises(InputError, match="spikes carry no values"):
        campaign_of(ALWAYS_ON, backend="spiking-compiled")
    with pytest.raises(InputError, match="one value at a time"):
        ns.FaultSet(n_presentations=3, neuron_values=[(1, 0, 0, 2, 1.0), (1, 0, 1, 3, 2.0)])
    with pytest.raises(InputError, match="expected finite values"):
        ns.FaultSet(n_presentations=3, neuron_values=[(1, 0, 0, 2, float("inf"))])
    events = ns.FaultSet(n_presentations=3, neuron_values=[(1, 9, 0, 3, 1.0)])
    deployment = campaign_of(ALWAYS_ON).deployment
    with pytest.raises(InputError, match="neuron_values: expected unit from 0 to 3 in layer 1"):
        ns.evaluate(deployment, events, small()[1])
    events = ns.FaultSet(n_presentations=3, neuron_values=[(1, 1, 0, 3, 1.0)])
    with pytest.raises(InputError, match="spikes carry no values"):
        ns.evaluate(deployment, events, small()[1], backend="spiking-compiled")


def test_the_maximum_is_that_of_activations_that_have_one():
    from neurosim.physical_sites import stuck_values

    for kind in ("sigmoid(4)", "tanh", "hard_tanh(0.5)", "elu(1)", "mish"):
        network = ns.Network.dense(
            weights=[np.eye(2), np.eye(2)], biases=[[0, 0]] * 2, activations=[kind, "identity"]
        )
        phi = network.layers[0].activation
        if kind in ("elu(1)", "mish"):
            with pytest.raises(InputError, match=f'got "maximum": {phi.kind} has none'):
                stuck_values(network, ALWAYS_ON)
        else:
            assert stuck_values(network, ALWAYS_ON) == {1: phi(np.array([1e3]))[0]}


def test_a_campaign_file_has_values(tmp_path):
    network, inputs = small()
    network.save(tmp_path / "net.npz")
    np.save(tmp_path / "x.npy", inputs)
    (tmp_path / "c.toml").write_text(
        'network = "net.npz"\nchip = "ideal"\ninputs = "x.npy"\ntrials = 5\nseed = 1\n'
        '[[faults]]\nsite = "neuron"\nprobability = 0.1\nlayers = [1]\nvalue = "maximum"\n'
        '[[faults]]\nsite = "synapse"\nprobability = 0.1\nlayers = [2]\nvalue = 0.5\n'
    )
    assert ns.load_campaign(tmp_path / "c.toml").faults == (ALWAYS_ON, HELD)


def test_a_profile_has_values_with_their_source(tmp_path):
    source = 'unit = "1", status = "assumption", source = "test" }\n'
    text = (
        '[chip]\nname = "c"\ndescription = "d"\n'
        f'[[faults]]\nsite = "neuron"\npersistence = "permanent"\nlayers = [1]\n'
        f'value = "maximum"\nprobability = {{ value = 0.1, {source}'
        f'[[faults]]\nsite = "synapse"\npersistence = "permanent"\nlayers = [2]\n'
        f"value = {{ value = 0.5, {source}probability = {{ value = 0.1, {source}"
    )
    path = tmp_path / "chip.toml"
    path.write_text(text)
    chip = ns.Chip.load(path)
    assert chip.faults == (ALWAYS_ON, HELD)
    assert chip.quantities["faults.2.value"].value == 0.5
    for wrong, message in (
        ('value = "full"', "faults"),
        ("value = 1.0", "faults"),  # without its source
        (f"value = {{ value = 1.0, {source.replace('1', 'V', 1)}", "faults.1.value"),
    ):
        path.write_text(text.replace('value = "maximum"', wrong))
        with pytest.raises(ns.errors.NeurosimError, match=message):
            ns.Chip.load(path)
