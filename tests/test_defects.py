import h5py
import numpy as np
import pytest
from backend_contract import networks
from hypothesis import given, settings
from hypothesis import strategies as st

import neurosim as ns
from neurosim.errors import DeploymentError, FormatError, InputError
from neurosim.placement import place_around

CHIP = ns.Chip(name="bench", rows=4, columns=3, cores=8)
MAP = ns.DefectMap(
    [
        ns.Defect(0, "synapse", 0, 0),
        ns.Defect(1, "core"),
        ns.Defect(2, "row", row=1),
        ns.Defect(3, "column", column=0),
    ]
)


def small(seed=0, width=4):
    rng = np.random.default_rng(seed)
    network = ns.Network.dense(
        weights=[rng.normal(size=(width, 5)), rng.normal(size=(2, width))],
        biases=[rng.normal(size=width), [0.0, 0.0]],
        activations=["tanh", "identity"],
    )
    return network, rng.normal(size=(3, 5))


@pytest.mark.parametrize("name", ["map.csv", "map.h5", "map.hdf5"])
def test_a_map_that_is_written_is_read_again(name, tmp_path):
    MAP.write(tmp_path / name)
    found = ns.DefectMap.read(tmp_path / name)
    assert found.defects == MAP.defects
    assert str(found) == "1 synapses, 1 rows, 1 columns, 1 cores dead"


def test_an_empty_map_is_a_map(tmp_path):
    for name in ("map.csv", "map.h5"):
        ns.DefectMap([]).write(tmp_path / name)
        assert len(ns.DefectMap.read(tmp_path / name)) == 0


@pytest.mark.parametrize(
    ("lines", "error", "message"),
    [
        ("core,kind\n", FormatError, "line 1: expected the header core,kind,row,column"),
        ("", FormatError, "line 1: expected the header"),
        ("core,kind,row,column\n0,row,1\n", FormatError, "line 2: expected 4 entries, got 3"),
        ("core,kind,row,column\n0,core,,\n0,axon,,\n", InputError, "line 3: kind: expected one"),
        ("core,kind,row,column\n-1,core,,\n", InputError, "line 2: core: expected a whole number"),
        ("core,kind,row,column\n0,core,1,\n", InputError, "line 2: row: expected none"),
        ("core,kind,row,column\n0,row,,\n", InputError, "line 2: row: expected a whole number"),
        ("core,kind,row,column\n0,row,x,\n", InputError, "line 2: row: expected a whole number"),
    ],
)
def test_a_wrong_line_is_named(lines, error, message, tmp_path):
    (tmp_path / "map.csv").write_text(lines)
    with pytest.raises(error, match=message):
        ns.DefectMap.read(tmp_path / "map.csv")


def test_foreign_files_are_refused(tmp_path):
    with pytest.raises(FormatError, match="expected a readable defect map"):
        ns.DefectMap.read(tmp_path / "none.csv")
    with pytest.raises(InputError, match=r"ends in .csv, .h5 or .hdf5"):
        ns.DefectMap.read(tmp_path / "map.txt")
    with pytest.raises(InputError, match=r"ends in .csv, .h5 or .hdf5"):
        MAP.write(tmp_path / "map.txt")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = 1
    with pytest.raises(FormatError, match="expected HDF5 with core, kind, row and column"):
        ns.DefectMap.read(tmp_path / "other.h5")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("9,core,,", "core from 0 to 7"),
        ("0,row,4,", "row from 0 to 3"),
        ("0,synapse,3,3", "column from 0 to 2"),
    ],
)
def test_a_map_that_does_not_fit_the_chip_names_the_line(line, message, tmp_path):
    (tmp_path / "map.csv").write_text(f"core,kind,row,column\n0,core,,\n{line}\n")
    defects = ns.DefectMap.read(tmp_path / "map.csv")
    with pytest.raises(InputError, match=rf"map.csv: line 3: expected {message}, those of bench"):
        ns.deploy(small()[0], CHIP, defects)
    with pytest.raises(InputError, match="expected a chip with rows and columns"):
        ns.deploy(small()[0], ns.Chip.load("ideal"), defects)


def test_dead_cores_are_left_out_and_missed_where_there_are_too_few():
    network, _ = small()
    assert [b.core for b in ns.deploy(network, CHIP, MAP).blocks] == [0, 2, 3, 4, 5]
    dead = ns.DefectMap([ns.Defect(core, "core") for core in range(4)])
    with pytest.raises(DeploymentError, match=r"at most 4 cores of 4 x 3 \(4 dead ones left out\)"):
        ns.deploy(network, CHIP, dead)


@given(
    shape=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    spare=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    seed=st.integers(0, 10**6),
)
@settings(max_examples=80, deadline=None)
def test_a_placement_is_one_and_loses_no_more_than_the_plain_order(shape, spare, seed):
    rng = np.random.default_rng(seed)
    weight = rng.normal(size=shape)
    dead = rng.random((shape[1] + spare[0], shape[0] + spare[1])) < 0.3
    rows, columns = place_around(np.abs(weight)[None], dead[None])
    assert len(set(rows.tolist())) == shape[1]
    assert len(set(columns.tolist())) == shape[0]
    lost = np.abs(weight).T[dead[np.ix_(rows, columns)]].sum()
    assert lost <= np.abs(weight).T[dead[: shape[1], : shape[0]]].sum() + 1e-12


def test_rows_are_assigned_at_the_least_loss_of_all():
    # One column: the two largest weights must get the two living rows.
    weight, dead = np.array([[1.0, 5.0, 3.0]]), np.array([[True], [False], [False]])
    rows, _ = place_around(weight[None], dead[None])
    assert rows[0] == 0


def test_spares_take_the_place_of_dead_rows_and_columns():
    network, _ = small()
    defects = ns.DefectMap([ns.Defect(0, "row", row=0), ns.Defect(0, "column", column=2)])
    chip = ns.Chip(name="spare", rows=6, columns=5, cores=2)
    assert len(ns.deploy(network, chip, defects, around=False).defective_synapses) == 8
    assert len(ns.deploy(network, chip, defects).defective_synapses) == 0


@given(case=networks(max_depth=3, max_width=7), seed=st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_every_synapse_sits_on_one_place_whatever_the_defects(case, seed):
    network, inputs = case
    rng = np.random.default_rng(seed)
    chip = ns.Chip(name="c", rows=4, columns=3)
    defects = ns.DefectMap(
        [ns.Defect(int(c), "synapse", int(r), int(k)) for c, r, k in rng.integers(0, 3, (6, 3))]
        + [ns.Defect(1, "core")]
    )
    deployment = ns.deploy(network, chip, defects)
    np.testing.assert_allclose(
        deployment.by_blocks(inputs), network(inputs), rtol=1e-10, atol=1e-12
    )
    seen, dead = set(), []
    for number, layer in enumerate(network.layers, start=1):
        out, in_ = (a.ravel() for a in np.indices(layer.weight.shape))
        places = deployment.synapse_places(number, out, in_)
        for core, row, column in zip(*places, strict=True):
            seen.add((int(core), int(row), int(column)))
            on = defects.dead_devices(int(core), 4, 3)[row, column]
            dead.append(bool(on))
    assert len(seen) == len(dead) == deployment.sites.synapse_offsets[-1]
    np.testing.assert_array_equal(np.flatnonzero(dead), deployment.defective_synapses)


def campaign_of(deployment, inputs, **options):
    faults = [ns.StuckAtZero("neuron", probability=0.02)]
    return ns.Campaign(
        deployment=deployment, faults=faults, inputs=inputs, trials=20_000, seed=1, **options
    )


def test_known_defects_are_in_every_trial_and_golden_is_without_them():
    network, inputs = small()
    deployment = ns.deploy(network, CHIP, MAP, around=False)
    campaign = campaign_of(deployment, inputs)
    places = np.stack(deployment.sites.synapses(deployment.defective_synapses), axis=1)
    lost = set(map(tuple, places.tolist()))
    assert lost
    for k in range(5):
        for x in range(3):
            assert lost <= {tuple(row) for row in campaign.fault_set(k).masks(x)[1].tolist()}
    assert (campaign.fault_batch(0, 100).counts >= 0).all()
    plain = campaign_of(ns.deploy(network, CHIP), inputs)
    assert plain.fingerprint != campaign.fingerprint
    assert "defects" not in plain.components


@pytest.mark.parametrize("around", [False, True])
def test_simulation_agrees_with_theory_about_defects_and_faults(around, tmp_path):
    network, inputs = small()
    campaign = campaign_of(ns.deploy(network, CHIP, MAP, around=around), inputs, epsilons=[0.3])
    with ns.run(campaign, tmp_path / "trace.h5", progress=False) as trace:
        right = ns.compare(trace, ns.predict(campaign, "enumeration"), false_alarm_rate=1e-4)
        assert right.agrees, str(right)
        np.testing.assert_allclose(trace.golden, network(inputs), rtol=1e-5)
    without = ns.predict(campaign_of(ns.deploy(network, CHIP), inputs), "enumeration")
    moved = np.abs(ns.predict(campaign, "enumeration").mean - without.mean)
    assert moved.max() > 0.05 or around


def test_a_certain_part_of_a_loss_and_of_a_hidden_layer_is_predicted():
    network, inputs = small()
    deployment = ns.deploy(network, CHIP, MAP, around=False)
    campaign = campaign_of(deployment, inputs, targets=[0, 1, 0]).with_probabilities([0.0])
    defective, golden = deployment.defective_network(inputs), network(inputs)
    target = np.eye(2)[[0, 1, 0]]
    loss = ((defective - target) ** 2).mean(1) - ((golden - target) ** 2).mean(1)
    found = ns.predict(campaign, "single-fault", loss="squared_error").mean[:, 0]
    np.testing.assert_allclose(found, loss, atol=1e-12)
    hidden = deployment.defective_network.activations(inputs)[1] - network.activations(inputs)[1]
    np.testing.assert_allclose(ns.predict(campaign, layer=1).mean, hidden, atol=1e-12)
    np.testing.assert_allclose(ns.predict(campaign).mean, defective - golden, atol=1e-12)


def test_the_same_defects_hurt_less_in_a_placement_around_them():
    network, inputs = small()
    placements = [ns.deploy(network, CHIP, MAP, around=around) for around in (False, True)]
    faults = [ns.StuckAtZero("neuron", probability=0.01)]
    found = ns.compare_deployments(*placements, inputs, faults, method="enumeration", trials=20_000)
    before, after = found.simulated_square.mean(axis=(1, 2))
    assert after < 0.5 * before
    np.testing.assert_allclose(found.predicted_square[1].mean(), after, rtol=0.1)
    np.testing.assert_allclose(
        found.predicted_variance.mean(axis=(1, 2)),
        found.simulated_variance.mean(axis=(1, 2)),
        rtol=0.1,
    )
    assert "on defects" in str(found)


def test_deployments_of_other_networks_are_refused():
    a, inputs = small()
    other = ns.Network(layers=a.layers[:1])
    with pytest.raises(InputError, match="after: expected a network of 5 inputs and 2 outputs"):
        ns.compare_deployments(ns.deploy(a, CHIP), ns.deploy(other, CHIP), inputs)
