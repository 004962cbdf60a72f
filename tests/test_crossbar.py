"""Weights in conductances: values by hand, and what must hold for every device."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurosim.crossbar import NONIDEALITIES, CrossbarDevice, scale_of
from neurosim.errors import InputError

US = 1e-6


def device(**values):
    return CrossbarDevice(**{"g_on_s": 20 * US, "g_off_s": 2 * US, **values})


class TestByHand:
    """Formulas of the documentation of CrossSim (balanced, offset and bit-sliced cores)."""

    def test_one_sided_pair(self):
        # Balanced core, one-sided: Gmin + Grange w on one side, Gmin on the other.
        found = device().conductances([0.5, -0.25, 0.0], 1.0)[:, 0]
        np.testing.assert_allclose(found, np.array([[11, 2, 2], [2, 6.5, 2]]) * US)

    def test_two_sided_pair(self):
        # Balanced core, two-sided: Gmin + Grange (1 +- w) / 2.
        found = device(two_sided=True).conductances([0.5, -1.0, 0.0], 1.0)[:, 0]
        np.testing.assert_allclose(found, np.array([[15.5, 2, 11], [6.5, 20, 11]]) * US)

    def test_two_sided_pair_rounds_each_device(self):
        # 4 levels: rint(3 (1 + 0.5) / 2) = rint(2.25) = 2, rint(3 (1 - 0.5) / 2) = rint(0.75) = 1.
        found = device(two_sided=True, levels=4).target_digits([0.5], 1.0)[:, 0, 0]
        assert found.tolist() == [2, 1]
        assert device(two_sided=True, levels=4).programmed_weights([0.5], 1.0) == 1 / 3

    def test_conductances_are_rounded_to_levels(self):
        # Quantiser: rint((G - Gmin) (levels - 1) / Grange); 5 levels are 4.5 uS apart.
        found = device(levels=5).conductances([0.3, 0.4, -0.9], 1.0)[:, 0]
        np.testing.assert_allclose(found, np.array([[6.5, 11, 2], [2, 2, 20]]) * US)

    def test_offset_column(self):
        # Offset core: an even number of levels leaves the lowest one unused, so that 0 is a level.
        even = device(mapping="offset", levels=4)
        assert even.target_digits([-1.0, 0.0, 1.0], 1.0)[:, 0].tolist() == [[1, 2, 3], [2, 2, 2]]
        found = device(mapping="offset").conductances([-1.0, 0.0, 1.0], 1.0)[:, 0]
        np.testing.assert_allclose(found, np.array([[2, 11, 20], [11, 11, 11]]) * US)

    def test_slices_of_a_pair(self):
        # Bit-sliced core, balanced: rint(|w| (4^2 - 1)) = 11 = 2 * 4 + 3.
        found = device(levels=4, slices=2).target_digits([-11 / 15], 1.0)[:, :, 0]
        assert found.tolist() == [[0, 0], [3, 2]]

    def test_slices_of_an_offset_column(self):
        # Bit-sliced core, offset: rint(w 7) + 8 for 4 bits; -3 + 8 = 5 = 1 * 4 + 1; 8 = 2 * 4 + 0.
        found = device(mapping="offset", levels=4, slices=2).target_digits([-3 / 7], 1.0)[:, :, 0]
        assert found.tolist() == [[1, 1], [0, 2]]

    def test_digital(self):
        four = CrossbarDevice(mapping="digital", bits=4)
        np.testing.assert_allclose(four.programmed_weights([0.5, -1.0], 1.0), [4 / 7, -1])
        # 3 = 0011; bit 1 flips to 0001, the sign bit to 1011 = -5.
        assert four.flipped_weight([3.0], 7.0, bit=1) == [1.0]
        assert four.flipped_weight([3.0], 7.0, bit=3) == [-5.0]

    def test_polynomial_of_the_programming_error(self):
        # Wan et al., 2022, at 20 uS: 1.053 + 4.748 - 4.668 + 1.2288 = 2.3618 uS.
        wan = device(programming_error=[1.053e-6, 0.2374, -1.167e4, 1.536e8])
        assert wan.programming_sigma_s(20 * US) == pytest.approx(2.3618 * US)
        # Joshi et al., 2020, at 10 uS: 0.28638599 + 0.7585724 - 0.178767 = 0.86619139 uS.
        joshi = device(programming_error=[2.8638599e-7, 7.585724e-2, -1.78767e3])
        assert joshi.programming_sigma_s(10 * US) == pytest.approx(0.86619139 * US)
        # One standard deviation more on the plus device, w = 1: 2.3618 / 18 of the scale.
        draws = np.zeros((2, 1, 1))
        draws[0] = 1
        found = wan.programmed_weights([3.0], 3.0, programming=draws)
        assert found == pytest.approx(3 * (1 + 2.3618 / 18))

    def test_drift(self):
        drifting = device(drift_nu=0.05, drift_nu_sd=0.01, drift_t0_s=20, drift_time_s=180)
        # (180 + 20) / 20 = 10; G = 20 10^-nu, the minus device drifts from 2 uS.
        draws = np.array([[[2.0]], [[0.0]]])
        expected = (20 * 10**-0.07 - 2 * 10**-0.05) / 18
        assert drifting.programmed_weights([1.0], 1.0, drift=draws) == pytest.approx(expected)

    def test_drift_is_compensated_by_the_current_of_a_core_or_column(self):
        values = {"g_off_s": 0.0, "drift_nu": 0.05, "drift_nu_sd": 0.01, "drift_t0_s": 20,
                  "drift_time_s": 180}  # fmt: skip
        # Plus devices of 20 and 10 uS drift by 10^-0.07 and 10^-0.02, minus devices hold nothing.
        draws = {"programming": np.zeros((2, 1, 2)), "drift": np.zeros((2, 1, 2))}
        draws["drift"][0, 0] = 2, -3
        weight, held = [1.0, 0.5], np.array([10**-0.07, 0.5 * 10**-0.02])
        plain = device(**values)
        assert plain.drift_factors(weight, 1.0, [0, 0], **draws).tolist() == [1, 1]
        np.testing.assert_allclose(plain.programmed_weights(weight, 1.0, **draws), held)
        core = device(**values, drift_compensation="core")
        factor = 30 / (20 * 10**-0.07 + 10 * 10**-0.02)
        found = core.drift_factors(weight, 1.0, [3, 3], **draws)
        np.testing.assert_allclose(found, [factor, factor])
        restored = core.programmed_weights(weight, 1.0, **draws, compensation=found)
        np.testing.assert_allclose(restored, factor * held)
        own = core.drift_factors(weight, 1.0, [3, 5], **draws)
        np.testing.assert_allclose(own, [10**0.07, 10**0.02])
        # The stuck device of a pair is read through the same factor: 1.8 for 18 uS.
        pair = device(**{**values, "g_off_s": 2 * US}, drift_compensation="core")
        digits = pair.programmed_digits([1.0], 1.0, drift=np.zeros((2, 1, 1)), compensation=1.8)
        stuck = pair.stuck_weight([1.0], 1.0, half="plus", state="stuck_lrs", digits=digits,
                                  compensation=1.8)  # fmt: skip
        assert stuck == pytest.approx(1.8 * (1 - (2 * 10**-0.05 - 2) / 18))
        # Nothing to compensate: no time has passed, or drift is switched off.
        for still in (device(**{**values, "drift_time_s": 0}, drift_compensation="core"),
                      core.without("drift")):  # fmt: skip
            assert still.drift_factors(weight, 1.0, [0, 0], **draws).tolist() == [1, 1]
        # An offset column is left out: plus devices of 20 and 15 uS.
        offset = replace(core, mapping="offset")
        factor = 35 / (20 * 10**-0.07 + 15 * 10**-0.02)
        found = offset.drift_factors(weight, 1.0, [0, 0], **draws)
        np.testing.assert_allclose(found, [factor, factor])

    @pytest.mark.parametrize(
        ("half", "state", "expected"),
        [
            ("plus", "stuck_lrs", [1.0, 0.75]),  # (20 - 2) / 18, (20 - 6.5) / 18
            ("plus", "stuck_hrs", [0.0, -0.25]),
            ("minus", "stuck_lrs", [-0.5, -1.0]),  # (11 - 20) / 18, (2 - 20) / 18
            ("minus", "stuck_hrs", [0.5, 0.0]),
        ],
    )
    def test_stuck_devices(self, half, state, expected):
        found = device().stuck_weight([0.5, -0.25], 1.0, half=half, state=state)
        np.testing.assert_allclose(found, expected, atol=1e-12)

    def test_a_half_stuck_at_hrs_is_not_a_zero_weight(self):
        # Two-sided: w = 0.5 holds 15.5 and 6.5 uS; without its plus half (2 - 6.5) / 18.
        two = device(two_sided=True).stuck_weight([0.5], 1.0, half="plus", state="stuck_hrs")
        assert two == pytest.approx(-0.25)
        # An open device conducts less than g_off: 0 - 2 of 18, unless the ratio is infinite.
        opened = device(g_stuck_hrs_s=0.0)
        assert opened.stuck_weight([0.5], 1.0, half="plus", state="stuck_hrs") == pytest.approx(
            -2 / 18
        )
        infinite = device(g_off_s=0.0, g_stuck_hrs_s=0.0)
        assert infinite.stuck_weight([0.5], 1.0, half="plus", state="stuck_hrs") == 0

    def test_a_stuck_slice(self):
        # 11 = 2 * 4 + 3; the upper slice stuck on: 3 * 4 + 3 = 15, the lower one off: 8.
        sliced = device(levels=4, slices=2)
        on = sliced.stuck_weight([11.0], 15.0, half="plus", state="stuck_lrs", slice_number=1)
        off = sliced.stuck_weight([11.0], 15.0, half="plus", state="stuck_hrs", slice_number=0)
        np.testing.assert_allclose([on[0], off[0]], [15, 8])


weights = st.lists(st.floats(-1, 1), min_size=1, max_size=8).map(np.array)


@st.composite
def devices(draw):
    mapping = draw(st.sampled_from(["differential", "offset", "digital"]))
    if mapping == "digital":
        return CrossbarDevice(mapping=mapping, bits=draw(st.integers(2, 12)))
    two_sided = mapping == "differential" and draw(st.booleans())
    levels = draw(st.none() | st.integers(3, 40))
    slices = 1 if two_sided or levels is None else draw(st.integers(1, 4))
    ratio = draw(st.sampled_from([math.inf, 1.1, 10.0, 1e4]))
    return CrossbarDevice(
        mapping=mapping,
        two_sided=two_sided,
        levels=levels,
        slices=slices,
        g_on_s=1e-5,
        g_off_s=1e-5 / ratio,
        programming_error=draw(st.sampled_from([(), (1e-7,), (1e-8, 0.1)])),
        drift_nu=0.05,
        drift_t0_s=20.0,
        drift_time_s=draw(st.sampled_from([0.0, 100.0])),
    )


@given(device=devices(), weight=weights, scale=st.sampled_from([1.0, 0.3, 7.0]))
@settings(max_examples=200, deadline=None)
def test_rounding_loses_at_most_half_a_level_and_nothing_twice(device, weight, scale):
    ideal = device.only("levels")
    held = ideal.programmed_weights(weight * scale, scale)
    step = scale / device.span * (1 if "levels" in device.nonidealities else 0)
    step *= 2 if device.two_sided else 1  # both devices round
    assert (np.abs(held - weight * scale) <= step / 2 + 1e-9 * scale).all()
    again = ideal.programmed_weights(np.clip(held, -scale, scale), scale)
    if not device.two_sided:
        np.testing.assert_allclose(again, held, atol=1e-9 * scale)


@given(device=devices(), weight=weights, seed=st.integers(0, 2**32))
@settings(max_examples=100, deadline=None)
def test_all_off_is_the_weight_bit_for_bit_and_parts_add_up(device, weight, seed):
    draws = np.random.default_rng(seed).standard_normal((2, device.slices, len(weight)))
    assert (device.only().programmed_weights(weight, 1.0, programming=draws) == weight).all()
    full = device.programmed_weights(weight, 1.0, programming=draws, drift=draws)
    levels = device.only("levels").programmed_weights(weight, 1.0)
    rest = device.without("levels").programmed_weights(weight, 1.0, programming=draws, drift=draws)
    np.testing.assert_allclose(levels + rest - weight, full, atol=1e-9)


@given(device=devices(), weight=weights)
@settings(max_examples=100, deadline=None)
def test_conductances_stay_between_off_and_on_and_hold_the_weight(device, weight):
    if device.mapping == "digital":
        return
    found = device.conductances(weight, 1.0)
    assert (found >= device.g_off_s - 1e-18).all()
    assert (found <= device.g_on_s * (1 + 1e-12)).all()
    np.testing.assert_allclose(
        device.weights(device.digits(found), 1.0),
        device.only("levels").programmed_weights(weight, 1.0),
        atol=1e-9,
    )


def test_the_scale_of_a_layer_of_zeros_is_one():
    assert scale_of(np.zeros((2, 2))) == 1.0


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"mapping": "pair"}, "mapping: expected one of"),
        ({"levels": 1}, "levels: expected a whole number from 2"),
        ({"levels": 2.5}, "levels: expected a whole number"),
        ({"g_on_s": 2 * US}, "g_on_s: expected more than g_off_s"),
        ({"g_on_s": 1 * US}, "exchanged, or are they resistances"),
        ({"g_on_s": None}, "g_on_s: expected a conductance"),
        ({"g_off_s": -1.0}, "g_off_s: expected siemens from 0 on"),
        ({"g_stuck_hrs_s": 1.0}, "g_stuck_lrs_s, g_stuck_hrs_s: expected"),
        ({"slices": 2}, "slices: expected levels beside them"),
        ({"slices": 2, "levels": 4, "two_sided": True}, "slices: expected 1 for a two-sided"),
        ({"slices": 32, "levels": 4}, "slices: expected at most 2"),
        ({"mapping": "offset", "levels": 2}, "levels: expected at least 3"),
        ({"mapping": "offset", "two_sided": True}, "two_sided: expected a"),
        ({"bits": 4}, 'bits: expected them for a "digital"'),
        ({"programming_error": [1e-6, -1.0]}, "programming_error: expected a standard deviation"),
        ({"programming_error": 3.0}, "programming_error: expected a list"),
        ({"programming_error_limit_s": 1 * US}, "expected at least g_on_s"),
        ({"read_noise": [math.nan]}, "read_noise: expected a list of finite"),
        ({"drift_nu": 0.1}, "drift_t0_s: expected seconds where"),
        ({"drift_time_s": 1.0}, "drift_time_s: expected seconds where"),
        ({"drift_nu": -0.1}, "drift_nu: expected a number from 0 on"),
        ({"adc_bits": 1}, "adc_bits: expected a whole number from 2"),
        ({"adc_range": 1.0}, "adc_range: expected adc_bits beside it"),
        ({"dac_bits": 4, "dac_range": 0.0}, "dac_range: expected a finite number above 0"),
        ({"off": ["noise"]}, "off: expected some of levels"),
        ({"input_bits": 4}, "input_bits: expected at least dac_bits, .* got 4 and none"),
        ({"input_bits": 4, "dac_bits": 8}, "input_bits: expected at least dac_bits, .* 4 and 8"),
        ({"input_bits": 33, "dac_bits": 8}, "input_bits: expected a whole number from 1 to 32"),
        ({"drift_compensation": "core"}, "drift_compensation: expected core or column where"),
        (
            {"drift_nu": 0.1, "drift_t0_s": 1.0, "drift_time_s": 1.0, "drift_compensation": "chip"},
            "drift_compensation: expected core or column where",
        ),
    ],
)
def test_contradictions_are_refused(values, said):
    with pytest.raises(InputError, match=said):
        device(**values)


def test_a_digital_mapping_has_no_conductances():
    with pytest.raises(InputError, match="bits: expected the number of bits"):
        CrossbarDevice(mapping="digital")
    with pytest.raises(InputError, match='g_on_s: expected none for a "digital"'):
        CrossbarDevice(mapping="digital", bits=4, g_on_s=1.0)
    digital = CrossbarDevice(mapping="digital", bits=4)
    with pytest.raises(InputError, match="for conductances"):
        digital.stuck_weight([1.0], 1.0, half="plus", state="stuck_lrs")
    with pytest.raises(InputError, match="bit: expected 0 to 3"):
        digital.flipped_weight([1.0], 1.0, bit=4)
    with pytest.raises(InputError, match="devices get stuck instead"):
        device().flipped_weight([1.0], 1.0, bit=0)


def test_devices_that_do_not_exist_are_refused():
    for values, said in (
        ({"half": "both", "state": "stuck_lrs"}, "half: expected plus or minus"),
        ({"half": "plus", "state": "sa0"}, "state: expected stuck_lrs or stuck_hrs"),
        ({"half": "plus", "state": "stuck_lrs", "slice_number": 1}, "slice_number: expected 0 to"),
    ):
        with pytest.raises(InputError, match=said):
            device().stuck_weight([1.0], 1.0, **values)
    with pytest.raises(InputError, match="weight: expected at most the scale"):
        device().target_digits([2.0], 1.0)
    with pytest.raises(InputError, match="names: expected some of"):
        device().only("noise")


def test_a_device_says_what_it_is():
    text = str(device(levels=4, slices=2, programming_error=[1e-6], adc_bits=8).without("adc"))
    assert "one-sided, 4 levels from 2e-06 to 2e-05 S (on/off 10), 2 slices, programming" in text
    assert text.endswith("switched off: adc")
    assert set(NONIDEALITIES) == {"levels", "programming", "drift", "read_noise", "dac", "adc"}
