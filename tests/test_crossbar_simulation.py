"""Programmed deployments, inference through converters, and the cost of each non-ideality."""

from dataclasses import replace

import numpy as np
import pytest
from backend_contract import networks
from hypothesis import given, settings
from hypothesis import strategies as st

import neurosim as ns
from neurosim.crossbar import NONIDEALITIES
from neurosim.crossbar_simulation import crossbar_outputs
from neurosim.errors import InputError

FULL = ns.CrossbarDevice(
    levels=8,
    slices=2,
    g_on_s=2e-5,
    g_off_s=2e-6,
    programming_error=[2e-7, 0.02],
    read_noise=[0.0, 0.01],
    drift_nu=0.05,
    drift_nu_sd=0.01,
    drift_t0_s=20.0,
    drift_time_s=1e3,
    dac_bits=8,
    adc_bits=8,
)
IDEAL = ns.CrossbarDevice(g_on_s=2e-5, g_off_s=2e-6)


def chip(device, **sizes):
    return ns.Chip(name="bench", device=device, **sizes)


def network(weight, activation="identity"):
    weight = np.atleast_2d(weight)
    return ns.Network.dense(
        weights=[weight], biases=[np.zeros(len(weight))], activations=[activation]
    )


@given(case=networks(max_depth=3, max_width=9), rows=st.integers(1, 9), columns=st.integers(1, 9))
@settings(max_examples=40, deadline=None)
def test_all_off_is_the_ideal_product_bit_for_bit(case, rows, columns):
    net, inputs = case
    deployment = ns.deploy(net, chip(FULL, rows=rows, columns=columns), device_seed=3)
    off = crossbar_outputs(deployment, inputs, off=NONIDEALITIES).outputs
    assert np.array_equal(off, net(inputs))
    switched = ns.deploy(net, chip(FULL.only(), rows=rows, columns=columns), device_seed=3)
    assert np.array_equal(switched.network(inputs), net(inputs))


@given(case=networks(max_depth=3, max_width=9), rows=st.integers(1, 9), columns=st.integers(1, 9))
@settings(max_examples=40, deadline=None)
def test_block_by_block_with_exact_parts_is_the_ideal_product_to_rounding(case, rows, columns):
    net, inputs = case
    exact = replace(IDEAL, adc_bits=32, dac_bits=32)
    deployment = ns.deploy(net, chip(exact, rows=rows, columns=columns), device_seed=0)
    found = crossbar_outputs(deployment, inputs).outputs
    size = max(1.0, max(float(np.abs(y).max()) for y in net.activations(net.flatten(inputs))))
    bound = 1e-6 * size * (1 + sum(float(np.abs(w.weight).sum()) for w in net.layers)) ** net.depth
    np.testing.assert_allclose(found, net(inputs), atol=bound)


def test_converters_by_hand():
    # Sign-magnitude ADC of 3 bits: codes -3..3 over +-1.5, steps of 0.5; CrossSim's quantiser.
    net = network([[1.0, 0.6], [0.2, -1.0]])
    adc = replace(IDEAL, adc_bits=3, adc_range=1.5)
    deployment = ns.deploy(net, chip(adc), device_seed=0)
    # Inputs 1 and 1 (largest 1): sums 1.6 and -0.8 -> 1.5 (clipped? rint(3.2) = 3: no), -1.0.
    result = crossbar_outputs(deployment, [[1.0, 1.0]])
    np.testing.assert_allclose(result.outputs, [[1.5, -1.0]])
    assert result.adc_clipped == 0
    # Range 1: steps of 1/3; 1.6 is code 4.8 -> 5, beyond 3: clipped to 1; -0.8 -> -2/3.
    tight = ns.deploy(net, chip(replace(adc, adc_range=1.0)), device_seed=0)
    result = crossbar_outputs(tight, [[1.0, 1.0]])
    np.testing.assert_allclose(result.outputs, [[1.0, -2 / 3]])
    assert result.adc_clipped == 0.5
    # One row a core: each partial sum is converted: 1 + 0.6 -> 1 + 0.5; 0.2 - 1 -> 0 - 1.
    split = ns.deploy(net, chip(adc, rows=1), device_seed=0)
    np.testing.assert_allclose(crossbar_outputs(split, [[1.0, 1.0]]).outputs, [[1.5, -1.0]])
    # Unsigned DAC of 2 bits over 0..1.5: steps of 0.5; 0.7 -> 0.5, 2 is clipped to 1.5.
    dac = ns.deploy(net, chip(replace(IDEAL, dac_bits=2, dac_range=1.5)), device_seed=0)
    result = crossbar_outputs(dac, [[0.7, 2.0]])
    np.testing.assert_allclose(result.outputs, [[0.5 + 0.9, 0.1 - 1.5]])
    assert result.dac_clipped == 0.5
    # Signed inputs: 2 bits are -1, 0, 1 of the largest.
    signed = ns.deploy(net, chip(replace(IDEAL, dac_bits=2)), device_seed=0)
    result = crossbar_outputs(signed, [[-1.0, 0.4]])
    np.testing.assert_allclose(result.outputs, [[-1.0, -0.2]])


def test_slices_are_converted_one_by_one():
    # 11 of 15 = digits 3 (low) and 2 (high) of 3; a 2 bit ADC of range 1 knows -1, 0, 1 of 3.
    device = ns.CrossbarDevice(
        levels=4, slices=2, g_on_s=1e-5, g_off_s=0.0, adc_bits=2, adc_range=1
    )
    deployment = ns.deploy(network([[11.0], [15.0]]), chip(device), device_seed=0)
    # low 3/3 -> 1 -> 3; high 2/3 -> rint(0.667) = 1 -> 3 * 4.
    np.testing.assert_allclose(crossbar_outputs(deployment, [[1.0]]).outputs, [[15.0, 15.0]])


def test_read_noise_has_the_variance_of_its_devices():
    # Standard deviation 1 % of G: w = 1 holds 20 and 2 uS, w = 0.5 11 and 2 uS; inputs 2 and 1.
    noisy = replace(IDEAL, read_noise=[0.0, 0.01])
    net = network([[1.0, 0.5]])
    n = 20_000
    outputs = crossbar_outputs(
        ns.deploy(net, chip(noisy), device_seed=0), np.tile([2.0, 1.0], (n, 1)), read_seed=5
    ).outputs[:, 0]
    variance = 1e-4 * (4 * (20**2 + 2**2) + (11**2 + 2**2)) / 18**2
    # A false alarm in 1e-6 runs: 4.9 standard errors of mean and variance.
    assert abs(outputs.mean() - 2.5) < 4.9 * np.sqrt(variance / n)
    assert abs(outputs.var() / variance - 1) < 4.9 * np.sqrt(2 / n)
    assert abs(outputs.var() / (variance * 1.1) - 1) > 4.9 * np.sqrt(2 / n)  # 10 % off is seen


def test_programming_error_has_the_standard_deviation_of_the_profile():
    net = network(np.full((100, 100), 0.5) * np.where(np.arange(100) == 0, 2, 1))
    device = replace(IDEAL, programming_error=[1e-7, 0.01])
    held = ns.deploy(net, chip(device, rows=64, columns=64), device_seed=1).network.layers[0].weight
    errors = (held - net.layers[0].weight)[:, 1:].ravel()
    # w = 0.5: 11 and 2 uS with standard deviations 0.21 and 0.12 uS, of 18 uS.
    expected = (0.21**2 + 0.12**2) / 18**2
    n = errors.size
    assert abs(errors.mean()) < 4.9 * np.sqrt(expected / n)
    assert abs(errors.var() / expected - 1) < 4.9 * np.sqrt(2 / n)
    assert abs(errors.var() / (1.1 * expected) - 1) > 4.9 * np.sqrt(2 / n)


def test_devices_of_a_chip_keep_their_errors_and_those_of_another_differ():
    big, small = network(np.ones((6, 5))), network(np.ones((4, 3)))
    device = replace(IDEAL, programming_error=[1e-7])
    one = [ns.deploy(n, chip(device, rows=8, columns=8), device_seed=4) for n in (big, small)]
    weights = [deployment.network.layers[0].weight for deployment in one]
    assert np.array_equal(weights[0][:4, :3], weights[1])  # the same places on the same chip
    other = ns.deploy(big, chip(device, rows=8, columns=8), device_seed=5)
    assert (other.network.layers[0].weight != weights[0]).all()
    split = ns.deploy(big, chip(device, rows=3, columns=8), device_seed=4).network.layers[0].weight
    assert len(np.unique(split)) == split.size  # cores do not share their devices' errors


def test_the_offset_column_is_shared_by_the_row_of_a_core():
    device = replace(IDEAL, mapping="offset", programming_error=[1e-7])
    deployment = ns.deploy(network(np.ones((6, 5))), chip(device, columns=3), device_seed=4)
    minus = deployment.device_draws(1)[0][1, 0]
    assert (minus[:3] == minus[0]).all()
    assert (minus[3:] == minus[3]).all()
    assert (minus[0] != minus[3]).all()
    plus = deployment.device_draws(1)[0][0, 0]
    assert not np.isin(minus, plus).any()  # a column of devices of its own


def test_programming_and_drift_have_draws_of_their_own():
    drifts = {"drift_nu": 0.1, "drift_nu_sd": 0.02, "drift_t0_s": 1.0, "drift_time_s": 10.0}
    device = replace(IDEAL, programming_error=[1e-7], **drifts)
    deployment = ns.deploy(network(np.ones((6, 5))), chip(device, columns=3), device_seed=4)
    programming, drift = deployment.device_draws(1)
    assert np.intersect1d(programming, drift).size == 0
    assert len(np.unique(drift)) == drift.size


def test_campaigns_run_on_the_programmed_weights_and_old_ones_are_as_they_were():
    net = network([[0.5, 0.3], [0.2, 1.0]])
    held = chip(ns.CrossbarDevice(mapping="digital", bits=3))
    faults = [ns.StuckAtZero("synapse", probability=0.5)]
    values = {"faults": faults, "inputs": [[1.0, 1.0]], "trials": 4, "seed": 1}
    before = ns.Campaign(deployment=ns.deploy(net, ns.Chip(name="bench")), **values)
    ideal = ns.Campaign(deployment=ns.deploy(net, held), **values)
    programmed = ns.Campaign(deployment=ns.deploy(net, held, device_seed=0), **values)
    assert before.fingerprint == ideal.fingerprint != programmed.fingerprint
    np.testing.assert_allclose(programmed.network.layers[0].weight, [[2 / 3, 1 / 3], [1 / 3, 1]])
    assert programmed.deployment.trained is net
    assert "a device_seed programs them" in str(ideal.deployment)
    assert "device_seed" not in str(programmed.deployment)
    noted = ns.deploy(net, chip(FULL), device_seed=0)
    assert "not in campaigns: read noise, dac, adc" in str(noted)


def test_nonidealities_show_each_part_alone_and_all_together():
    rng = np.random.default_rng(0)
    net = ns.Network.dense(
        weights=[rng.normal(size=(12, 8)), rng.normal(size=(3, 12))],
        biases=[np.zeros(12), np.zeros(3)],
        activations=["relu", "identity"],
    )
    inputs = rng.normal(size=(50, 8))
    targets = net(inputs).argmax(axis=1)
    deployment = ns.deploy(net, chip(FULL, rows=5, columns=5), device_seed=2)
    found = ns.nonidealities(deployment, inputs, targets, chips=3)
    assert [part.name for part in found.parts] == [*NONIDEALITIES, "all"]
    assert found.ideal == 1.0
    assert all(part.error > 0 for part in found.parts)
    assert found["all"].error > max(found[n].error for n in ("levels", "programming", "dac"))
    assert all(0 <= part.score <= 1 for part in found.parts)
    text = str(found)
    assert "non-idealities of bench alone, without faults, 3 chips; accuracy 1 where" in text
    assert "read noise" in text
    # Programming alone is what a deployment with nothing else makes of the inputs.
    alone = ns.deploy(net, chip(FULL.only("programming"), rows=5, columns=5), device_seed=2)
    error = alone.network(inputs) - net(inputs)
    single = ns.nonidealities(deployment, inputs)["programming"]
    assert single.error == pytest.approx(float(np.sqrt((error**2).mean())), rel=1e-12)
    assert single.score is None
    squared = ns.nonidealities(deployment, inputs, net(inputs))["levels"]
    assert squared.score == pytest.approx(squared.error**2)
    quiet = ns.nonidealities(ns.deploy(net, chip(FULL.only())), inputs)
    assert [(part.name, part.error) for part in quiet.parts] == [("all", 0.0)]


def test_what_cannot_be_simulated_is_refused():
    net = network([[1.0, -1.0]])
    with pytest.raises(InputError, match="expected none for chip plain, which has no device"):
        ns.deploy(net, ns.Chip(name="plain"), device_seed=0)
    with pytest.raises(InputError, match="device_seed: expected a whole number"):
        ns.deploy(net, chip(IDEAL), device_seed=1.5)
    with pytest.raises(InputError, match="device_seed: expected 0 to"):
        ns.deploy(net, chip(IDEAL), device_seed=-1)
    with pytest.raises(InputError, match="plain, which has none"):
        ns.nonidealities(ns.deploy(net, ns.Chip(name="plain")), [[1.0, 1.0]])
    with pytest.raises(InputError, match="no device_seed"):
        crossbar_outputs(ns.deploy(net, chip(IDEAL)), [[1.0, 1.0]])
    with pytest.raises(InputError, match="targets: expected class numbers from 0 to 0"):
        ns.nonidealities(ns.deploy(net, chip(IDEAL)), [[1.0, 1.0]], [3])
    with pytest.raises(InputError, match="chips: expected a whole number from 1 on"):
        ns.nonidealities(ns.deploy(net, chip(IDEAL)), [[1.0, 1.0]], chips=0)
    with pytest.raises(InputError, match="device: expected CrossbarDevice"):
        ns.Chip(name="x", device="rram")
    one_bit = chip(replace(IDEAL, dac_bits=1))
    with pytest.raises(InputError, match="dac_bits: expected at least 2 for activities of both"):
        crossbar_outputs(ns.deploy(net, one_bit, device_seed=0), [[1.0, -1.0]])


def test_columns_share_the_reading_of_the_offset_column():
    # Constant noise of every device, all inputs 1: a column and its reference have the same
    # variance, so half of the noise of all columns of a core is common to them.
    net = ns.Network.dense(weights=[np.eye(50)], biases=[np.zeros(50)], activations=["identity"])
    shares = {}
    for mapping in ("differential", "offset"):
        device = ns.CrossbarDevice(mapping=mapping, read_noise=(1e-7,), g_on_s=20e-6, g_off_s=2e-6)
        deployment = ns.deploy(net, ns.Chip(name="mine", device=device), device_seed=0)
        noise = crossbar_outputs(deployment, np.ones((400, 50))).outputs - 1
        if mapping == "differential":
            # That of the 2 x 50 devices of a column; four standard errors.
            expected = 100 * (1e-7 / 18e-6) ** 2
            assert abs(noise.var() / expected - 1) < 4 * np.sqrt(2 / noise.size)
        own = (noise - noise.mean(axis=1, keepdims=True)).var()
        shares[mapping] = own / noise.var()
    assert shares["differential"] > 0.95
    assert 0.4 < shares["offset"] < 0.6


def test_read_noise_is_that_of_the_devices_that_a_signal_passes():
    # Inputs of two sizes, levels and slices: each of 2 x 2 devices of a weight has the standard
    # deviation s, so that a sum over a column varies by sum over devices of (worth s y)^2.
    n, sigma = 40, 1e-7
    net = ns.Network.dense(weights=[2 * np.eye(n)], biases=[np.zeros(n)], activations=["identity"])
    device = ns.CrossbarDevice(read_noise=(sigma,), g_on_s=20e-6, g_off_s=2e-6, levels=4, slices=2)
    deployment = ns.deploy(net, ns.Chip(name="mine", device=device), device_seed=0)
    inputs = np.tile(np.repeat([0.25, 1.0], n // 2), (500, 1))
    noise = crossbar_outputs(deployment, inputs).outputs - net(inputs)
    # A weight is 2 / 15 times its digits, 3 digits a device over its range, 4 times as many above.
    worth = 2 / 15 * 3 / (20e-6 - 2e-6) * np.array([1, 4])
    expected = 2 * (worth**2).sum() * sigma**2 * (inputs[0] ** 2).sum()
    assert abs(noise.var() / expected - 1) < 4 * np.sqrt(2 / noise.size)


def test_the_shared_reading_is_that_of_the_offset_column():
    # The lowest weight: devices of the columns are off and without noise, what is left is common.
    net = network(-np.ones((6, 8)))
    device = ns.CrossbarDevice(mapping="offset", read_noise=(0.0, 0.05), g_on_s=20e-6, g_off_s=0.0)
    deployment = ns.deploy(net, ns.Chip(name="mine", device=device), device_seed=0)
    noise = crossbar_outputs(deployment, np.ones((20, 8))).outputs + 8
    assert noise.std() > 0.01
    np.testing.assert_allclose(noise, noise[:, :1] + np.zeros(6), atol=1e-12)


def serial(**values):
    """Inputs in units of their largest code, in cycles."""
    return replace(IDEAL, **{"dac_bits": 1, "input_bits": 2, "dac_range": 3.0, **values})


def test_inputs_in_cycles_by_hand():
    # CrossSim's input slices: the bits of an input one after the other, sums shifted and added.
    # Codes 3 = 11 and 2 = 10: cycle 0 applies (1, 0), cycle 1 (1, 1), to weights 1 and 0.25.
    net = network([[1.0, 0.25]])
    exact = crossbar_outputs(ns.deploy(net, chip(serial()), device_seed=0), [[3.0, 2.0]])
    np.testing.assert_allclose(exact.outputs, [[3.5]])
    # A 3 bit ADC of range 1.25, steps of 1.25 / 3: 1 is code 2.4 -> 2, 1.25 is code 3.
    adc = {"adc_bits": 3, "adc_range": 1.25}
    result = crossbar_outputs(ns.deploy(net, chip(serial(**adc)), device_seed=0), [[3.0, 2.0]])
    np.testing.assert_allclose(result.outputs, [[2 / 3 * 1.25 + 2 * 1.25]])
    # In one cycle: (3 + 0.5) / 3 is code 2.8 -> 3.
    one = serial(input_bits=None, dac_bits=2, **adc)
    result = crossbar_outputs(ns.deploy(net, chip(one), device_seed=0), [[3.0, 2.0]])
    np.testing.assert_allclose(result.outputs, [[3 * 1.25]])
    # Signed: a bit for the sign, which each cycle applies: (-1, 0), then (-1, 1).
    signed = serial(input_bits=3, **adc)
    result = crossbar_outputs(ns.deploy(net, chip(signed), device_seed=0), [[-3.0, 2.0]])
    np.testing.assert_allclose(result.outputs, [[-2 / 3 * 1.25 - 2 * 2 / 3 * 1.25]])
    # Without a range of its own the ADC spans the largest sum of any cycle, which is exact then.
    free = serial(adc_bits=3)
    result = crossbar_outputs(ns.deploy(net, chip(free), device_seed=0), [[3.0, 2.0]])
    np.testing.assert_allclose(result.outputs, [[2 / 3 * 1.25 + 2 * 1.25]])
    assert (result.dac_clipped, result.adc_clipped) == (0, 0)
    # 3 bits, 2 at a time: 7 = 11 + 4 x 1; beyond the range: clipped to 7, counted.
    uneven = serial(input_bits=3, dac_bits=2, dac_range=7.0)
    result = crossbar_outputs(ns.deploy(net, chip(uneven), device_seed=0), [[9.0, 6.6]])
    np.testing.assert_allclose(result.outputs, [[7 + 7 / 4]])
    assert result.dac_clipped == 0.5
    # Switched off, the DAC neither rounds nor clips, though the cycles stay.
    result = crossbar_outputs(
        ns.deploy(net, chip(uneven), device_seed=0), [[9.0, 6.6]], off=["dac"]
    )
    np.testing.assert_allclose(result.outputs, [[9 + 6.6 / 4]])


@given(case=networks(max_depth=3, max_width=7), bits=st.integers(2, 9), at_a_time=st.integers(1, 4),
       rows=st.integers(1, 9))  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_cycles_without_an_adc_are_the_converter_of_all_bits(case, bits, at_a_time, rows):
    net, inputs = case
    whole = replace(IDEAL, dac_bits=bits)
    cycles = replace(IDEAL, dac_bits=min(bits, at_a_time), input_bits=bits)
    found = [
        crossbar_outputs(ns.deploy(net, chip(device, rows=rows), device_seed=0), inputs)
        for device in (whole, cycles)
    ]
    np.testing.assert_allclose(found[0].outputs, found[1].outputs, rtol=1e-9, atol=1e-9)
    assert found[0].dac_clipped == found[1].dac_clipped


def test_every_cycle_is_a_reading_of_its_own():
    # Code 3 = 11: cycles worth 1 and 2 thirds of the input, each with the noise of its reading.
    noisy = serial(read_noise=[0.0, 0.01], dac_range=1.0)
    n = 20_000
    outputs = crossbar_outputs(
        ns.deploy(network([[1.0]]), chip(noisy), device_seed=0), np.ones((n, 1)), read_seed=5
    ).outputs[:, 0]
    variance = 1e-4 * (20**2 + 2**2) / 18**2 * (1 + 4) / 9
    # A false alarm in 1e-6 runs: 4.9 standard errors.
    assert abs(outputs.mean() - 1) < 4.9 * np.sqrt(variance / n)
    assert abs(outputs.var() / variance - 1) < 4.9 * np.sqrt(2 / n)
    assert abs(outputs.var() / (variance * 9 / 5) - 1) > 4.9 * np.sqrt(2 / n)


DRIFTING = replace(IDEAL, drift_nu=0.05, drift_nu_sd=0.01, drift_t0_s=20.0, drift_time_s=1e4)


def test_compensation_is_read_core_by_core():
    rng = np.random.default_rng(0)
    net = network(rng.normal(size=(4, 6)))
    weight = net.layers[0].weight
    for kind in ("core", "column"):
        device = replace(DRIFTING, drift_compensation=kind)
        deployment = ns.deploy(net, chip(device, rows=3, columns=2), device_seed=1)
        _, drift = deployment.device_draws(1)
        scale = np.abs(weight).max()
        start = 2e-6 + 18e-6 * np.stack([np.maximum(weight, 0), np.maximum(-weight, 0)]) / scale
        late = start * (1 + 1e4 / 20) ** -(0.05 + 0.01 * drift[:, 0])
        expected = np.empty_like(weight)
        for out in range(4):
            for rows in (slice(0, 3), slice(3, 6)):
                columns = slice(out // 2 * 2, out // 2 * 2 + 2) if kind == "core" else [out]
                factor = start[:, columns, rows].sum() / late[:, columns, rows].sum()
                expected[out, rows] = factor * (late[0] - late[1])[out, rows] / 18e-6 * scale
        np.testing.assert_allclose(deployment.network.layers[0].weight, expected, rtol=1e-12)
        # The same through the converters, which see the sums before they are multiplied.
        inputs = rng.normal(size=(5, 6))
        exact = replace(device, adc_bits=32, dac_bits=32)
        through = ns.deploy(net, chip(exact, rows=3, columns=2), device_seed=1)
        np.testing.assert_allclose(
            crossbar_outputs(through, inputs).outputs, inputs @ expected.T, atol=1e-6
        )


def test_compensation_restores_what_drifts_alike_and_leaves_the_rest():
    rng = np.random.default_rng(0)
    net, inputs = network(rng.normal(size=(4, 6))), rng.normal(size=(5, 6))
    alike = replace(DRIFTING, drift_nu_sd=0.0, programming_error=[1e-7])
    errors = {}
    for kind in (None, "core", "column"):
        deployment = ns.deploy(net, chip(replace(alike, drift_compensation=kind), rows=3))
        errors[kind] = ns.nonidealities(deployment, inputs)
    assert errors[None]["drift"].error > 0.1
    for kind in ("core", "column"):
        assert errors[kind]["drift"].error < 1e-12
        assert errors[kind]["programming"] == errors[None]["programming"]
        assert errors[kind]["all"].error < 0.5 * errors[None]["all"].error
    spread = [
        ns.nonidealities(ns.deploy(net, chip(replace(DRIFTING, drift_compensation=kind))), inputs)
        for kind in (None, "core")
    ]
    assert 0 < spread[1]["drift"].error < spread[0]["drift"].error
    # With the levels off, what they round away is not compensated for a drift that it had not.
    coarse = replace(alike, programming_error=(), levels=4, drift_compensation="core")
    deployment = ns.deploy(net, chip(coarse.without("levels")), device_seed=0)
    np.testing.assert_allclose(deployment.network.layers[0].weight, net.layers[0].weight)
