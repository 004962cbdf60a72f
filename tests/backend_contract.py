"""What every backend must keep; inherit `BackendContract` and say how to make the backend."""

from itertools import pairwise

import numpy as np
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from neurosim.faults import (
    FaultBatch,
    FaultSet,
    Intermittent,
    Permanent,
    Sites,
    StuckAtZero,
    Transient,
)
from neurosim.network import Network
from neurosim.sampling import PlainMonteCarlo, draw


def settings(max_examples):
    """The tests are inherited: each runs for several backends, which hypothesis would warn of."""
    return hypothesis_settings(
        max_examples=max_examples,
        deadline=None,
        suppress_health_check=[HealthCheck.differing_executors],
    )


ACTIVATIONS = ["identity", "relu", "leaky_relu(0.1)", "sigmoid(4)", "tanh", "softplus"]


@st.composite
def networks(draw_one, activations=ACTIVATIONS, max_depth=4, max_width=20):
    """A random network with inputs, some of them 0 as pixels are."""
    rng = np.random.default_rng(draw_one(st.integers(0, 2**32)))
    depth = draw_one(st.integers(1, max_depth))
    widths = [draw_one(st.integers(1, max_width)) for _ in range(depth + 1)]
    chosen = [draw_one(st.sampled_from(activations)) for _ in range(depth)]
    if draw_one(st.booleans()):
        chosen[-1] = "softmax"
    scale = draw_one(st.sampled_from([0.3, 1.0, 3.0]))
    network = Network.dense(
        weights=[scale * rng.normal(size=(b, a)) / np.sqrt(a) for a, b in pairwise(widths)],
        biases=[rng.normal(size=n) for n in widths[1:]],
        activations=chosen,
    )
    inputs = rng.normal(size=(draw_one(st.integers(1, 4)), widths[0]))
    inputs[rng.random(inputs.shape) < 0.3] = 0
    return network, inputs


PERSISTENCES = [Permanent(), Transient(), Intermittent(mean_duration=3)]
processes = st.lists(
    st.builds(
        StuckAtZero,
        st.sampled_from(["neuron", "synapse"]),
        probability=st.sampled_from([0.01, 0.1, 0.5]),
        persistence=st.sampled_from(PERSISTENCES),
    ),
    min_size=1,
    max_size=3,
)


def batch_for(network, inputs, faults, n_trials=6, seed=0):
    sites = Sites(network.widths)
    return draw(faults, PlainMonteCarlo(), sites, len(inputs), seed, 0, n_trials)


def one(network, inputs, **events):
    return FaultBatch.of(FaultSet(n_presentations=len(inputs), **events), Sites(network.widths))


class BackendContract:
    """Tests that hold for every backend."""

    tolerance = 1e-12  # of golden outputs against the plain forward pass, absolute and relative

    def make(self, network, inputs):
        raise NotImplementedError

    @given(case=networks())
    @settings(max_examples=25)
    def test_golden_outputs_are_those_of_the_network(self, case):
        network, inputs = case
        golden = self.make(network, inputs).golden
        np.testing.assert_allclose(
            golden, network(inputs), rtol=self.tolerance, atol=self.tolerance
        )

    @given(case=networks())
    @settings(max_examples=15)
    def test_no_fault_is_exactly_no_error(self, case):
        network, inputs = case
        assert not self.make(network, inputs).errors(one(network, inputs)).any()

    @given(case=networks())
    @settings(max_examples=25)
    def test_with_every_last_hidden_neuron_dead_only_biases_are_left(self, case):
        network, inputs = case
        layer = network.depth - 1
        dead = [(layer, i, 0, len(inputs)) for i in range(network.widths[layer])]
        backend = self.make(network, inputs)
        last = network.layers[-1]
        silent = network.read_out(last.activation(last.bias))
        np.testing.assert_allclose(
            backend.golden + backend.errors(one(network, inputs, neurons=dead))[0],
            np.broadcast_to(silent, (len(inputs), len(silent))),
            rtol=self.tolerance,
            atol=self.tolerance,
        )

    @given(case=networks(max_depth=3))
    @settings(max_examples=25)
    def test_a_dead_neuron_is_its_outgoing_synapses_dead(self, case):
        network, inputs = case
        always = (0, len(inputs))
        backend = self.make(network, inputs)
        for layer in range(network.depth):
            neuron = backend.errors(one(network, inputs, neurons=[(layer, 0, *always)]))
            fan_out = [(layer + 1, i, 0, *always) for i in range(network.widths[layer + 1])]
            np.testing.assert_allclose(
                neuron,
                backend.errors(one(network, inputs, synapses=fan_out)),
                rtol=1e3 * self.tolerance,
                atol=self.tolerance,
            )

    @given(case=networks(), faults=processes)
    @settings(max_examples=40)
    def test_errors_are_those_of_forced_zeros(self, case, faults):
        network, inputs = case
        batch = batch_for(network, inputs, faults)
        errors = self.make(network, inputs).errors(batch)
        for t, fault_set in enumerate(batch):
            np.testing.assert_allclose(
                errors[t],
                forced(network, inputs, fault_set),
                rtol=self.tolerance,
                atol=self.tolerance,
            )

    @given(case=networks(), faults=processes, order=st.permutations(range(6)))
    @settings(max_examples=15)
    def test_the_order_of_trials_does_not_matter(self, case, faults, order):
        network, inputs = case
        backend = self.make(network, inputs)
        batch = batch_for(network, inputs, faults)
        together = backend.errors(batch)
        for t in order:
            alone = backend.errors(FaultBatch.of(batch[t], batch.sites))
            np.testing.assert_allclose(
                alone[0], together[t], rtol=self.tolerance, atol=self.tolerance
            )

    @given(case=networks(), faults=processes)
    @settings(max_examples=15)
    def test_hidden_errors_end_in_the_errors(self, case, faults):
        network, inputs = case
        backend = self.make(network, inputs)
        batch = batch_for(network, inputs, faults)
        errors, hidden = backend.errors_and_hidden(batch)
        np.testing.assert_allclose(
            errors, backend.errors(batch), rtol=self.tolerance, atol=self.tolerance
        )
        assert [h.shape[2] for h in hidden] == list(network.widths[1:-1])
        for t, fault_set in enumerate(batch):
            for layer, change in enumerate(hidden, start=1):
                np.testing.assert_allclose(
                    change[t],
                    forced(network, inputs, fault_set, layer),
                    rtol=self.tolerance,
                    atol=self.tolerance,
                )


def forced(network, inputs, fault_set, layer=None):
    """Errors of layer `layer` (the outputs by default) by forcing zeros, input by input."""

    def outputs(faulty):
        rows = []
        for x, y in enumerate(inputs.copy()):
            neurons, synapses = fault_set.masks(x)
            for number in range(network.depth + 1):
                if number:
                    one_layer = network.layers[number - 1]
                    weight = one_layer.weight.copy()
                    for at, out, unit in synapses:
                        if faulty and at == number:
                            weight[out, unit] = 0
                    y = one_layer.activation(weight @ y + one_layer.bias)
                for at, unit in neurons:
                    if faulty and at == number:
                        y[unit] = 0
                if number == layer:
                    break
            rows.append(network.read_out(y) if layer is None else y)
        return np.array(rows)

    return outputs(True) - outputs(False)
