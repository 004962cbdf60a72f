"""The continuous limit: convergence, decay, balance, copies; asymptotics and small exact cases."""

from decimal import Decimal, localcontext
from fractions import Fraction
from itertools import combinations, pairwise, product
from math import comb, factorial, log2

import numpy as np
import pytest
from exact import PlainNetwork, enumerate_faults
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

import neurosim as ns
from neurosim.errors import InputError
from neurosim.theory import continuity
from neurosim.theory.tails import weight_perturbation

# A continuous network with an input function, two hidden layers, and outputs at t = 1/2 and 1.
WEIGHTS = [
    lambda t, s: np.sin(2 * t + 3 * s),
    lambda t, s: 1.5 * np.cos(2 * t - s) + t,
    lambda t, s: np.exp(-t * s) + s,
]
BIASES = [lambda t: t**2 - 0.5, lambda t: 0.3 * np.cos(3 * t), lambda t: 0.1]
ACTIVATIONS = ["sigmoid(4)", "tanh", "identity"]
WIDTHS = [25, 50, 100, 200, 400]


def x(t):
    return np.cos(2 * t) + t


def cut(n, n_0=None):
    """The network of hidden width n, and its input."""
    n_0 = n_0 or n
    network = continuity.discretise(WEIGHTS, BIASES, [n_0, n, n, 2], ACTIVATIONS)
    return network, continuity.sample(x, n_0)[None]


def continuous_outputs(n_0=None):
    """The outputs of the continuous network by Gauss-Legendre quadrature, to rounding."""
    nodes, weights = np.polynomial.legendre.leggauss(60)
    nodes, weights = (nodes + 1) / 2, weights / 2
    if n_0 is None:
        s, measure, y = nodes, weights, x(nodes)
    else:
        s = np.arange(1, n_0 + 1) / n_0
        measure, y = np.full(n_0, 1 / n_0), x(s)
    for W, b, phi, t in zip(  # noqa: N806
        WEIGHTS,
        BIASES,
        [lambda z: 1 / (1 + np.exp(-4 * z)), np.tanh, lambda z: z],
        [nodes, nodes, np.array([0.5, 1.0])],
        strict=True,
    ):
        y = phi(W(t[:, None], s[None, :]) @ (measure * y) + b(t))
        s, measure = nodes, weights
    return y


def random_network(n, seed):
    """Independent weights N(0, 1 / n_in): no neuron is like its neighbour."""
    rng = np.random.default_rng(seed)
    widths = [n, n, n, 2]
    return ns.Network.dense(
        weights=[rng.normal(0, a**-0.5, (b, a)) for a, b in pairwise(widths)],
        biases=[np.zeros(b) for b in widths[1:]],
        activations=ACTIVATIONS,
    ), rng.normal(size=(1, n))


def slope(widths, values):
    return np.polyfit(np.log(widths), np.log(values), 1)[0]


def last_slope(at_50, at_100, order):
    """The slope from n = 200 to 400 of (a + b / n) / n^order, a, b from the values at 50, 100."""
    scaled = [50**order * at_50, 100**order * at_100]
    b = 100 * (scaled[0] - scaled[1])
    a = scaled[1] - b / 100
    return np.log2((a + b / 400) / (a + b / 200)) - order


def first_order(network, inputs, layer, p):
    campaign = ns.Campaign(
        deployment=ns.deploy(network, ns.Chip.load("ideal")),
        faults=[ns.StuckAtZero("neuron", probability=p, layers=[layer])],
        inputs=inputs,
        trials=1,
        seed=0,
    )
    return ns.predict(campaign, method="first-order")


# --- the limit (AD2, AP4) -------------------------------------------------------------------------


@pytest.mark.parametrize("n_0", [None, 5])
def test_outputs_tend_to_the_continuous_network_as_1_over_n(n_0):
    error = {}
    for n in WIDTHS:
        network, inputs = cut(n, n_0)
        error[n] = network(inputs)[0] - continuous_outputs(n_0)
    # A Riemann sum of smooth functions: the error is a / n + b / n^2 + O(n^-3).
    expected = last_slope(error[50], error[100], 1)
    observed = np.log2(error[400] / error[200])
    assert (abs(error[25]) > 1e-3).all()
    np.testing.assert_allclose(expected, -1, atol=0.1)
    np.testing.assert_allclose(observed, expected, atol=0.005)


def test_the_riemann_remainder_of_one_layer_is_that_of_euler_and_maclaurin():
    # The sum of f(i / n) / n, here f = exp, exceeds the integral by
    # (f(1) - f(0)) / 2n + (f'(1) - f'(0)) / 12n^2, but for O(n^-4).
    for n in (10, 100):
        network = continuity.discretise(
            [lambda t, s: np.exp(s)], [lambda t: 0.0], [n, 1], ["identity"]
        )
        rise = np.e - 1
        off = network(continuity.sample(lambda t: 1.0, n)[None])[0, 0] - rise
        assert off == pytest.approx(rise / (2 * n) + rise / (12 * n * n), rel=1e-3 / n)


def test_weights_are_values_of_the_functions_at_i_over_n():
    network = continuity.discretise(
        [lambda t, s: 10 * t + s], [lambda t: -t], widths=[2, 4], activations=["relu"]
    )
    t = [0.25, 0.5, 0.75, 1.0]
    np.testing.assert_allclose(network.layers[0].weight, [[(10 * u + 0.5) / 2, (10 * u + 1) / 2]
                                                          for u in t])  # fmt: skip
    np.testing.assert_allclose(network.layers[0].bias, [-u for u in t])
    np.testing.assert_allclose(continuity.sample(lambda u: u**2, 4), np.square(t))
    np.testing.assert_array_equal(continuity.sample(lambda u: 3.0, 2), [3, 3])


@pytest.mark.parametrize("k", [1, 2, 5])
def test_piecewise_constant_functions_give_the_discrete_network_itself(k):
    # AP3's construction; more points than pieces are k copies of every neuron, input included.
    rng = np.random.default_rng(0)
    widths = [2, 3, 4, 1]
    weights = [rng.normal(size=(b, a)) for a, b in pairwise(widths)]
    biases = [rng.normal(size=b) for b in widths[1:]]
    network = ns.Network.dense(weights=weights, biases=biases, activations=ACTIVATIONS)

    def piece(t, n):
        return np.ceil(t * n - 1e-9).astype(int) - 1

    finer = continuity.discretise(
        [
            lambda t, s, w=w: w.shape[1] * w[piece(t, w.shape[0]), piece(s, w.shape[1])]
            for w in weights
        ],
        [lambda t, b=b: b[piece(t, len(b))] for b in biases],
        [2, 3 * k, 4 * k, 1],
        ACTIVATIONS,
    )
    inputs = rng.normal(size=(5, 2))
    np.testing.assert_allclose(finer(inputs), network(inputs), rtol=1e-12)
    copied = continuity.duplicate(continuity.duplicate(network, 1, k), 2, k)
    for ours, theirs in zip(finer.layers, copied.layers, strict=True):
        np.testing.assert_allclose(ours.weight, theirs.weight, rtol=1e-12)
        np.testing.assert_array_equal(ours.bias, theirs.bias)


# --- derivatives and their decay (P4) -------------------------------------------------------------


def decimal_forward(plain, y, layer):
    """Outputs from the outputs y of one layer, in the precision of the context."""

    def phi(name, z):
        if name == "identity":
            return z
        if name == "softplus":
            return (1 + z.exp()).ln()
        gain = Decimal(2) if name == "tanh" else Decimal(name[8:-1])
        logistic = 1 / (1 + (-gain * z).exp())
        return 2 * logistic - 1 if name == "tanh" else logistic

    for weight, bias, name in zip(
        plain.weights[layer:], plain.biases[layer:], plain.activations[layer:], strict=True
    ):
        y = [
            phi(name, sum((Decimal(float(w)) * v for w, v in zip(row, y, strict=True)),
                          Decimal(float(b))))
            for row, b in zip(weight, bias, strict=True)
        ]  # fmt: skip
    return y


@st.composite
def small_networks(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    depth = draw(st.integers(1, 3))
    widths = draw(st.lists(st.integers(1, 3), min_size=depth + 1, max_size=depth + 1))
    smooth = st.sampled_from(["identity", "sigmoid(4)", "sigmoid(0.5)", "tanh", "softplus"])
    network = ns.Network.dense(
        weights=[rng.normal(size=(b, a)) for a, b in pairwise(widths)],
        biases=[rng.normal(size=b) for b in widths[1:]],
        activations=[draw(smooth) for _ in range(depth)],
    )
    return network, rng.normal(size=(2, widths[0])), draw(st.integers(0, depth - 1))


@settings(max_examples=60, deadline=None)
@given(small_networks())
def test_derivatives_are_differences_in_sixty_digits(case):
    network, inputs, layer = case
    plain = PlainNetwork.of(network)
    first, second = continuity.derivatives(network, inputs, layer)
    n = network.widths[layer]
    for number, one in enumerate(inputs):
        centre = plain.forward(one, layer=layer)[0] if layer else one
        with localcontext(prec=60):
            h = Decimal("1e-15")  # truncation h^2, rounding 1e-60 / h^2

            def at(steps, centre=centre, h=h):
                moved = [Decimal(float(v)) for v in centre]
                for unit, sign in steps:
                    moved[unit] += sign * h
                return decimal_forward(plain, moved, layer)

            for i in range(n):
                up, down = at([(i, 1)]), at([(i, -1)])
                exact = [float((u - d) / (2 * h)) for u, d in zip(up, down, strict=True)]
                np.testing.assert_allclose(first[number, :, i], exact, rtol=1e-9, atol=1e-13)
                for j in range(n):
                    corners = [(a * b, at([(i, a), (j, b)])) for a, b in product([1, -1], repeat=2)]
                    exact = [
                        float(sum(sign * value[k] for sign, value in corners) / (4 * h * h))
                        for k in range(network.widths[-1])
                    ]
                    np.testing.assert_allclose(
                        second[number, :, i, j], exact, rtol=1e-8, atol=1e-12
                    )


def test_derivatives_of_the_example_of_p4():
    # y = tanh(sum w(i / n) x_i / n): tanh' w / n and tanh'' w w / n^2.
    n = 50
    network = continuity.discretise([lambda t, s: 1 + s], [lambda t: 0.0], [n, 1], ["tanh"])
    w = 1 + np.arange(1, n + 1) / n
    u = np.tanh(w.sum() / n)
    first, second = continuity.derivatives(network, np.ones((1, n)), 0)
    np.testing.assert_allclose(first[0, 0], (1 - u**2) * w / n, rtol=1e-12)
    np.testing.assert_allclose(
        second[0, 0], -2 * u * (1 - u**2) * np.outer(w, w) / n**2, rtol=1e-12
    )


@pytest.mark.parametrize("layer", [0, 1])
def test_derivatives_decay_by_their_order_and_variance_as_1_over_n(layer):
    pairs = [cut(n) for n in WIDTHS]
    decay = continuity.derivative_decay(*zip(*pairs, strict=True), layer)
    np.testing.assert_array_equal(decay.widths, WIDTHS)
    for values, order, fitted in [
        (decay.first, 1, decay.first_slope),
        (decay.second_diagonal, 2, decay.second_diagonal_slope),
        (decay.second_off_diagonal, 2, decay.second_off_diagonal_slope),
        (decay.variance, 1, decay.variance_slope),
    ]:
        assert fitted == pytest.approx(slope(WIDTHS, values), abs=1e-9)
        assert fitted == pytest.approx(-order, abs=0.1)
        # n^k D_k goes to its limit as limit + c / n: what c makes of the slope is known before.
        expected = last_slope(values[1], values[2], order)
        assert expected == pytest.approx(-order, abs=0.05)
        assert log2(values[-1] / values[-2]) == pytest.approx(expected, abs=0.005)
    assert "-2" in str(decay)


def test_decay_is_of_means_over_inputs_outputs_and_neurons():
    networks = [cut(n, 2)[0] for n in (3, 7)]
    inputs = [[[0.3, -1.0], [1.2, 0.4]], [[0.1, 0.2]]]
    decay = continuity.derivative_decay(networks, inputs, 1)
    for k, (network, given_) in enumerate(zip(networks, inputs, strict=True)):
        first, second = continuity.derivatives(network, given_, 1)
        y = network.activations(np.array(given_))[1]
        n = network.widths[1]
        pairs = [(i, j) for i in range(n) for j in range(n) if i != j]
        assert decay.first[k] == pytest.approx(abs(first).mean(), rel=1e-12)
        diagonal = np.mean([abs(second[..., i, i]) for i in range(n)])
        assert decay.second_diagonal[k] == pytest.approx(diagonal, rel=1e-12)
        off_diagonal = np.mean([abs(second[..., i, j]) for i, j in pairs])
        assert decay.second_off_diagonal[k] == pytest.approx(off_diagonal, rel=1e-12)
        g = [d * active for rows, active in zip(first, y, strict=True) for d in rows]
        variance = np.mean([one @ one for one in g])
        assert decay.variance[k] == pytest.approx(variance, rel=1e-12)


def test_predicted_variance_falls_as_1_over_n():
    variance, p = [], 0.01
    pairs = [cut(n) for n in WIDTHS]
    for network, inputs in pairs:
        variance.append(first_order(network, inputs, 1, p).variance[0])
    decay = continuity.derivative_decay(*zip(*pairs, strict=True), 1)
    np.testing.assert_allclose(np.mean(variance, axis=1), p * (1 - p) * decay.variance, rtol=1e-12)
    for output in np.transpose(variance):
        assert slope(WIDTHS, output) == pytest.approx(-1, abs=0.1)
        expected = last_slope(output[1], output[2], 1)
        assert log2(output[-1] / output[-2]) == pytest.approx(expected, abs=0.005)


def test_random_weights_do_not_decay_like_that():
    # Negative control. D and H of independent weights fall as n^-1/2 and n^-1, Var not at all. Var
    # of one network scatters by 0.4 of itself at n = 25 (D and H by less), so the slope over ten
    # networks a width and a factor 16 in width by about 0.4 / sqrt(10) / ln 16 = 0.05; narrow
    # networks bias it by as much again. The four standard deviations left: a false-alarm rate of
    # 1e-4 a slope.
    pairs = [random_network(n, 100 * n + k) for n in WIDTHS for k in range(10)]
    decay = continuity.derivative_decay(*zip(*pairs, strict=True), 1)
    assert decay.first_slope == pytest.approx(-0.5, abs=0.25)
    assert decay.second_off_diagonal_slope == pytest.approx(-1, abs=0.25)
    assert decay.variance_slope == pytest.approx(0, abs=0.25)
    # Nor do they have a small number of changes; those of the continuous network stay.
    rough = [continuity.smoothness(net.layers[1].weight).c1_per_neuron for net, _ in pairs[::10]]
    smooth = [continuity.smoothness(cut(n)[0].layers[1].weight).c1_per_neuron for n in WIDTHS]
    assert slope(WIDTHS, rough) == pytest.approx(0.5, abs=0.1)
    assert slope(WIDTHS, smooth) == pytest.approx(-1, abs=0.1)


def test_second_derivatives_of_a_linear_rest_have_no_slope():
    pairs = [cut(n) for n in WIDTHS[:2]]
    decay = continuity.derivative_decay(*zip(*pairs, strict=True), 2)
    assert np.isnan(decay.second_diagonal_slope)
    assert (decay.second_off_diagonal == 0).all()
    assert decay.first_slope == pytest.approx(-1, abs=0.1)


# --- AP6 ------------------------------------------------------------------------------------------


def variance_over_weights_and_faults(x, signs_of, p):
    """Var y and Var Delta of y = w x over equally likely w and crashes of x, by enumeration."""
    y, mean, square = [], [], []
    for w in signs_of:
        plain = PlainNetwork(weights=(w[None],), biases=(np.zeros(1),), activations=("identity",))
        law = enumerate_faults(plain, x, plain.neurons(0), p)
        y.append(w @ x)
        mean.append(law.mean[0])
        square.append(law.expectation(lambda v: v**2)[0])
    return np.var(y), np.mean(square) - np.mean(mean) ** 2


@pytest.mark.parametrize("n", range(1, 8))
def test_weights_of_mean_zero_leave_the_variance_of_the_error_at_every_width(n):
    # AP6 needs E w_i = 0, E w_i w_j = 0 and crashes independent of w: then E Delta^2 =
    # sum E w_i^2 x_i^2 p = p Var y. Here w_i = +-1 / sqrt(n), so Var y = mean of x^2 for every n.
    p, inputs = 0.3, np.linspace(1, 2, n)
    inputs /= np.sqrt((inputs**2).mean())
    signs = np.array(list(product([-1, 1], repeat=n))) / np.sqrt(n)
    var_y, var_delta = variance_over_weights_and_faults(inputs, signs, p)
    assert var_y == pytest.approx(1, rel=1e-12)
    assert var_delta == pytest.approx(p, rel=1e-12)
    # Negative control: a mean other than 0 adds p (1 - p) sum of squares.
    _, shifted = variance_over_weights_and_faults(inputs, signs + 0.5, p)
    assert shifted == pytest.approx(p + p * (1 - p) * 0.25 * n, rel=1e-12)


# --- copies ---------------------------------------------------------------------------------------


@st.composite
def networks_with_copies(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    depth = draw(st.integers(2, 4))
    widths = draw(st.lists(st.integers(1, 5), min_size=depth + 1, max_size=depth + 1))
    names = ["identity", "relu", "sigmoid(4)", "tanh", "softplus"]
    activations = [draw(st.sampled_from(names)) for _ in range(depth)]
    if draw(st.booleans()):
        activations[-1] = "softmax"
    network = ns.Network.dense(
        weights=[rng.normal(size=(b, a)) for a, b in pairwise(widths)],
        biases=[rng.normal(size=b) for b in widths[1:]],
        activations=activations,
        input_shape=(1, widths[0]),
    )
    layer = draw(st.integers(1, depth - 1))
    copies = draw(
        st.integers(1, 5)
        | st.lists(st.integers(1, 5), min_size=widths[layer], max_size=widths[layer])
    )
    return network, rng.normal(size=(3, widths[0])), layer, copies


@settings(max_examples=100, deadline=None)
@given(networks_with_copies())
def test_copies_keep_the_outputs_and_share_the_variance(case):
    network, inputs, layer, copies = case
    copied = continuity.duplicate(network, layer, copies)
    assert (copied.readout, copied.input_shape) == (network.readout, network.input_shape)
    assert copied.widths[layer] == np.sum(np.broadcast_to(copies, network.widths[layer]))
    np.testing.assert_allclose(copied(inputs), network(inputs), rtol=1e-10, atol=1e-12)
    p = 0.1
    before = first_order(network, inputs, layer, p)
    after = first_order(copied, inputs, layer, p)
    np.testing.assert_allclose(after.mean, before.mean, rtol=1e-9, atol=1e-12)
    g = before.model.effects.effects(("neuron", layer), slice(None))
    expected = p * (1 - p) * (g**2 / copies).sum(axis=2).T
    np.testing.assert_allclose(after.variance, expected, rtol=1e-9, atol=1e-14)


def test_moments_of_many_copies_tend_to_the_mean_field_not_to_t1():
    network = ns.Network.dense(
        weights=[
            [[1.0, -0.5], [0.3, 0.8], [-0.7, 0.6]],
            [[0.52, 0.36, 0.44], [0.32, 0.48, 0.28]],
            [[1.0, 0.8]],
        ],
        biases=[[0.2, 0.4, 0.9], [0.2, 0.1], [0.1]],
        activations=["sigmoid(4)", "tanh", "identity"],
    )
    inputs, p = np.array([[0.8, -0.3]]), 0.3
    y1 = network.activations(inputs)[1]
    rest = ns.Network(layers=network.layers[1:])
    mean = (rest((1 - p) * y1) - rest(y1))[0, 0]
    g = continuity.derivatives(rest, (1 - p) * y1, 0)[0][0, 0] * y1[0]
    limit = np.array([mean, p * (1 - p) * (g**2).sum()])
    taylor = first_order(network, inputs, 1, p)
    t1 = np.array([taylor.mean[0, 0], taylor.variance[0, 0]])
    exact = {}
    for k in (3, 6):
        copied = PlainNetwork.of(continuity.duplicate(network, 1, k))
        law = enumerate_faults(copied, inputs[0], copied.neurons(1), p)
        exact[k] = np.array([law.mean[0], k * law.variance[0]])
    gap = {k: abs(exact[k] - limit) for k in exact}
    # The gap is of order 1 / k, what is left after extrapolation of order 1 / k^2.
    np.testing.assert_allclose(gap[6] / gap[3], 0.5, atol=0.05)
    assert (abs(2 * exact[6] - exact[3] - limit) < gap[6] / 10).all()
    # Negative control: T1 is off by far more than the gap that is left.
    assert (abs(t1 - limit) > 5 * gap[6]).all()
    assert (abs(t1 - exact[6]) > 5 * gap[6]).all()


def compositions(total, parts):
    for cuts in combinations(range(1, total), parts - 1):
        yield np.diff([0, *cuts, total])


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.floats(0, 10) | st.sampled_from([0.0, 1.0, 2.0]), min_size=1, max_size=4),
    st.integers(0, 10),
)
def test_whole_copies_and_widths_are_optimal(importance, more):
    importance = np.array(importance) * np.resize([1, -1], len(importance))
    if not importance.any():
        importance[0] = 1.0
    budget = len(importance) + more
    best = min((importance**2 / k).sum() for k in compositions(budget, len(importance)))
    copies = continuity.copies_by_importance(importance, budget)
    assert copies.sum() == budget
    assert copies.min() >= 1
    assert (importance**2 / copies).sum() <= best * (1 + 1e-12)
    if (importance**2).any():
        widths = continuity.balanced_widths(
            budget, np.full(len(importance), 0.25), 4 * importance**2
        )
        assert widths.sum() == budget
        assert (importance**2 / widths).sum() <= best * (1 + 1e-12)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(1e-3, 1), min_size=1, max_size=200), st.integers(10**3, 10**15))
def test_large_budgets_are_in_proportion(importance, budget):
    importance = np.array(importance)
    copies = continuity.copies_by_importance(importance, budget)
    assert copies.sum() == budget
    share = budget * importance / importance.sum()
    assert (abs(copies - share) <= len(importance) + 1e-12 * share).all()
    # No neuron gains by taking a copy from another one.
    gain = (importance**2 / (copies * (copies + 1.0))).max()
    held = copies > 1
    loss = (importance[held] ** 2 / (copies[held] * (copies[held] - 1.0))).min(initial=np.inf)
    assert gain <= loss * (1 + 1e-9)


def test_widths_go_as_the_root_of_probability_times_constant():
    np.testing.assert_array_equal(
        continuity.balanced_widths(600, [0.01, 0.04, 0.01], [1, 1, 9]), [100, 200, 300]
    )
    # The layer that nothing can hit gets the one neuron it must have.
    np.testing.assert_array_equal(continuity.balanced_widths(10, [0.0, 0.1], [5, 5]), [1, 9])


def test_the_needed_width_meets_its_target_and_one_neuron_less_does_not():
    assert continuity.width_needed(0.5, 0.01, 0.1, 0.02) == 125
    for c, p, delta, t in product([0.3, 7.0], [1e-4, 0.2], [0.01, 0.3], [0.05, 0.7]):
        n = int(continuity.width_needed(c, p, delta, t))
        needed = Fraction(c) * Fraction(p) / Fraction(delta) / Fraction(t) ** 2
        assert n >= needed * (1 - Fraction(1, 10**11))
        assert n == 1 or n - 1 < needed
    # 0.9 * 0.1 / 0.1 / 0.03^2 comes out above 1000 by rounding alone.
    assert continuity.width_needed(0.9, 0.1, 0.1, 0.03) == 1000
    many = continuity.width_needed([0.5, 1.0], 0.01, 0.1, [[0.02], [0.01]])
    np.testing.assert_array_equal(many, [[125, 250], [500, 1000]])


def test_the_needed_width_holds_on_the_continuous_network():
    # C measured at width 100; Chebyshev's bound with the variance of a network as wide as asked.
    p, delta, t = 0.01, 0.05, 0.01
    network, inputs = cut(100)
    constant = 100 * first_order(network, inputs, 1, p).variance[0].max() / p
    n = int(continuity.width_needed(constant, p, delta, t))
    assert n > 200
    network, inputs = cut(n)
    reached = first_order(network, inputs, 1, p).variance[0].max() / t**2
    assert reached == pytest.approx(delta, rel=0.1)


# --- balance --------------------------------------------------------------------------------------


@given(
    st.lists(st.lists(st.floats(-100, 100), min_size=3, max_size=3), min_size=1, max_size=6).filter(
        lambda rows: np.abs(rows).sum() > 1e-3
    )
)
def test_the_four_balances_from_their_definitions(rows):
    w = np.array([abs(a) + abs(b) + abs(c) for a, b, c in rows])
    q = continuity.balance(rows)
    assert q == pytest.approx(w.min() / w.max(), rel=1e-12)
    assert continuity.width_q(rows) == 1 / len(rows)
    participation = continuity.participation_q(rows)
    assert participation == pytest.approx(w.sum() ** 2 / (len(w) * (w**2).sum()), rel=1e-12)
    assert q <= participation * (1 + 1e-12)
    assert 1 / len(w) <= participation * (1 + 1e-12) <= 1 + 1e-11
    penalty = continuity.balance_penalty(rows)
    assert penalty == (pytest.approx(q**-2, rel=1e-9) if q > 1e-150 else np.inf)


def test_balance_gives_p3_and_the_participation_ratio_does_not():
    weight = np.array([[10.0]] + [[1.0]] * 10)
    p, alpha, n = 0.01, 0.5, 11
    lost = np.array([10.0] + [1.0] * 10)
    exact = sum(
        p ** sum(dead) * (1 - p) ** (n - sum(dead))
        for dead in product([0, 1], repeat=n)
        if lost @ dead >= alpha * 20
    )
    divergence = stats.entropy([alpha, 1 - alpha], [p, 1 - p])
    bound = np.exp(-n * continuity.balance(weight) * divergence)
    assert bound == pytest.approx(
        float(weight_perturbation(weight, p, alpha, method="paper")), rel=1e-12
    )
    assert exact <= bound
    assert exact > 3 * np.exp(-n * continuity.participation_q(weight) * divergence)
    # Against an even layer, where all three agree.
    even = np.ones((n, 2))
    tail = sum(comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(6, n + 1))
    for q in (continuity.balance, continuity.participation_q):
        assert tail <= np.exp(-n * q(even) * divergence)


def test_participation_tends_to_the_integrals_of_ap5():
    def total(t):
        return integrate.quad(lambda s: abs(WEIGHTS[0](t, s)), 0, 1)[0]

    limit = integrate.quad(total, 0, 1)[0] ** 2 / integrate.quad(lambda t: total(t) ** 2, 0, 1)[0]
    gaps = [abs(continuity.participation_q(cut(n)[0].layers[0].weight) - limit) for n in WIDTHS]
    assert gaps[-1] < 1e-3
    assert slope(WIDTHS[-2:], gaps[-2:]) == pytest.approx(-1, abs=0.2)


# --- smoothness -----------------------------------------------------------------------------------


def test_changes_tend_to_the_integrals_of_table_1():
    def weight(t, s):
        return np.sin(5 * t) * np.cos(2 * s)

    def bias(t):
        return np.cos(4 * t)

    along = integrate.quad(lambda t: abs(5 * np.cos(5 * t)), 0, 1, points=[np.pi / 10])[0]
    across = integrate.quad(lambda s: abs(2 * np.sin(2 * s)), 0, 1)[0]
    mass = integrate.quad(lambda t: abs(np.sin(5 * t)), 0, 1, points=[np.pi / 5])[0]
    width = integrate.quad(lambda s: abs(np.cos(2 * s)), 0, 1, points=[np.pi / 4])[0]
    own = integrate.quad(lambda t: abs(4 * np.sin(4 * t)), 0, 1, points=[np.pi / 4])[0]
    for n_out, n_in in [(100, 800), (800, 100), (800, 800)]:
        network = continuity.discretise([weight], [bias], [n_in, n_out], ["identity"])
        layer = network.layers[0]
        s = continuity.smoothness(layer.weight)
        off = 8 / min(n_out, n_in)
        assert s.c1 == pytest.approx(along * width, rel=off)
        assert s.c2 == pytest.approx(mass * across, rel=off)
        assert s.n_out == n_out
        with_bias = continuity.smoothness(layer.weight, layer.bias)
        assert with_bias.c1 - s.c1 == pytest.approx(own, rel=off)
        assert with_bias.c2 == s.c2
        assert with_bias.c3 > s.c3
        assert s.total == s.c1 + s.c2 + s.c3
        assert s.per_neuron == pytest.approx(
            s.c1_per_neuron + s.c2_per_neuron + s.c3_per_neuron, rel=1e-12
        )
        assert s.c1_per_neuron == s.c1 / n_out


@pytest.mark.parametrize("n", [1, 10, 30, 130])
def test_smoothed_distance_tap_by_tap(n):
    rng = np.random.default_rng(n)
    weight = rng.normal(size=(n, 2))
    sd = n / 60
    reach = int(3 * sd + 0.5)
    taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sd) ** 2)
    taps /= taps.sum()
    total = 0.0
    for i, j in product(range(n), range(2)):
        near = [weight[min(max(i + k, 0), n - 1), j] for k in range(-reach, reach + 1)]
        total += abs(taps @ near - weight[i, j])
    assert continuity.smoothness(weight).c3 == pytest.approx(total / n, rel=1e-12, abs=1e-15)


def test_smoothed_distance_does_not_change_with_the_width():
    c3 = [continuity.smoothness(cut(n)[0].layers[0].weight).c3 for n in (400, 800, 1600)]
    np.testing.assert_allclose(c3, c3[-1], rtol=0.05)
    assert c3[-1] > 1e-4
    assert continuity.smoothness(np.ones((50, 3)), np.ones(50)).total == 0


def test_steps_within_kernels_fall_with_their_size():
    """C2 tends to the variation of the kernel along each axis, jumps at its edges included."""

    def kernel(s, t):
        return np.exp(s) * np.cos(2 * t)

    # Along s: up by 1 at the edge, to e, down by e; along t: from 0 to 1, down to cos 2, back to 0.
    across = integrate.quad(lambda t: abs(np.cos(2 * t)), 0, 1, points=[np.pi / 4])[0]
    mass = (np.e - 1) * across
    steps = []
    for height, width in ((20, 40), (40, 80), (80, 160)):
        s, t = (np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width
        one = kernel(s[:, None], t) / (height * width)
        found = continuity.kernel_smoothness(np.stack([[one, one], [-one, one], [one, one]]))
        off = 4 / height
        assert found.size == (height, width)
        assert found.mass == pytest.approx(mass, rel=off)
        assert found.c2[0] == pytest.approx(2 * np.e * across, rel=off)
        up_and_down = 1 + (1 - np.cos(2)) - np.cos(2)
        assert found.c2[1] == pytest.approx(up_and_down * (np.e - 1), rel=off)
        steps.append(found.step)
    assert slope([20, 40, 80], steps) == pytest.approx(-1, abs=0.1)
    # The matrix of the convolution has these steps in each row.
    rng = np.random.default_rng(1)
    weight = rng.normal(size=5)
    found = continuity.kernel_smoothness(weight.reshape(1, 1, 1, 5))
    matrix = np.array([np.roll(np.r_[weight, np.zeros(15)], 1 + r) for r in range(10)])
    assert continuity.smoothness(matrix).c2 / 20 == pytest.approx(found.c2[1] / 5)


def test_small_kernels_are_rough():
    rng = np.random.default_rng(2)
    for size, least in ((1, 2.0), (3, 1.0), (9, 1.0)):
        assert continuity.kernel_smoothness(rng.normal(size=(8, 4, size, size))).step >= least
    box = [continuity.kernel_smoothness(np.ones((2, 2, n, n))).step for n in (3, 5, 21)]
    np.testing.assert_allclose(box, [2 / 3, 2 / 5, 2 / 21])
    for wrong, message in ((np.ones((2, 2)), "shape"), (np.zeros((1, 1, 2, 2)), "only zeros")):
        with pytest.raises(InputError, match=message):
            continuity.kernel_smoothness(wrong)


def authors_smoothness(matrix):
    """The authors' sums, kernel by kernel, tap by tap."""
    n, columns = matrix.shape

    def filtered(kernel, j, i):
        before = (len(kernel) - 1) // 2
        value = 0.0
        for k, tap in enumerate(kernel):
            if 0 <= i + k - before < n:
                value += tap * matrix[i + k - before, j]
        return value

    kernels = [[-1, 1]]
    for m in (2, 5, 7):
        taps = [
            (-1) ** (k + 1) * factorial(m) ** 2 / (k * factorial(m - k) * factorial(m + k))
            for k in range(1, m + 1)
        ]
        kernels.append([-v for v in reversed(taps)] + [0] + taps)
    derivative = 0.0
    for kernel in kernels:
        if len(kernel) <= n:
            derivative += sum(abs(filtered(kernel, j, i)) for j in range(columns) for i in range(n))
    gaussian = 0.0
    for size in (n // 20, n // 10):
        if size > 1:
            edges = stats.norm.cdf(np.linspace(-3, 3, size + 1))
            kernel = [-1, 1] if size == 2 else np.diff(edges) / (edges[-1] - edges[0])
            gaussian += sum(
                abs(filtered(kernel, j, i) - matrix[i, j]) for j in range(columns) for i in range(n)
            )
    return derivative / 4, gaussian / n / 2


@pytest.mark.parametrize("n", [1, 2, 4, 5, 10, 14, 15, 25, 45, 83])
def test_the_authors_smoothness_tap_by_tap(n):
    rng = np.random.default_rng(n)
    weight, bias = rng.normal(size=(n, 3)), rng.normal(size=n)
    s = continuity.smoothness(weight, bias, method="paper")
    derivative, gaussian = authors_smoothness(np.column_stack([weight, bias]))
    assert s.c1 == pytest.approx(derivative, rel=1e-12)
    assert s.c2 == 0
    assert s.c3 == pytest.approx(gaussian, rel=1e-12)


def test_the_authors_derivative_kernels_measure_slopes():
    # All four have slope 1 on a ramp: away from the edges every term is the slope of the ramp.
    n = 4000
    ramp = np.arange(1, n + 1)[:, None] / n
    s = continuity.smoothness(ramp * (1 - ramp), method="paper")
    assert s.c1 == pytest.approx(0.5, rel=0.01)


# --- refusals -------------------------------------------------------------------------------------

HIDDEN = ns.Network.dense(
    weights=[[[1.0], [2.0]], [[3.0, 4.0]]], biases=[[0, 0], [0]], activations=["tanh", "identity"]
)
KINKED = ns.Network.dense(weights=[[[1.0]]], biases=[[0]], activations=["relu"])
SOFTMAX = ns.Network.dense(weights=[[[1.0]]], biases=[[0]], activations=["softmax"])


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: continuity.balance(np.zeros((2, 2))), "weight"),
        (lambda: continuity.participation_q([1.0, 2.0]), "weight"),
        (lambda: continuity.width_q([[np.nan]]), "weight"),
        (lambda: continuity.smoothness([[1.0]], [1.0, 2.0]), "bias"),
        (lambda: continuity.smoothness([[1.0]], method="exact"), "method"),
        (lambda: continuity.sample(x, 0), "n"),
        (lambda: continuity.sample(x, 10**30), "n: expected a whole number from 1 to 1000000000"),
        (lambda: continuity.sample(lambda t: t[:1].repeat(2), 3), "function"),
        (lambda: continuity.sample(lambda t: t * np.inf, 3), "function"),
        (lambda: continuity.discretise(WEIGHTS, BIASES, [1, 1], ["tanh"]), "weight_functions"),
        (lambda: continuity.discretise(WEIGHTS, BIASES, [1, 1, 1, 0.5], ACTIVATIONS), "widths"),
        (lambda: continuity.discretise([lambda t, s: t.T], [x], [3, 2], ["tanh"]), "weight_func"),
        (lambda: continuity.derivatives(HIDDEN, [[1.0]], 2), "layer"),
        (lambda: continuity.derivatives(KINKED, [[1.0]], 0), "network"),
        (lambda: continuity.derivatives(SOFTMAX, [[1.0]], 0), "network"),
        (lambda: continuity.derivative_decay([HIDDEN], [], 1), "inputs"),
        (lambda: continuity.derivative_decay([HIDDEN] * 2, [[[1.0]]] * 2, 1), "networks"),
        (lambda: continuity.derivative_decay([HIDDEN] * 2, [[[1.0]]] * 2, 0), "networks"),
        (lambda: continuity.width_needed(1.0, 1.1, 0.1, 1.0), "probability"),
        (lambda: continuity.width_needed(-1.0, 0.1, 0.1, 1.0), "constant"),
        (lambda: continuity.width_needed(1.0, 0.1, 0.0, 1.0), "delta"),
        (lambda: continuity.width_needed(1.0, 0.1, 0.1, 0.0), "tolerance"),
        (lambda: continuity.width_needed(1.0, 0.1, 0.1, 1e-300), "tolerance"),
        (lambda: continuity.balanced_widths(1, [0.1, 0.1], [1, 1]), "budget"),
        (lambda: continuity.balanced_widths(9, [0.1, 0.1], [1, 1, 1]), "probabilities, constants"),
        (lambda: continuity.balanced_widths(9, [0.0, 0.0], [1, 1]), "constants"),
        (lambda: continuity.balanced_widths(9, 0.1, 1.0), "constants"),
        (lambda: continuity.copies_by_importance([0.0, 0.0], 5), "importance"),
        (lambda: continuity.copies_by_importance([[1.0]], 5), "importance"),
        (lambda: continuity.copies_by_importance([1.0], 1.5), "budget"),
        (lambda: continuity.duplicate(HIDDEN, 0, 2), "layer"),
        (lambda: continuity.duplicate(HIDDEN, 2, 2), "layer"),
        (lambda: continuity.duplicate(HIDDEN, 1, 0), "copies"),
        (lambda: continuity.duplicate(HIDDEN, 1, 1.5), "copies"),
        (lambda: continuity.duplicate(HIDDEN, 1, True), "copies"),
        (lambda: continuity.duplicate(HIDDEN, 1, [1, 2, 3]), "copies"),
        (lambda: continuity.duplicate(HIDDEN, 1, [[1], [2, 3]]), "copies"),
        (lambda: continuity.duplicate(None, 1, 2), "network"),
        (lambda: continuity.derivatives([HIDDEN], [[1.0]], 1), "network"),
        (lambda: continuity.derivatives(HIDDEN, [[1.0], [1.0, 2.0]], 1), "inputs"),
        (lambda: continuity.derivative_decay(HIDDEN, [[[1.0]]], 1), "networks"),
        (lambda: continuity.derivative_decay([HIDDEN], 1.0, 1), "inputs"),
        (lambda: continuity.derivative_decay([1.0], [[[1.0]]], 1), "network"),
        (lambda: continuity.discretise(x, [x], [1, 1], ["tanh"]), "weight_functions"),
        (lambda: continuity.discretise([x], None, [1, 1], ["tanh"]), "bias_functions"),
        (lambda: continuity.discretise([x], [x], 3, ["tanh"]), "widths"),
        (lambda: continuity.discretise([x], [x], [1, 1], "tanh"), "activations"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(call, name):
    with pytest.raises(InputError, match=f"^{name}"):
        call()
