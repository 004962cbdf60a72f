"""Spiking backends: equal to each other spike for spike, and to the rate network in the limit."""

from dataclasses import replace
from itertools import pairwise

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import neurosim as ns
from neurosim.backends import make_backend
from neurosim.backends.spiking import brian_backend, compiled_backend
from neurosim.errors import InputError, TraceError
from neurosim.faults import FaultBatch, Sites
from neurosim.report.rasters import _united
from neurosim.sampling import PlainMonteCarlo, draw


def random_network(activations, widths, seed=0, scale=1.0):
    rng = np.random.default_rng(seed)
    network = ns.Network.dense(
        weights=[scale * rng.normal(size=(b, a)) / np.sqrt(a) for a, b in pairwise(widths)],
        biases=[0.3 * rng.normal(size=n) for n in widths[1:]],
        activations=activations,
    )
    inputs = rng.normal(size=(3, widths[0]))
    inputs[:, ::3] = 0
    return network, inputs


def batch_for(network, inputs, model, n_trials=8, seed=0, p=0.1):
    faults = [
        ns.StuckAtZero("neuron", probability=p, layers=range(network.depth + 1)),
        ns.StuckAtZero("neuron", probability=p, persistence=ns.Transient()),
        ns.StuckAtZero("synapse", probability=p, persistence=ns.Intermittent(mean_duration=2)),
    ]
    sites, windows = Sites(network.widths), len(inputs) * model.ticks
    return draw(faults, PlainMonteCarlo(), sites, windows, seed, 0, n_trials)


def one(network, inputs, model, **events):
    fault_set = ns.FaultSet(n_presentations=len(inputs) * model.ticks, **events)
    return FaultBatch.of(fault_set, Sites(network.widths))


def same(one_backend, other, batch):
    """Whether two backends give the same spikes, one by one."""
    ours, theirs = one_backend.rasters(batch), other.rasters(batch)
    return all(np.array_equal(value, vars(theirs)[name]) for name, value in vars(ours).items())


MODELS = {
    "plain": ns.SpikingModel(duration_s=0.05),
    "membrane": ns.SpikingModel(duration_s=0.04, readout="membrane", ticks=4),
    "regular": ns.SpikingModel(duration_s=0.04, coding="regular", ticks=2, threshold_v=0.015),
    "poisson, refractory": ns.SpikingModel(
        duration_s=0.06, coding="poisson", refractory_s=3e-3, ticks=6
    ),
    "leaky": ns.SpikingModel(duration_s=0.05, neuron="lif", membrane_time_constant_s=0.02, ticks=5),
    "leaky with synaptic currents": ns.SpikingModel(
        duration_s=0.05,
        coding="regular",
        neuron="lif",
        membrane_time_constant_s=0.02,
        synaptic_time_constant_s=0.005,
    ),
    "reset to zero": ns.SpikingModel(duration_s=0.05, reset="zero", ticks=5),
}
NETWORKS = {
    "rectified": ["relu", "relu", "relu"],
    "signed": ["relu", "identity", "identity"],
    "curved": ["tanh", "leaky_relu(0.1)", "softplus"],
    "with a read-out": ["sigmoid(4)", "tanh", "softmax"],
}


@pytest.mark.parametrize("activations", NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_the_kernel_gives_the_spikes_of_brian2(model, activations):
    network, inputs = random_network(activations, [7, 6, 5, 4])
    if activations[0] != "relu" and model.neuron == "lif":
        pytest.skip("refused, see below")
    if activations != NETWORKS["rectified"] and model.reset == "zero":
        pytest.skip("refused, see below")
    ours = compiled_backend(network, inputs, "float64", model)
    oracle = brian_backend(network, inputs, "float64", model, "numpy")
    batch = batch_for(network, inputs, model)
    errors, hidden = ours.errors_and_hidden(batch)
    assert errors.any()
    expected, expected_hidden = oracle.errors_and_hidden(batch)
    np.testing.assert_array_equal(ours.golden, oracle.golden)
    np.testing.assert_array_equal(errors, expected)
    for mine, theirs in zip(hidden, expected_hidden, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    np.testing.assert_array_equal(
        ours.errors_hidden_and_rates(batch)[2], oracle.errors_hidden_and_rates(batch)[2]
    )
    assert same(ours, oracle, batch)


@pytest.mark.full
def test_compiled_code_of_brian2_gives_the_same_spikes():
    # "auto" takes cython where there is a compiler, else numpy: either way the same spikes.
    model = MODELS["leaky with synaptic currents"]
    network, inputs = random_network(["relu", "relu"], [5, 4, 3])
    batch = batch_for(network, inputs, model)
    ours = compiled_backend(network, inputs, "float64", model)
    assert same(ours, brian_backend(network, inputs, "float64", model), batch)


def test_many_trials_of_brian2_are_split_into_networks_that_fit(monkeypatch):
    from neurosim.backends.spiking import brian

    model = ns.SpikingModel(duration_s=0.02, ticks=2)
    network, inputs = random_network(["relu", "relu"], [5, 4, 3])
    batch = batch_for(network, inputs, model, n_trials=7)
    whole = brian_backend(network, inputs, "float64", model, "numpy")
    monkeypatch.setattr(brian, "_MOST_SYNAPSES", 3 * (5 * 4 + 4 * 3))
    split = brian_backend(network, inputs, "float64", model, "numpy")
    assert same(whole, split, batch)
    np.testing.assert_array_equal(whole.errors(batch), split.errors(batch))


def test_the_preferences_of_brian2_stay_those_of_the_user():
    import brian2

    before = brian2.prefs.codegen.target
    network, inputs = random_network(["relu"], [3, 2])
    brian_backend(network, inputs, "float64", ns.SpikingModel(duration_s=0.01), "numpy")
    assert brian2.prefs.codegen.target == before
    with pytest.raises(InputError, match="target: expected"):
        brian_backend(network, inputs, "float64", ns.SpikingModel(), "fortran")


class SpikingContract:
    """What the backend contract asks, where it applies to spikes."""

    def make(self, network, inputs, model):
        raise NotImplementedError

    @pytest.mark.parametrize("coding", ["current", "regular", "poisson"])
    def test_no_fault_is_the_golden_run_spike_for_spike(self, coding):
        model = ns.SpikingModel(duration_s=0.03, coding=coding, ticks=3)
        network, inputs = random_network(["relu", "tanh", "identity"], [6, 5, 4, 3])
        backend = self.make(network, inputs, model)
        nothing = one(network, inputs, model)
        assert not backend.errors(nothing).any()
        golden, again = backend.rasters(), backend.rasters(nothing)
        assert len(golden.unit)
        for name, values in vars(golden).items():
            np.testing.assert_array_equal(values, vars(again)[name])

    @pytest.mark.parametrize("readout", ["count", "membrane"])
    def test_with_every_hidden_neuron_dead_only_biases_are_left(self, readout):
        model = ns.SpikingModel(duration_s=0.1, readout=readout)
        network, inputs = random_network(["relu", "relu"], [6, 5, 4])
        backend = self.make(network, inputs, model)
        dead = [(1, unit, 0, len(inputs)) for unit in range(5)]
        batch = one(network, inputs, model, neurons=dead)
        rasters = backend.rasters(batch)
        assert not (rasters.layer == 1).any()
        left = backend.golden + backend.errors(batch)[0]
        expected = np.maximum(network.layers[1].bias, 0)
        scale = model.scales_of(network.activations(inputs))[2]
        tolerance = 1e-12 if readout == "membrane" else scale / 99 + 1e-12
        np.testing.assert_allclose(left, np.tile(expected, (3, 1)), atol=tolerance)

    def test_all_dead_is_silence(self):
        model = ns.SpikingModel(duration_s=0.05, coding="regular")
        network, inputs = random_network(["relu", "sigmoid(4)", "identity"], [6, 5, 4, 3])
        backend = self.make(network, inputs, model)
        widths = network.widths
        dead = [(layer, i, 0, 3) for layer in range(4) for i in range(widths[layer])]
        batch = one(network, inputs, model, neurons=dead)
        assert len(backend.rasters(batch).unit) == 0
        np.testing.assert_array_equal(backend.golden + backend.errors(batch)[0], 0)

    def test_a_dead_neuron_is_its_outgoing_synapses_dead(self):
        model = ns.SpikingModel(duration_s=0.05, coding="regular", ticks=5)
        network, inputs = random_network(["relu", "tanh", "identity"], [6, 5, 4, 3])
        backend = self.make(network, inputs, model)
        for layer in range(3):
            fan_out = [(layer + 1, i, 1, 2, 9) for i in range(network.widths[layer + 1])]
            np.testing.assert_array_equal(
                backend.errors(one(network, inputs, model, neurons=[(layer, 1, 2, 9)])),
                backend.errors(one(network, inputs, model, synapses=fan_out)),
            )

    def test_the_order_of_trials_does_not_matter(self):
        model = ns.SpikingModel(duration_s=0.04, ticks=4)
        network, inputs = random_network(["relu", "sigmoid(4)", "identity"], [6, 5, 4, 3])
        backend = self.make(network, inputs, model)
        batch = batch_for(network, inputs, model, n_trials=5)
        together = backend.errors(batch)
        assert together.any()
        for t in (3, 0, 4, 1, 2):
            alone = backend.errors(FaultBatch.of(batch[t], batch.sites))
            np.testing.assert_array_equal(alone[0], together[t])

    def test_a_window_within_one_inference_silences_a_neuron_in_it_and_no_longer(self):
        model = ns.SpikingModel(duration_s=0.1, ticks=10)
        network, inputs = random_network(["relu", "relu"], [6, 5, 4], seed=3)
        backend = self.make(network, inputs, model)
        golden = backend.rasters()
        here = (golden.layer == 1) & (golden.presentation == 1)
        unit = int(np.bincount(golden.unit[here], minlength=5).argmax())
        # Presentation 1, ticks 3 to 6: steps 30 to 69.
        rasters = backend.rasters(one(network, inputs, model, neurons=[(1, unit, 13, 17)]))

        def steps(r, presentation):
            return r.step[(r.layer == 1) & (r.unit == unit) & (r.presentation == presentation)]

        before = steps(golden, 1)
        inside = (before >= 30) & (before < 70)
        assert inside.any()
        assert not inside.all()
        np.testing.assert_array_equal(steps(rasters, 1), before[~inside])
        for presentation in (0, 2):
            np.testing.assert_array_equal(steps(rasters, presentation), steps(golden, presentation))

    def test_fault_sets_of_other_windows_are_refused(self):
        model = ns.SpikingModel(duration_s=0.02, ticks=2)
        network, inputs = random_network(["relu"], [3, 2])
        with pytest.raises(InputError, match="expected windows in 6 ticks, 2 for each of 3"):
            self.make(network, inputs, model).errors(one(network, inputs, ns.SpikingModel()))


class TestCompiled(SpikingContract):
    def make(self, network, inputs, model):
        return compiled_backend(network, inputs, "float64", model)


class TestBrian(SpikingContract):
    def make(self, network, inputs, model):
        return brian_backend(network, inputs, "float64", model, "numpy")


def slope(durations, errors):
    return np.polyfit(np.log(durations), np.log(errors), 1)[0]


@pytest.mark.parametrize(
    ("activations", "coding", "expected"),
    [
        (["relu", "relu", "identity"], "current", -1),
        (["relu", "relu", "identity"], "regular", -1),
        (["sigmoid(4)", "sigmoid(4)", "identity"], "current", -1),
        (["tanh", "softplus", "leaky_relu(0.2)"], "regular", -1),
        (["relu", "relu", "identity"], "poisson", -0.5),
        (["sigmoid(4)", "tanh", "identity"], "poisson", -0.5),
    ],
)
def test_outputs_converge_to_the_rate_network(activations, coding, expected):
    # Counts are off by a bounded number of spikes: the error falls as 1 / duration. Random input
    # trains are off by the square root of their length.
    network, _ = random_network(activations, [20, 15, 12, 6], seed=4)
    inputs = np.random.default_rng(5).normal(size=(12, 20))
    durations = np.array([0.128, 0.256, 0.512, 1.024, 2.048, 4.096])
    errors = []
    for duration in durations:
        model = ns.SpikingModel(duration_s=duration, coding=coding)
        golden = compiled_backend(network, inputs, "float64", model).golden
        errors.append(np.sqrt(np.mean((golden - network(inputs)) ** 2)))
    assert slope(durations, errors) == pytest.approx(expected, abs=0.15)


def test_synaptic_currents_bring_the_same_charge():
    # What is still on its way at the end is missing: the error falls as 1 / duration too.
    network, _ = random_network(["relu", "sigmoid(4)", "identity"], [20, 15, 12, 6], seed=4)
    inputs = np.random.default_rng(5).normal(size=(12, 20))
    durations, errors = np.array([0.256, 0.512, 1.024, 2.048]), []
    for duration in durations:
        model = ns.SpikingModel(
            duration_s=duration, coding="regular", synaptic_time_constant_s=5e-3
        )
        golden = compiled_backend(network, inputs, "float64", model).golden
        errors.append(np.sqrt(np.mean((golden - network(inputs)) ** 2)))
    assert slope(durations, errors) == pytest.approx(-1, abs=0.15)


def test_a_neuron_spikes_at_the_rate_of_its_current():
    # Drive 3 / 8 of the threshold a step: floor(3 k / 8) spikes in k steps, by subtraction.
    network = ns.Network.dense(weights=[[[0.375]]], biases=[[0.0]], activations=["relu"])
    for n_steps in (10, 11, 20, 99):
        model = ns.SpikingModel(duration_s=n_steps * 1e-3, scales=(1.0, 1.0), threshold_v=0.5)
        golden = compiled_backend(network, np.array([[1.0]]), "float64", model).golden
        assert golden[0, 0] * n_steps == pytest.approx(np.floor(0.375 * n_steps))


def test_deep_layers_are_read_over_the_steps_in_which_they_ran():
    # A spike in every step of every layer: activity 1 exactly, though layer 4 begins in step 3.
    network = ns.Network.dense(weights=[[[1.0]]] * 4, biases=[[0.0]] * 4, activations=["relu"] * 4)
    for readout in ("count", "membrane"):
        model = ns.SpikingModel(duration_s=0.02, scales=(1.0,) * 5, readout=readout)
        assert compiled_backend(network, np.array([[1.0]]), "float64", model).golden == 1


def test_refractory_neurons_rest_as_long_as_they_must():
    network = ns.Network.dense(weights=[[[10.0]]], biases=[[0.0]], activations=["relu"])
    model = ns.SpikingModel(duration_s=0.02, refractory_s=4e-3, scales=(1.0, 1.0))
    rasters = compiled_backend(network, np.array([[1.0]]), "float64", model).rasters()
    np.testing.assert_array_equal(np.diff(rasters.step), 4)


def test_a_leaky_neuron_below_its_threshold_is_silent():
    # The membrane ends at drive * tau / dt = 0.9 thresholds.
    network = ns.Network.dense(weights=[[[0.045]]], biases=[[0.0]], activations=["relu"])
    lif = ns.SpikingModel(
        duration_s=0.5, neuron="lif", membrane_time_constant_s=0.02, scales=(1.0, 1.0)
    )
    inputs = np.array([[1.0]])
    assert not len(compiled_backend(network, inputs, "float64", lif).rasters().unit)
    assert len(compiled_backend(network, inputs * 1.2, "float64", lif).rasters().unit)


@given(seed=st.integers(0, 2**32), p=st.sampled_from([0.01, 0.3]), ticks=st.sampled_from([1, 4]))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_replayed_spikes_are_those_of_a_run_from_the_start(seed, p, ticks):
    # A fault that changes nothing (a dead synapse of weight 0 in layer 1) makes the kernel run
    # every layer; without it, it replays the layers before the first fault.
    network, inputs = random_network(["relu", "tanh", "relu"], [6, 6, 5, 4], seed=seed % 1000)
    weight = network.layers[0].weight.copy()
    weight[0, 0] = 0
    first = replace(network.layers[0], weight=weight)
    network = ns.Network(layers=(first, *network.layers[1:]))
    model = ns.SpikingModel(duration_s=0.04, coding="regular", ticks=ticks)
    backend = compiled_backend(network, inputs, "float64", model)
    batch = batch_for(network, inputs, model, seed=seed % 1000, p=p)
    windows = len(inputs) * ticks
    for fault_set in batch:
        extended = ns.FaultSet(
            n_presentations=windows,
            neurons=fault_set.neurons,
            synapses=[*fault_set.synapses.tolist(), (1, 0, 0, 0, windows)],
        )
        np.testing.assert_array_equal(
            backend.errors(FaultBatch.of(fault_set, batch.sites)),
            backend.errors(FaultBatch.of(extended, batch.sites)),
        )


@pytest.mark.parametrize(
    ("activation", "options", "why"),
    [
        ("tanh", {"neuron": "lif", "membrane_time_constant_s": 0.02}, "expected relu or identity"),
        ("identity", {"reset": "zero"}, 'expected relu for reset "zero"'),
        ("sigmoid(4)", {"reset": "zero"}, 'expected relu for reset "zero"'),
        ("relu", {"scales": (1.0,)}, "scales: expected 3"),
        ("relu", {"duration_s": 0.001}, "duration_s: expected more than 1 time steps"),
    ],
)
def test_what_a_model_cannot_represent_is_refused_with_the_reason(activation, options, why):
    network, inputs = random_network([activation, "relu"], [3, 3, 2])
    with pytest.raises(InputError, match=why):
        compiled_backend(network, inputs, "float64", ns.SpikingModel(**options))


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"duration_s": 0.0}, "duration_s: expected a finite number above 0"),
        ({"duration_s": 1.5e-3}, "duration_s: expected a whole number of time steps"),
        ({"refractory_s": 1.5e-3}, "refractory_s: expected a whole number of time steps"),
        ({"refractory_s": -1}, "refractory_s: expected seconds from 0 on"),
        ({"neuron": "hh"}, 'neuron: expected one of "if", "lif"'),
        ({"neuron": "lif"}, "membrane_time_constant_s: expected one for neuron"),
        ({"membrane_time_constant_s": 1.0}, "membrane_time_constant_s: expected one for neuron"),
        ({"synaptic_time_constant_s": 1e-4}, "expected more than the time step"),
        ({"maximum_rate_hz": 2000}, "maximum_rate_hz: expected at most 1000 Hz"),
        ({"percentile": 0}, "percentile: expected a number in"),
        ({"ticks": 3}, "ticks: expected a divisor of the 256 time steps"),
        ({"ticks": 0}, "ticks: expected a whole number from 1 on"),
        ({"ticks": 2.0}, "ticks: expected a whole number, got 2.0"),
        ({"scales": (1.0, 0.0)}, "scales: expected finite numbers above 0"),
        ({"scales": "many"}, "scales: expected numbers"),
    ],
)
def test_models_are_checked_at_the_door(options, why):
    with pytest.raises(InputError, match=why):
        ns.SpikingModel(**options)


def test_scales_come_from_calibration_inputs():
    network, inputs = random_network(["relu", "identity"], [4, 4, 2])
    model = ns.SpikingModel(percentile=90).calibrated(network, inputs)
    layers = network.activations(inputs)
    expected = [np.percentile(np.abs(y), 90) for y in layers]
    np.testing.assert_allclose(model.scales, expected)
    silent = ns.SpikingModel(percentile=10).calibrated(network, np.zeros((1, 4)))
    assert silent.scales[0] == 1.0
    assert min(silent.scales) > 0


@pytest.fixture
def campaign():
    network, inputs = random_network(["relu", "relu", "identity"], [6, 5, 4, 3])
    return ns.Campaign(
        deployment=ns.deploy(network, ns.Chip.load("ideal")),
        faults=[ns.StuckAtZero("neuron", probability=0.1, persistence=ns.Transient())],
        inputs=inputs,
        trials=20,
        seed=1,
        backend="spiking-compiled",
        spiking=ns.SpikingModel(duration_s=0.04, ticks=4),
        record=("faults", "error", "hidden", "spikes"),
    )


def test_the_trace_holds_rates_and_spikes(campaign, tmp_path):
    with ns.run(campaign, tmp_path / "t.h5", progress=False) as trace:
        backend = make_backend(
            "spiking-compiled", campaign.network, campaign.inputs, "float32", campaign.spiking
        )
        batch = campaign.fault_batch(0, 20)
        np.testing.assert_array_equal(trace.golden, backend.golden)
        np.testing.assert_array_equal(np.asarray(trace.errors), backend.errors(batch))
        assert trace.rates.shape == (20, 3, 4)
        for k in (0, 7, 19):
            assert trace.fault_set(k) == campaign.fault_set(k)
            spikes = trace.spikes(k)
            rasters = backend.rasters(FaultBatch.of(campaign.fault_set(k), batch.sites))
            for name in spikes.dtype.names:
                np.testing.assert_array_equal(spikes[name], vars(rasters)[name])
            here = spikes[(spikes["presentation"] == 1) & (spikes["layer"] == 2)]
            assert trace.rates[k, 1, 2] == pytest.approx(len(here) / 4 / 0.04)
        with h5py.File(tmp_path / "t.h5") as file:
            assert set(file["trials"]) >= {"rates", "spikes"}
            assert set(file["trials/spikes"]) == {"offsets", *spikes.dtype.names}
        with pytest.raises(InputError, match="k: expected a trial from 0 to 19"):
            trace.spikes(20)


def test_a_spiking_campaign_goes_on_where_it_stopped(campaign, tmp_path):
    with ns.run(campaign, tmp_path / "whole.h5", progress=False) as whole:
        ns.run(replace(campaign, trials=9), tmp_path / "t.h5", progress=False).close()
        with ns.run(campaign, tmp_path / "t.h5", progress=False) as trace:
            np.testing.assert_array_equal(np.asarray(trace.rates), np.asarray(whole.rates))
            for k in range(20):
                np.testing.assert_array_equal(trace.spikes(k), whole.spikes(k))


def test_brian2_runs_campaigns(campaign, tmp_path, monkeypatch):
    from neurosim.backends.spiking import brian

    # Compiling takes minutes on some machines; the compiled code has a test of its own.
    settings_of = brian._settings
    monkeypatch.setattr(brian, "_settings", lambda target: settings_of("numpy"))
    with (
        ns.run(replace(campaign, backend="spiking"), tmp_path / "b.h5", progress=False) as oracle,
        ns.run(campaign, tmp_path / "c.h5", progress=False) as trace,
    ):
        assert oracle.fingerprint != trace.fingerprint
        np.testing.assert_array_equal(np.asarray(oracle.errors), np.asarray(trace.errors))


def test_rate_campaigns_have_neither_rates_nor_spikes(campaign, tmp_path):
    plain = replace(campaign, backend="compiled", spiking=None, record=())
    with ns.run(plain, tmp_path / "t.h5", progress=False) as trace:
        with pytest.raises(TraceError, match="expected the trace of a spiking campaign"):
            _ = trace.rates
        with pytest.raises(TraceError, match='record=\\("spikes",\\)'):
            trace.spikes(0)
    with pytest.raises(InputError, match="record: expected spikes with a spiking backend only"):
        replace(plain, record=("spikes",))
    with pytest.raises(InputError, match="spiking: expected a spiking model with a spiking back"):
        replace(plain, spiking=ns.SpikingModel())
    with pytest.raises(InputError, match="spiking: expected SpikingModel"):
        replace(campaign, spiking={"ticks": 2})


def test_every_parameter_is_part_of_the_fingerprint(campaign):
    models = [campaign.spiking, replace(campaign.spiking, ticks=2)]
    models += [replace(campaign.spiking, readout="membrane"), ns.SpikingModel()]
    prints = {replace(campaign, spiking=model).fingerprint for model in models}
    assert len(prints) == len(models)


def test_faults_within_an_inference_are_beyond_the_theory(campaign):
    with pytest.raises(InputError, match="ticks: expected 1 tick a presentation"):
        ns.predict(campaign)
    permanent = [ns.StuckAtZero("neuron", probability=0.1)]
    assert ns.predict(replace(campaign, faults=permanent)).mean.shape == (3, 3)


def test_a_chip_brings_its_neurons(tmp_path):
    chip = ns.Chip.load("truenorth")
    assert chip.spiking == ns.SpikingModel(
        duration_s=0.256, time_step_s=1e-3, maximum_rate_hz=1000.0
    )
    network, inputs = random_network(["relu"], [3, 2])
    campaign = ns.Campaign(
        deployment=ns.deploy(network, chip), inputs=inputs, trials=1, seed=0, backend="spiking"
    )
    assert campaign.spiking == chip.spiking
    profile = tmp_path / "c.toml"
    text = '[chip]\nname = "c"\ndescription = ""\n[neurons]\n%s = '
    text += '{ value = 0.02, unit = "s", status = "assumption", source = "none" }\n'
    profile.write_text(text % "membrane_time_constant_s")
    assert ns.Chip.load(profile).spiking.neuron == "lif"
    profile.write_text(text % "time_stepp_s")
    with pytest.raises(InputError, match="did you mean time_step_s"):
        ns.Chip.load(profile)


def test_campaign_files_know_spiking_models(tmp_path):
    network, inputs = random_network(["relu"], [3, 2])
    network.save(tmp_path / "n.npz")
    np.save(tmp_path / "x.npy", inputs)
    text = (
        'network = "n.npz"\nchip = "ideal"\ninputs = "x.npy"\ntrials = 3\nseed = 1\n'
        'backend = "spiking-compiled"\n[[faults]]\nsite = "neuron"\nprobability = 0.1\n[spiking]\n'
    )
    path = tmp_path / "c.toml"
    path.write_text(text + "duration_s = 0.1\nticks = 2\n")
    assert ns.load_campaign(path).spiking == ns.SpikingModel(duration_s=0.1, ticks=2)
    path.write_text(text + "tick = 2\n")
    with pytest.raises(InputError, match=r"spiking: expected keys .* did you mean ticks"):
        ns.load_campaign(path)


def test_evaluate_knows_ticks():
    network, inputs = random_network(["relu", "identity"], [3, 3, 2])
    deployment = ns.deploy(network, ns.Chip.load("ideal"))
    model = ns.SpikingModel(duration_s=0.1, ticks=4)
    faults = ns.FaultSet(n_presentations=12, neurons=[(0, 1, 5, 7)])
    errors = ns.evaluate(deployment, faults, inputs, backend="spiking-compiled", spiking=model)
    assert errors[1].any()
    assert not errors[[0, 2]].any()
    wrong = ns.FaultSet(n_presentations=3)
    with pytest.raises(InputError, match="expected one of 12 windows, 4 ticks for each of 3"):
        ns.evaluate(deployment, wrong, inputs, backend="spiking-compiled", spiking=model)


def test_the_demo_network_keeps_its_accuracy_in_spikes():
    from neurosim import data

    network = ns.Network.load(data.network_path())
    with np.load(data.images_path()) as images:
        inputs, labels = images["inputs"].astype(np.float64), images["targets"]
    spiking = compiled_backend(network, inputs, "float64", ns.SpikingModel(duration_s=0.064))
    rate = (network(inputs).argmax(axis=1) == labels).mean()
    assert abs((spiking.golden.argmax(axis=1) == labels).mean() - rate) <= 0.02


def test_reports_show_spikes_around_a_fault_and_the_error_in_time(campaign, tmp_path):
    page = ns.write_report(campaign, tmp_path / "r")
    text = page.read_text()
    assert "Spikes around a fault" in text
    assert (tmp_path / "r" / "raster.png").stat().st_size > 1000
    assert (tmp_path / "r" / "error-in-time.png").stat().st_size > 1000
    whole = replace(campaign, spiking=replace(campaign.spiking, ticks=1), record=())
    with ns.run(whole, tmp_path / "t.h5", progress=False) as trace:
        comparison = ns.compare(trace, ns.predict(whole))
    assert "The error in time" in ns.write_report(comparison, tmp_path / "c").read_text()
    harmless = replace(campaign, faults=[ns.StuckAtZero("neuron", probability=0.0)])
    assert "No fault changed an output" in ns.write_report(harmless, tmp_path / "h").read_text()
    with pytest.raises(InputError, match="expected one with a spiking backend"):
        ns.write_report(replace(campaign, backend="compiled", spiking=None, record=()), tmp_path)


def test_the_error_in_time_ends_at_the_error(campaign):
    from neurosim.report import rasters

    case = rasters.worst_case(campaign)
    figure = rasters.error_in_time(case)
    ends = [line.get_ydata()[-1] for line in figure.axes[0].get_lines()[:3]]
    batch = campaign.fault_batch(case.trial, case.trial + 1)
    expected = case.backend.errors(batch)[0, case.presentation]
    np.testing.assert_allclose(ends, expected, rtol=1e-5, atol=1e-7)
    assert all(0 <= a < b <= 0.04 for a, b in case.windows)


def test_windows_in_which_something_is_dead_are_shaded_once():
    spans = [(4, 6), (0, 2), (1, 3), (6, 7), (9, 10), (4, 5)]
    assert _united(spans) == [(0, 3), (4, 7), (9, 10)]
