from itertools import pairwise

import numpy as np
import pytest
from exact import PlainNetwork, enumerate_faults
from hypothesis import given, settings
from hypothesis import strategies as st

from neurosim.errors import InputError
from neurosim.network import Network
from neurosim.theory import bounds
from neurosim.theory.bounds import (
    absolute_bound,
    bernstein,
    lipschitz_product,
    norm_bound,
    variance_bound,
    variance_recursion,
)
from neurosim.theory.tails import cantelli, chebyshev

ACTIVATIONS = [
    "identity",
    "relu",
    "leaky_relu(0.3)",
    "sigmoid(4)",
    "sigmoid(12)",
    "tanh",
    "softplus",
    "silu",
    "gelu_tanh",
    "elu(1.5)",
    "hard_tanh(0.5)",
]
ORDERS = [1, 2, np.inf]
MOST_SITES = 10


def at_most(exact, bound):
    """Below the bound but for rounding."""
    return np.all(exact <= np.asarray(bound) * (1 + 1e-9) + 1e-12)


@st.composite
def scenarios(draw):
    """A small random network, one input, and crashing groups (kind, layer, probability)."""
    depth = draw(st.integers(1, 3))
    widths = draw(st.lists(st.integers(1, 4), min_size=depth + 1, max_size=depth + 1))
    hidden = draw(st.lists(st.sampled_from(ACTIVATIONS), min_size=depth - 1, max_size=depth - 1))
    last = draw(st.sampled_from(["identity", "identity", "softmax", "tanh", "sigmoid(8)"]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scale = draw(st.sampled_from([0.5, 1.0, 3.0]))
    network = Network.dense(
        weights=[rng.normal(0, scale, (b, a)) for a, b in pairwise(widths)],
        biases=[rng.normal(0, 1, n) for n in widths[1:]],
        activations=[*hidden, last],
    )
    groups = [("neuron", n, widths[n]) for n in range(depth + 1)]
    groups += [("synapse", n, widths[n] * widths[n - 1]) for n in range(1, depth + 1)]
    chosen, left = [], MOST_SITES
    for kind, layer, size in draw(st.permutations(groups)):
        if size <= left and (not chosen or draw(st.booleans())):
            p = 10 ** draw(st.floats(-4, np.log10(0.5)))
            chosen.append((kind, layer, p))
            left -= size
    return network, rng.normal(0, 2, widths[0]), chosen


def exact_law(network, x, groups):
    plain = PlainNetwork.of(network)
    sites, probabilities = [], []
    for kind, layer, p in groups:
        more = plain.neurons(layer) if kind == "neuron" else plain.synapses(layer)
        sites += more
        probabilities += [p] * len(more)
    return enumerate_faults(plain, x, sites, probabilities)


def arguments(groups):
    kinds, layers, probabilities = zip(*groups, strict=True)
    return {"layer": layers, "probability": probabilities, "site": kinds}


@settings(max_examples=500, deadline=None)
@given(scenarios())
def test_no_valid_bound_is_ever_violated(scenario):
    check_bounds(*scenario)


@pytest.mark.parametrize(
    ("widths", "activations", "groups"),
    [
        ((6, 8, 6, 2), ["sigmoid(4)", "tanh", "identity"],
         [("neuron", 0, 0.02), ("neuron", 1, 0.1), ("neuron", 2, 0.3)]),
        ((4, 5, 3), ["softplus", "softmax"], [("synapse", 1, 0.05)]),
    ],
)  # fmt: skip
def test_nor_with_twenty_sites(widths, activations, groups):
    rng = np.random.default_rng(20)
    network = Network.dense(
        weights=[rng.normal(size=(b, a)) for a, b in pairwise(widths)],
        biases=[rng.normal(size=n) for n in widths[1:]],
        activations=activations,
    )
    check_bounds(network, rng.normal(size=widths[0]), groups)


def check_bounds(network, x, groups):
    law, how, inputs = exact_law(network, x, groups), arguments(groups), x[None]
    mean, variance = law.mean, law.variance
    for order in ORDERS:
        exact = law.expectation(lambda v, order=order: np.linalg.norm(v, order, axis=1))
        assert at_most(exact, norm_bound(network, inputs, order=order, **how)[0])
    absolute = absolute_bound(network, inputs, **how)[0]
    spread = variance_bound(network, inputs, **how)[0]
    assert at_most(law.expectation(np.abs), absolute)
    assert at_most(np.abs(mean), absolute)
    assert at_most(variance, spread)
    if all(kind == "neuron" and layer < network.depth for kind, layer, _ in groups):
        square = variance_recursion(network, inputs, how["layer"], how["probability"])[0]
        assert at_most(law.expectation(np.square), square)
    size = np.abs(law.values).max()
    for epsilon in size * np.array([0.05, 0.3, 0.7, 1.0]) * (1 - 1e-9):
        if epsilon < 1e-6:  # the exact errors are differences, with a rounding of about 1e-15
            continue
        upper, both = law.tail(epsilon, "upper"), law.tail(epsilon)
        assert at_most(upper, bernstein(network, inputs, epsilon=epsilon, **how)[0])
        assert at_most(both, bernstein(network, inputs, epsilon=epsilon, two_sided=True, **how)[0])
        centred = bernstein(network, inputs, epsilon=epsilon, mean=0, **how)[0]
        probability, deviation = law.probabilities, law.values - mean
        assert at_most(probability @ (deviation >= epsilon * (1 + 1e-9)), centred)
        assert at_most(probability @ (-deviation >= epsilon * (1 + 1e-9)), centred)
        # P5 with exact moments, and with the bounds in their place
        for bound in (chebyshev, cantelli):
            assert at_most(upper, bound(mean, variance, epsilon))
            assert at_most(both, bound(mean, variance, epsilon, two_sided=True))
            assert at_most(upper, bound(absolute, spread, epsilon))
        assert at_most(both, chebyshev(absolute, spread, epsilon, two_sided=True))


@settings(max_examples=200, deadline=None)
@given(scenarios(), st.integers(0, 2**32 - 1), st.floats(-3, 1))
def test_the_lipschitz_product_bounds_every_change(scenario, seed, size):
    network, x, _ = scenario
    rng = np.random.default_rng(seed)
    change = rng.normal(0, 10**size, (20, len(x)))
    moved = network(x[None] + change) - network(x[None])
    for order in ORDERS:
        gain = lipschitz_product(network, 0, order)
        before, after = (np.linalg.norm(v, order, axis=1) for v in (change, moved))
        assert at_most(after, gain * before)


def linear(*weights, biases=None, activations=None):
    weights = [np.array(w, float) for w in weights]
    return Network.dense(
        weights=weights,
        biases=biases or [np.zeros(len(w)) for w in weights],
        activations=activations or ["identity"] * len(weights),
    )


def test_each_bound_is_attained_somewhere():
    # So no factor of them is too large either.
    x, p = np.array([[1.0, 2.0, 3.0]]), 0.3
    eye = linear(np.eye(3))
    law = exact_law(eye, x[0], [("neuron", 0, p)])
    for order in (1, np.inf):
        exact = law.expectation(lambda v, order=order: np.linalg.norm(v, order, axis=1))
        assert norm_bound(eye, x, 0, p, order)[0] == pytest.approx(float(exact))
    square = law.expectation(lambda v: (v**2).sum(axis=1))
    assert norm_bound(eye, x, 0, p, 2)[0] ** 2 == pytest.approx(float(square))
    positive = linear([[1.0, 2.0, 0.5]])
    law = exact_law(positive, x[0], [("neuron", 0, p)])
    assert absolute_bound(positive, x, 0, p)[0] == pytest.approx(law.expectation(np.abs))
    assert variance_bound(positive, x, 0, p)[0] == pytest.approx(law.variance)
    law = exact_law(positive, x[0], [("synapse", 1, p)])
    assert absolute_bound(positive, x, 1, p, "synapse")[0] == pytest.approx(law.expectation(np.abs))
    assert variance_bound(positive, x, 1, p, "synapse")[0] == pytest.approx(law.variance)
    exact = law.expectation(np.abs)
    assert norm_bound(positive, x, 1, p, 1, "synapse") == pytest.approx(exact)
    one = linear([[2.0]])
    law = exact_law(one, [3.0], [("neuron", 0, p)])
    assert variance_recursion(one, [[3.0]], 0, p) == pytest.approx(law.expectation(np.square))


def test_joint_layers_are_attained_on_a_chain():
    # One neuron a layer, no bias: the output is lost once anything on the way is dead.
    chain, p = linear([[2.0]], [[-3.0]]), (0.1, 0.2, 0.05)
    y = 6.0 * 1.5
    lost = 1 - (1 - p[0]) * (1 - p[1]) * (1 - p[2])
    inputs = [[1.5]]
    assert absolute_bound(chain, inputs, (0, 1, 2), p)[0, 0] == pytest.approx(lost * y)
    assert norm_bound(chain, inputs, (0, 1, 2), p, 1)[0] == pytest.approx(lost * y)
    assert norm_bound(chain, inputs, (0, 1, 2), p, 2)[0] == pytest.approx(np.sqrt(lost) * y)
    kinds = ("neuron", "synapse", "synapse")
    got = absolute_bound(chain, inputs, (0, 1, 2), p, kinds)
    assert got[0, 0] == pytest.approx(lost * y)
    assert variance_recursion(chain, inputs, (0, 1), p[:2])[0] == pytest.approx(
        (1 - (1 - p[0]) * (1 - p[1])) * y**2
    )


def test_later_crashes_see_the_largest_activation_that_earlier_ones_allow():
    # y_1 = relu(x_0 - x_1) is 0 unless input 1 dies: golden values would make the bound 0.
    network = linear([[1.0, -1.0]], [[1.0]], activations=["relu", "identity"])
    x, groups = np.array([1.0, 1.0]), [("neuron", 0, 0.5), ("neuron", 1, 0.5)]
    law = exact_law(network, x, groups)
    bound = variance_bound(network, x[None], **arguments(groups))[0]
    assert 0 < law.variance < bound
    inputs_alone = variance_bound(network, x[None], 0, 0.5)[0]
    assert bound == pytest.approx(inputs_alone + 0.25)


def test_saturating_activations_keep_the_suprema_below_one():
    rng = np.random.default_rng(5)
    network = linear(
        rng.normal(0, 9, (6, 4)),
        rng.normal(0, 9, (5, 6)),
        np.ones((1, 5)),
        activations=["tanh", "sigmoid(4)", "identity"],
    )
    got = variance_bound(network, rng.normal(0, 9, (3, 4)), (1, 2), (0.0, 0.1))
    assert (got <= 0.09 * 5).all()


def test_bernstein_by_hand():
    network = linear(np.full((1, 100), 0.01))
    p, epsilon = 0.01, 0.08
    variance, effect, mean = p * (1 - p) * 100 * 1e-4, 0.01, p
    x = np.ones((1, 100))
    t = epsilon - mean
    expected = np.exp(-(t**2) / (2 * (variance + effect * t / 3)))
    assert bernstein(network, x, 0, p, epsilon)[0, 0] == pytest.approx(expected, rel=1e-9)
    both = bernstein(network, x, 0, p, epsilon, two_sided=True)
    assert both[0, 0] == pytest.approx(2 * expected, rel=1e-9)
    t = epsilon + p  # the error is negative: E Delta = -p exactly
    expected = np.exp(-(t**2) / (2 * (variance + effect * t / 3)))
    got = bernstein(network, x, 0, p, epsilon, mean=-p)
    assert got[0, 0] == pytest.approx(expected, rel=1e-9)
    assert bernstein(network, x, 0, p, 0.005)[0, 0] == 1
    assert bernstein(network, x, 0, 0.0, 0.005)[0, 0] == 0
    both = bernstein(network, x, 0, p, epsilon, mean=-p, two_sided=True)
    assert both[0, 0] == pytest.approx(2 * bernstein(network, x, 0, p, epsilon)[0, 0], rel=1e-9)


def test_p_times_the_norm_is_no_bound_for_orders_2_and_inf():
    network, x, p = linear(np.eye(4)), np.ones((1, 4)), 0.01
    law = exact_law(network, x[0], [("neuron", 0, p)])
    for order in (2, np.inf):
        exact = law.expectation(lambda v, order=order: np.linalg.norm(v, order, axis=1))
        printed = norm_bound(network, x, 0, p, order, method="paper")[0]
        assert printed == pytest.approx(p * np.linalg.norm(x[0], order))
        assert exact > 1.9 * printed
        assert exact <= norm_bound(network, x, 0, p, order)[0]
    paper, valid = (norm_bound(network, x, 0, p, 1, method=m) for m in ("paper", "valid"))
    assert paper == pytest.approx(valid)


def test_the_authors_variance_is_no_bound():
    # One input feeds two paths of the same sign: their effects add before they are squared.
    network, p = linear([[1.0], [1.0]], [[1.0, 1.0]]), 0.1
    exact = exact_law(network, [1.0], [("neuron", 0, p)]).variance[0]
    printed = variance_bound(network, [[1.0]], 0, p, method="paper")[0, 0]
    assert exact == pytest.approx(4 * p * (1 - p))
    assert printed == pytest.approx(2 * p)
    assert printed < exact
    assert variance_bound(network, [[1.0]], 0, p)[0, 0] == pytest.approx(exact)


@pytest.mark.parametrize("kind", ["silu", "gelu", "hard_swish", "gelu_tanh", "mish", "elu(2)"])
def test_ranges_hold_where_an_activation_falls(kind):
    # With the second input dead the neuron is near its least value, below that of all other sets.
    network = Network.dense(
        weights=[[[-1.0, -1.0]], [[2.0]]], biases=[[0.0], [0.5]], activations=[kind, "identity"]
    )
    x = np.array([[1.25, 3.75]])
    inputs = x * [[1, 1], [0, 1], [1, 0], [0, 0]]
    outputs = network(inputs)
    low, high = bounds.output_range(network, x, layer=0)
    assert low <= outputs.min()
    assert high >= outputs.max()
    if kind != "elu(2)":
        assert outputs.argmin() == 2


def test_a_steep_activation_multiplies_and_does_not_divide():
    network = linear([[1.0]], [[1.0]], activations=["sigmoid(40)", "identity"])
    x, p = [[0.1]], 0.1
    exact = exact_law(network, x[0], [("neuron", 0, p)]).expectation(np.abs)[0]
    printed = absolute_bound(network, x, 0, p, method="paper")[0, 0]
    assert printed == pytest.approx(p * 0.1)  # footnote 1 would make it smaller still
    assert printed < exact <= absolute_bound(network, x, 0, p)[0, 0]
    assert absolute_bound(network, x, 0, p)[0, 0] == pytest.approx(10 * printed)
    assert lipschitz_product(network) == pytest.approx(10)
    assert lipschitz_product(network, 1) == 1


def test_the_papers_bounds_are_its_formulas():
    rng = np.random.default_rng(1)
    w = [rng.normal(size=s) for s in ((5, 3), (4, 5), (2, 4))]
    network = linear(*w, activations=["sigmoid(4)", "sigmoid(4)", "identity"])
    x, p = rng.normal(size=(6, 3)), 0.05
    y1, y2 = network.activations(x)[1:3]
    for order in ORDERS:
        products = np.linalg.norm(w[2], order) * np.linalg.norm(w[1], order)
        expected = p * products * np.linalg.norm(y1, order, axis=1)
        got = norm_bound(network, x, 1, p, order, method="paper")
        np.testing.assert_allclose(got, expected)
    np.testing.assert_allclose(
        absolute_bound(network, x, 1, p, method="paper"),
        p * np.abs(y1) @ (np.abs(w[2]) @ np.abs(w[1])).T,
    )
    np.testing.assert_allclose(
        variance_bound(network, x, 1, p, method="paper"), p * y1**2 @ (w[2] ** 2 @ w[1] ** 2).T
    )
    # several layers are added (AP7)
    for bound in (norm_bound, absolute_bound, variance_bound):
        single = [bound(network, x, n, q, method="paper") for n, q in ((1, 0.1), (2, 0.2))]
        joint = bound(network, x, (1, 2), (0.1, 0.2), method="paper")
        np.testing.assert_allclose(joint, sum(single))
    np.testing.assert_allclose(absolute_bound(network, x, 2, p), p * np.abs(y2) @ np.abs(w[2]).T)


def test_a_softmax_read_out_has_its_constants():
    # Two equal logits: s_1 (1 - s_1) = 1/4, the steepest point, where all constants are attained.
    tiny = 1e-4
    network = linear([[tiny], [-tiny]], activations=["softmax"])
    logits = linear([[tiny], [-tiny]])
    change = network([[1.0]])[0] - network([[0.0]])[0]
    for order in ORDERS:
        assert lipschitz_product(network, 0, order) == lipschitz_product(logits, 0, order) / 2
        # (1, -1) is the steepest direction in every norm
        assert np.linalg.norm(change, order) == pytest.approx(
            lipschitz_product(network, 0, order), rel=1e-6
        )
    assert absolute_bound(network, [[1.0]], 0, 0.5)[0] == pytest.approx([tiny / 4] * 2)
    assert 0.5 * np.abs(change) == pytest.approx([tiny / 4] * 2)
    deep = linear(np.eye(2), np.eye(2), activations=["tanh", "softmax"])
    assert lipschitz_product(deep, 2) == 0.5


def test_shapes_and_layers_given_as_numbers_or_lists():
    rng = np.random.default_rng(2)
    network = linear(rng.normal(size=(4, 3)), rng.normal(size=(2, 4)))
    x = rng.normal(size=(7, 3))
    assert norm_bound(network, x, [0, 1], 0.1).shape == (7,)
    assert absolute_bound(network, x, np.array([0, 1]), [0.1, 0.2]).shape == (7, 2)
    assert variance_bound(network, x, 1, 0.1, ["neuron", "synapse"]).shape == (7, 2)
    assert variance_recursion(network, x, (0, 1), 0.1).shape == (7,)
    assert bernstein(network, x, 0, 0.1, epsilon=[1.0, 2.0]).shape == (7, 2)
    for bound in (norm_bound, absolute_bound, variance_bound):
        np.testing.assert_array_equal(bound(network, x, 1, 0.1), bound(network, x, [1], [0.1]))
        assert not bound(network, x, 1, 0.0).any()


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda n, x: norm_bound(n, x, 3, 0.1), "layers"),
        (lambda n, x: norm_bound(n, x, 0, 0.1, site="synapse"), "layers"),
        (lambda n, x: norm_bound(n, x, "1", 0.1), "layers"),
        (lambda n, x: norm_bound(n, x, 1, 1.1), "probability"),
        (lambda n, x: norm_bound(n, x, 1, 0.1, order=3), "order"),
        (lambda n, x: norm_bound(n, x, 1, 0.1, site="core"), "site"),
        (lambda n, x: norm_bound(n, x, 1, 0.1, method="old"), "method"),
        (lambda n, x: norm_bound(n, x, 1, 0.1, site="synapse", method="paper"), "site"),
        (lambda n, x: norm_bound(n, x, [], 0.1), "layer"),
        (lambda n, x: absolute_bound(n, x, [0, 1], [0.1, 0.2, 0.3]), "layer"),
        (lambda n, x: absolute_bound(n, x, [1, 1], 0.1), "layer"),
        (lambda n, x: absolute_bound(n, x[:, :1], 0, 0.1), "inputs"),
        (lambda n, x: bernstein(n, x, 0, 0.1, epsilon=[1, 2, 3]), "epsilon"),
        (lambda n, x: bernstein(n, x, 0, 0.1, epsilon=np.nan), "epsilon"),
        (lambda n, x: bernstein(n, x, 0, 0.1, epsilon=1, mean="0.1 V"), "mean"),
        (lambda n, x: variance_recursion(n, x, 2, 0.1), "layer"),
        (lambda n, x: lipschitz_product(n, 5), "layers"),
        (lambda n, x: lipschitz_product(n, 0, 7), "order"),
    ],
)
def test_bad_arguments_are_named(call, name):
    network = linear(np.ones((2, 2)), np.ones((2, 2)))
    with pytest.raises(InputError, match=f"^{name}"):
        call(network, np.ones((1, 2)))


def test_the_paper_has_no_bound_behind_a_softmax():
    network = linear(np.ones((2, 2)), activations=["softmax"])
    for bound in (norm_bound, absolute_bound, variance_bound):
        with pytest.raises(InputError, match=r"network: .*softmax"):
            bound(network, np.ones((1, 2)), 0, 0.1, method="paper")


@pytest.mark.parametrize("function", [getattr(bounds, name) for name in bounds.__all__])
def test_what_is_no_network_and_what_leaves_the_range_is_refused(function):
    huge = Network.dense(
        weights=[[[1e200]], [[1e200]]], biases=[[0], [0]], activations=["tanh", "identity"]
    )
    options = {"layer": 0}
    if function is not bounds.lipschitz_product:
        options |= {"inputs": [[1.0]], "probability": 0.1}
    if function is bounds.output_range:
        del options["probability"]
    if function is bounds.bernstein:
        options["epsilon"] = 1.0
    with pytest.raises(InputError, match="network: expected a Network, got None"):
        function(None, **options)
    if function is bounds.output_range:  # tanh bounds what the second layer sees
        huge = Network.dense(
            weights=[[[1e200]]] * 2, biases=[[0]] * 2, activations=["identity"] * 2
        )
    if function is not bounds.bernstein:  # at most 1
        with pytest.raises(InputError, match="network: expected weights and inputs for which the"):
            function(huge, **options)


def test_bernstein_of_huge_thresholds():
    network = Network.dense(weights=[[[1.0]]], biases=[[0]], activations=["identity"])
    assert bounds.bernstein(network, [[1.0]], 0, 0.1, epsilon=1e300) == 0
    for value in ("0.5", True, [[1], [1, 2]]):
        with pytest.raises(InputError, match="epsilon: expected finite numbers"):
            bounds.bernstein(network, [[1.0]], 0, 0.1, epsilon=value)


@pytest.mark.parametrize("name", ["layer", "probability", "site"])
def test_ragged_lists_are_named(name):
    network = Network.dense(weights=[[[1.0]]], biases=[[0]], activations=["identity"])
    options = {"layer": 0, "probability": 0.1, "site": "neuron", name: [[1, 2], [3]]}
    with pytest.raises(InputError, match=f"{name}: expected .* ragged"):
        bounds.norm_bound(network, [[1.0]], **options)
