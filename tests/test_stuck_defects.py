"""Maps with stuck devices: as files, as weights, in placements, campaigns and predictions."""

from dataclasses import replace

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import neurosim as ns
from neurosim.crossbar import CrossbarDevice, scale_of
from neurosim.errors import FormatError, InputError
from neurosim.placement import place_around

DEVICES = {
    "differential": CrossbarDevice(g_on_s=2e-5, g_off_s=2e-6, g_stuck_hrs_s=0.0),
    "two-sided": CrossbarDevice(two_sided=True, g_on_s=2e-5, g_off_s=2e-6),
    "offset": CrossbarDevice(mapping="offset", g_on_s=2e-5, g_off_s=2e-6),
    "slices": CrossbarDevice(
        levels=4, slices=2, g_on_s=2e-5, g_off_s=2e-6, programming_error=[1e-7]
    ),
}
MAP = ns.DefectMap(
    [
        ns.Defect(0, "stuck_lrs", 0, 0, half="plus"),
        ns.Defect(0, "stuck_hrs", 0, 0, half="minus"),
        ns.Defect(0, "stuck_hrs", 1, 1, half="plus"),
        ns.Defect(1, "stuck_hrs", 0, 1, half="plus"),
        ns.Defect(1, "synapse", 0, 1),
        ns.Defect(2, "row", row=1),
    ]
)


def chip_of(device="differential", rows=3, columns=3):
    return ns.Chip(name="bench", rows=rows, columns=columns, cores=8, device=DEVICES[device])


def small(seed=0):
    rng = np.random.default_rng(seed)
    network = ns.Network.dense(
        weights=[rng.normal(size=(4, 5)), rng.normal(size=(2, 4))],
        biases=[rng.normal(size=4), [0.0, 0.0]],
        activations=["tanh", "identity"],
    )
    return network, rng.normal(size=(3, 5))


@pytest.mark.parametrize("name", ["map.csv", "map.h5"])
def test_a_map_with_stuck_devices_is_read_again(name, tmp_path):
    MAP.write(tmp_path / name)
    found = ns.DefectMap.read(tmp_path / name)
    assert found.defects == MAP.defects
    assert str(found) == (
        "1 synapses, 1 rows, 0 columns, 0 cores dead; devices stuck: 1 in LRS, 3 in HRS"
    )
    assert "half='plus', slice_number=0" in repr(found.defects[0])


def test_a_map_without_them_stays_as_it_was(tmp_path):
    ns.DefectMap([ns.Defect(0, "synapse", 1, 2)]).write(tmp_path / "map.csv")
    assert (tmp_path / "map.csv").read_text() == "core,kind,row,column\n0,synapse,1,2\n"
    with h5py.File(tmp_path / "old.h5", "w") as file:  # without half and slice
        group = file.create_group("defects")
        group["kind"] = np.array(["column"], dtype=object)
        for key, value in (("core", 3), ("row", -1), ("column", 7)):
            group[key] = np.array([value])
    assert ns.DefectMap.read(tmp_path / "old.h5").defects == (ns.Defect(3, "column", column=7),)
    assert repr(ns.Defect(3, "column", column=7)) == (
        "Defect(core=3, kind='column', row=None, column=7)"
    )


@pytest.mark.parametrize(
    ("lines", "error", "message"),
    [
        ("core,kind,row,column,half\n", FormatError, "and half,slice for stuck devices"),
        ("0,stuck_lrs,1,2,,\n", InputError, "line 2: half: expected plus or minus"),
        ("0,stuck_lrs,1,2,left,\n", InputError, "line 2: half: expected plus or minus"),
        ("0,stuck_lrs,1,,plus,\n", InputError, "line 2: column: expected a whole number"),
        ("0,stuck_hrs,1,2,plus,-1\n", InputError, "line 2: slice: expected a whole number"),
        ("0,row,1,,plus,\n", InputError, "line 2: half, slice: expected none"),
        ("0,row,1,,,0\n", InputError, "line 2: half, slice: expected none"),
        ("0,row,1,\n", FormatError, "line 2: expected 6 entries, got 4"),
    ],
)
def test_a_wrong_line_is_named(lines, error, message, tmp_path):
    head = "" if lines.startswith("core") else "core,kind,row,column,half,slice\n"
    (tmp_path / "map.csv").write_text(head + lines)
    with pytest.raises(error, match=message):
        ns.DefectMap.read(tmp_path / "map.csv")


@pytest.mark.parametrize(
    ("device", "defects", "message"),
    [
        ("digital", [("stuck_lrs", "plus", 0)], "a chip with analog devices for a stuck one"),
        (None, [("stuck_hrs", "plus", 0)], "a chip with analog devices for a stuck one"),
        ("offset", [("stuck_hrs", "minus", 0)], "the device of the offset column"),
        ("slices", [("stuck_hrs", "plus", 2)], "slice from 0 to 1, those of bench, got 2"),
        (
            "slices",
            [("stuck_hrs", "plus", 1), ("stuck_lrs", "plus", 1)],
            "entry 1: expected one state of a device, got stuck_hrs before",
        ),
    ],
)
def test_devices_that_the_chip_has_not_are_refused(device, defects, message):
    held = {**DEVICES, "digital": CrossbarDevice(mapping="digital", bits=4), None: None}[device]
    chip = replace(chip_of(), device=held)
    found = ns.DefectMap(
        ns.Defect(0, kind, 0, 0, half=half, slice_number=k) for kind, half, k in defects
    )
    with pytest.raises(InputError, match=message):
        ns.deploy(small()[0], chip, found)


def by_hand(deployment):
    """Weights of every layer, each crosspoint with its own devices, one after the other."""
    device, found = deployment.chip.device, []
    stuck = {"stuck_lrs": device.g_stuck_lrs_s, "stuck_hrs": device.g_stuck_hrs_s}
    default = {"stuck_lrs": device.g_on_s, "stuck_hrs": device.g_off_s}
    for number, trained in enumerate(deployment.trained.layers, start=1):
        weight, scale = np.array(trained.weight), scale_of(trained.weight)
        draws = {}
        if deployment.device_seed is not None:
            draws["programming"] = deployment.device_draws(number)[0]
        held = device.programmed_conductances(weight, scale, **draws)
        result = np.array(deployment.network.layers[number - 1].weight)
        for out, in_ in np.ndindex(weight.shape):
            core, row, column = (int(n) for n in deployment.synapse_places(number, out, in_))
            conductances = held[:, :, out, in_].copy()
            for one in deployment.defects:
                if (one.core, one.row, one.column) == (core, row, column) and one.is_stuck:
                    g = stuck[one.kind] if stuck[one.kind] is not None else default[one.kind]
                    conductances[("plus", "minus").index(one.half), one.slice_number] = g
            if not np.array_equal(conductances, held[:, :, out, in_]):
                result[out, in_] = device.weights(device.digits(conductances), scale)
            if deployment.defects.dead_devices(core, 3, 3)[row, column]:
                result[out, in_] = 0
        found.append(result)
    return found


@given(
    device=st.sampled_from(list(DEVICES)),
    around=st.booleans(),
    seeded=st.booleans(),
    data=st.data(),
)
@settings(max_examples=60, deadline=None)
def test_weights_are_those_of_the_conductances(device, around, seeded, data):
    network, _ = small()
    halves = ("plus",) if device == "offset" else ("plus", "minus")
    stuck = st.builds(
        lambda core, kind, row, column, half, k: ns.Defect(
            core, kind, row, column, half=half, slice_number=k
        ),
        st.integers(0, 4), st.sampled_from(["stuck_lrs", "stuck_hrs"]), st.integers(0, 2),
        st.integers(0, 2), st.sampled_from(halves),
        st.integers(0, DEVICES[device].slices - 1),
    )  # fmt: skip
    dead = st.builds(
        ns.Defect, st.integers(0, 4), st.just("synapse"), st.integers(0, 2), st.integers(0, 2)
    )
    chosen = data.draw(st.lists(stuck | dead, max_size=12))
    # One state of a device: the first one drawn.
    chosen = list({
        (d.core, d.row, d.column, d.half, d.slice_number): d for d in reversed(chosen)
    }.values())  # fmt: skip
    seed = 3 if seeded or device == "slices" else None
    deployment = ns.deploy(
        network, chip_of(device), ns.DefectMap(chosen), around=around, device_seed=seed
    )
    layers = deployment.defective_network.layers
    for layer, weight in zip(layers, by_hand(deployment), strict=True):
        np.testing.assert_allclose(layer.weight, weight, rtol=1e-9, atol=1e-12)


def test_an_open_half_is_no_zero_weight_unless_the_ratio_is_infinite():
    network, _ = small()
    there = [ns.Defect(0, "stuck_hrs", 0, 0, half=half) for half in ("plus", "minus")]
    weight = network.layers[0].weight[0, 0]
    assert weight > 0  # its minus device is off
    for g_off in (2e-6, 0.0):
        chip = replace(
            chip_of(), device=CrossbarDevice(g_on_s=2e-5, g_off_s=g_off, g_stuck_hrs_s=0.0)
        )
        plus, minus = (ns.deploy(network, chip, ns.DefectMap([one]), around=False) for one in there)
        scale, gone = scale_of(network.layers[0].weight), g_off / (2e-5 - g_off)
        np.testing.assert_allclose(plus.stuck_weights, [-scale * gone], atol=1e-12)
        np.testing.assert_allclose(minus.stuck_weights, [weight + scale * gone])


@given(seed=st.integers(0, 10**6), n_kinds=st.integers(1, 3))
@settings(max_examples=50, deadline=None)
def test_placement_counts_what_each_defect_changes(seed, n_kinds):
    rng = np.random.default_rng(seed)
    loss = rng.random((n_kinds, 3, 4))
    where = rng.random((n_kinds, 5, 4)) < 0.3
    rows, columns = place_around(loss, where)

    def total(r, c):
        return sum(
            loss[k, o, i] * where[k, r[i], c[o]]
            for k in range(n_kinds) for o in range(3) for i in range(4)
        )  # fmt: skip

    assert len(set(rows.tolist())) == 4
    assert len(set(columns.tolist())) == 3
    assert total(rows, columns) <= total(range(4), range(3)) + 1e-12


def test_a_stuck_device_is_placed_under_the_weight_that_it_suits():
    # A plus device stuck in LRS does nothing to the largest weight; stuck in HRS it does nothing
    # to a negative one.
    network = ns.Network.dense(
        weights=[[[0.1, -0.5, 1.0]]], biases=[[0.0]], activations=["identity"]
    )
    device = CrossbarDevice(g_on_s=2e-5, g_off_s=0.0)
    chip = ns.Chip(name="c", rows=3, columns=1, device=device)
    for kind, input_ in (("stuck_lrs", 2), ("stuck_hrs", 1)):
        defects = ns.DefectMap([ns.Defect(0, kind, 0, 0, half="plus")])
        placed = ns.deploy(network, chip, defects)
        assert placed.rows_of(placed.blocks[0])[input_] == 0
        np.testing.assert_allclose(
            placed.defective_network.layers[0].weight, network.layers[0].weight, atol=1e-15
        )
        naive = ns.deploy(network, chip, defects, around=False)
        assert np.abs(naive.stuck_weights - 0.1).max() > 0.05


def campaign_of(deployment, inputs, faults=None, **options):
    faults = faults or [ns.StuckAtZero("neuron", probability=0.02),
                        ns.StuckAtZero("synapse", probability=0.02)]  # fmt: skip
    given_options = {"trials": 4000, "seed": 1, **options}
    return ns.Campaign(deployment=deployment, faults=faults, inputs=inputs, **given_options)


def test_stuck_devices_are_in_every_trial():
    network, inputs = small()
    deployment = ns.deploy(network, chip_of(), MAP, around=False)
    campaign = campaign_of(deployment, inputs)
    stuck = deployment.stuck_synapses
    assert len(stuck) == 2  # the dead one is dead
    for k in range(4):
        for x in range(3):
            rows = campaign.fault_set(k).values(x)[1]
            numbers = deployment.sites.synapse_numbers(rows["layer"], rows["out"], rows["in"])
            np.testing.assert_array_equal(numbers, stuck)
            np.testing.assert_array_equal(rows["weight"], deployment.stuck_weights)
    assert "2 synapses have devices known to be stuck" in str(deployment)
    other = replace(chip_of(), device=replace(DEVICES["differential"], g_stuck_lrs_s=3e-5))
    moved = campaign_of(ns.deploy(network, other, MAP, around=False), inputs)
    assert moved.fingerprint != campaign.fingerprint


def test_simulation_agrees_with_theory_about_stuck_devices_and_faults(tmp_path):
    network, inputs = small()
    deployment = ns.deploy(network, chip_of(), MAP, around=False)
    campaign = campaign_of(
        deployment, inputs, [ns.StuckAtZero("neuron", probability=0.05)], epsilons=[0.3]
    )
    with ns.run(campaign, tmp_path / "trace.h5", progress=False) as trace:
        right = ns.predict(campaign, "enumeration")
        agreed = ns.compare(trace, right, false_alarm_rate=1e-4)
        assert agreed.agrees, str(agreed)
        np.testing.assert_allclose(trace.golden, network(inputs), rtol=1e-5)
        # As if a stuck half made the weight 0.
        zero = ns.DefectMap(
            ns.Defect(d.core, "synapse", d.row, d.column) if d.is_stuck else d for d in MAP
        )
        wrong = campaign_of(
            ns.deploy(network, chip_of(), zero, around=False), inputs, campaign.faults
        )
        wrong = replace(ns.predict(wrong, "enumeration"), campaign=campaign)
        assert not ns.compare(trace, wrong, false_alarm_rate=1e-4).agrees


@pytest.mark.parametrize("backend", ["reference", "compiled"])
def test_backends_compute_the_network_with_its_defects(backend, tmp_path):
    network, inputs = small()
    deployment = ns.deploy(network, chip_of(), MAP, around=False)
    faults = [ns.StuckAtZero("synapse", probability=0.0)]
    campaign = campaign_of(
        deployment, inputs, faults, trials=2, backend=backend, dtype="float64", record=["error"]
    )
    expected = deployment.defective_network(inputs) - network(inputs)
    assert np.abs(expected).max() > 0.1
    with ns.run(campaign, tmp_path / "trace.h5", progress=False) as trace:
        for error in trace.errors[:]:
            np.testing.assert_allclose(error, expected, rtol=1e-10, atol=1e-12)
    found = ns.predict(campaign, "single-fault")
    np.testing.assert_allclose(found.mean, expected, atol=1e-12)
    assert (found.variance == 0).all()


def test_dead_wins_over_stuck():
    network, inputs = small()
    deployment = ns.deploy(network, chip_of(), MAP, around=False)
    dead = campaign_of(deployment, inputs, [ns.StuckAtZero("synapse", probability=1.0)])
    found = ns.predict(dead, "single-fault").mean_terms["known defects"]
    np.testing.assert_allclose(
        found, deployment.defective_network(inputs) - network(inputs), atol=1e-12
    )
    errors = ns.evaluate(deployment, dead.fault_set(0), inputs, backend="reference")
    without = ns.Network(layers=[replace(layer, weight=0 * layer.weight)
                                 for layer in network.layers])  # fmt: skip
    np.testing.assert_allclose(errors, without(inputs) - network(inputs), atol=1e-12)


def test_placements_are_compared_and_what_does_not_go_together_is_refused():
    network, inputs = small()
    around, naive = (ns.deploy(network, chip_of(), MAP, around=one) for one in (True, False))
    faults = [ns.StuckAtZero("neuron", probability=0.01)]
    found = ns.compare_deployments(naive, around, inputs, faults, trials=1000)
    before, after = found.predicted_square.mean(axis=(1, 2))
    assert after < before
    for process in (
        ns.StuckAt("synapse", value=1.0, probability=0.1),
        ns.StuckDevice(stuck_lrs=0.1, stuck_hrs=0.1),
    ):
        with pytest.raises(InputError, match="where the map of defects has stuck devices"):
            campaign_of(naive, inputs, [process])
    elsewhere = replace(ns.StuckDevice(stuck_lrs=0.1, stuck_hrs=0.1), layers=[2])
    campaign_of(naive, inputs, [elsewhere])
    with pytest.raises(InputError, match="got stuck devices; spikes carry no values"):
        campaign_of(naive, inputs, backend="spiking-compiled")
