"""Compensation and balanced copies: exact by enumeration, and their gains beside simulation."""

from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pytest
from exact import PlainNetwork, enumerate_faults
from hypothesis import given, settings
from hypothesis import strategies as st

import neurosim as ns
from neurosim.errors import InputError
from neurosim.theory.continuity import balanced_copies, balanced_widths, compensated, duplicate


def network_of(activation, widths=(2, 4, 3, 2), seed=0):
    rng = np.random.default_rng(seed)
    return ns.Network.dense(
        weights=[rng.normal(size=(n, m)) for m, n in pairwise(widths)],
        biases=[rng.normal(size=n) for n in widths[1:]],
        activations=[activation] * (len(widths) - 2) + ["identity"],
    )


INPUTS = np.array([[0.5, -1.0], [1.5, 0.3]])


def law(network, x, sites, p, golden):
    """Exact mean, variance and mean square of the error from given golden outputs."""
    plain = PlainNetwork.of(network)
    exact = enumerate_faults(plain, x, sites, p)
    mean = exact.mean + plain.forward(x)[0] - golden
    return mean, exact.variance, mean**2 + exact.variance


@pytest.mark.parametrize("x", INPUTS)
def test_compensation_makes_the_mean_error_zero_for_a_linear_network_only(x):
    p = [0.2, 0.1, 0.3]
    for activation, zero in (("identity", True), ("tanh", False)):
        network = network_of(activation)
        sites = PlainNetwork.of(network).neurons(0, 1, 2)
        each = [p[site[1]] for site in sites]
        golden = network(x[None])[0]
        after = compensated(network, p)
        assert (after.readout, after.input_shape) == (network.readout, network.input_shape)
        mean = law(after, x, sites, each, golden)[0]
        assert (abs(mean).max() < 1e-12) == zero
        assert abs(law(network, x, sites, each, golden)[0]).max() > 0.1
        # The golden output itself is another.
        assert abs(after(x[None])[0] - golden).max() > 0.1
        # One layer's factor left out is seen.
        wrong = law(compensated(network, [0.2, 0, 0.3]), x, sites, each, golden)[0]
        assert abs(wrong).max() > 1e-3


def test_compensation_of_synapses_and_neurons_and_the_variance_of_one_layer():
    network, p, q, x = network_of("identity", (2, 3, 1)), 0.2, 0.1, INPUTS[0]
    plain, golden = PlainNetwork.of(network), network(x[None])[0]
    sites = plain.neurons(1) + plain.synapses(2)
    after = compensated(network, [0, 1 - (1 - p) * (1 - q)])
    mean = law(after, x, sites, [p] * 3 + [q] * 3, golden)[0]
    assert abs(mean).max() < 1e-12
    sites = plain.neurons(1)
    before = law(network, x, sites, p, golden)[1]
    after = law(compensated(network, [0, p]), x, sites, p, golden)[1]
    np.testing.assert_allclose(after, before / (1 - p) ** 2, rtol=1e-12)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 4), st.floats(0, 1) | st.just(0.0)), min_size=1, max_size=3
    ).filter(lambda layers: any(v for _, v in layers)),
    st.integers(0, 12),
)
def test_balanced_copies_are_the_best_of_all_choices(layers, more):
    widths, variances = (np.array(part) for part in zip(*layers, strict=True))
    budget = int(widths.sum()) + more
    copies = balanced_copies(budget, widths, variances)
    assert copies.min() >= 1
    assert copies @ widths <= budget
    best = min(
        (variances / np.array(k)).sum()
        for k in product(*(range(1, budget // n + 1) for n in widths))
        if np.dot(k, widths) <= budget
    )
    assert (variances / copies).sum() <= best * (1 + 1e-12)


def test_balanced_copies_are_balanced_widths_where_these_are_whole_copies():
    widths, p, c = np.array([10, 20, 10]), np.array([0.01, 0.04, 0.01]), np.array([1, 1, 9])
    copies = balanced_copies(600, widths, p * c / widths)
    np.testing.assert_array_equal(copies, [10, 10, 30])
    np.testing.assert_array_equal(copies * widths, balanced_widths(600, p, c))


def campaign_of(network, p, trials=20_000):
    return ns.Campaign(
        deployment=ns.deploy(network, ns.Chip.load("ideal")),
        faults=[
            ns.StuckAtZero("neuron", probability=value, layers=[layer])
            for layer, value in enumerate(p)
        ],
        inputs=INPUTS,
        trials=trials,
        seed=3,
    )


@pytest.mark.parametrize("activation", ["identity", "tanh"])
def test_errors_of_both_networks_are_the_exact_ones(activation):
    """Five standard errors each, from 20 batches: false-alarm rate about 2e-3 for all 24."""
    p = [0.1, 0.2, 0.3]
    network = network_of(activation)
    sites = PlainNetwork.of(network).neurons(0, 1, 2)
    each = [p[site[1]] for site in sites]
    k = balanced_copies(14, network.widths[1:3], [1.0, 1.0])
    for after in (compensated(network, p), duplicate(duplicate(network, 1, k[0]), 2, k[1])):
        found = ns.compare_networks(campaign_of(network, p), after, method="mean-field")
        exact = ns.compare_networks(campaign_of(network, p, 40), network, method="enumeration")
        truth = [law(network, x, sites, each, network(x[None])[0]) for x in INPUTS]
        mean, variance, square = (np.array(part) for part in zip(*truth, strict=True))
        assert exact.before.squared_mean == pytest.approx((mean**2).sum(axis=1).mean())
        assert exact.before.variance == pytest.approx(variance.sum(axis=1).mean())
        assert exact.before.square == pytest.approx(square.sum(axis=1).mean())
        assert exact.predicted_gain() == exact.predicted_gain("variance") == 1
        assert exact.simulated_gain() == (1.0, 0.0)
        after_sites = PlainNetwork.of(after).neurons(0, 1, 2)
        after_each = [p[site[1]] for site in after_sites]
        pairs = (
            (network, found.before, sites, each),
            (after, found.after, after_sites, after_each),
        )
        for one, errors, where, chances in pairs:
            laws = [law(one, x, where, chances, network(x[None])[0]) for x in INPUTS]
            mean, variance, square = (np.array(part) for part in zip(*laws, strict=True))
            for truth, (seen, error) in (
                ((mean**2).sum(axis=1).mean(), errors.simulated_squared_mean),
                (variance.sum(axis=1).mean(), errors.simulated_variance),
                (square.sum(axis=1).mean(), errors.simulated_square),
            ):
                assert abs(seen - truth) < 5 * error
            # Able to see an error: the golden output of the other network as a yardstick.
            assert errors.simulated_square[1] < 0.05 * square.sum(axis=1).mean()
            if activation == "identity":
                assert errors.squared_mean == pytest.approx(
                    (mean**2).sum(axis=1).mean(), rel=1e-9, abs=1e-20
                )


def test_predicted_and_simulated_gains_agree_and_compensation_costs_variance():
    """Differences beyond 5 standard errors: false-alarm rate about 1e-4 from 20 batches."""
    p = [0, 0.2]
    network = network_of("identity", (2, 12, 2))
    campaign = campaign_of(network, p)
    found = ns.compare_networks(campaign, compensated(network, p))
    assert found.predicted_gain("variance") == pytest.approx(0.64)
    for of in ("variance", "mean square"):
        gain, error = found.simulated_gain(of)
        assert error < 0.1 * gain
        # The same fault sets hit both: all but equal ratios, up to single precision.
        assert abs(gain - found.predicted_gain(of)) < 5 * error + 1e-6
    # The mean error goes; without the shift of the golden output it would not.
    assert found.before.simulated_squared_mean[0] > 10 * found.before.simulated_squared_mean[1]
    mean, error = found.after.simulated_squared_mean
    assert abs(mean) < 5 * error
    copies = ns.compare_networks(campaign, duplicate(network, 1, 4))
    assert copies.predicted_gain("variance") == pytest.approx(4)
    gain, error = copies.simulated_gain("variance")
    assert abs(gain - 4) < 5 * error
    assert "gain in mean square" in str(found)


@pytest.mark.parametrize(
    ("call", "names"),
    [
        (lambda: compensated(None, 0.1), "network"),
        (lambda: compensated(network_of("tanh"), 1.0), "probabilities"),
        (lambda: compensated(network_of("tanh"), [0.1, -0.1, 0]), "probabilities"),
        (lambda: compensated(network_of("tanh"), [0.1, 0.1]), "probabilities"),
        (lambda: balanced_copies(5, [2, 4], [1, 1]), "budget"),
        (lambda: balanced_copies(10**6, [2, 4], [1, 1]), "budget"),
        (lambda: balanced_copies(9, [2, 1.5], [1, 1]), "widths"),
        (lambda: balanced_copies(9, [2, 4], [1, 1, 1]), "variances"),
        (lambda: balanced_copies(9, [2, 4], [0, 0]), "variances"),
    ],
)
def test_wrong_values_are_refused(call, names):
    with pytest.raises(InputError, match=rf"^{names}: expected"):
        call()


def test_networks_that_cannot_be_compared_are_refused():
    campaign = campaign_of(network_of("tanh"), [0.1], trials=40)
    with pytest.raises(InputError, match=r"^after: .*2 inputs, 3 layers and 2 outputs"):
        ns.compare_networks(campaign, network_of("tanh", (2, 3, 2)))
    with pytest.raises(InputError, match=r"^network"):
        ns.compare_networks(campaign, "network")
    stuck = replace(campaign, faults=[ns.StuckAt("neuron", probability=0.1, value=1.0, layers=[1])])
    with pytest.raises(InputError, match="compare_networks"):
        ns.compare_networks(stuck, campaign.network)
    with pytest.raises(InputError, match=r"^of: expected"):
        ns.compare_networks(campaign, campaign.network).predicted_gain("bias")
