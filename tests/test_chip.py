import pickle

import pytest

import neurosim as ns
from neurosim.chip import STATUSES
from neurosim.errors import FormatError, InputError

PROFILE = """
[chip]
name = "mine"
description = "my chip"

[geometry]
rows = { value = 8, unit = "1", source = "data sheet", status = "verified" }
columns = { value = 4, unit = "1", source = "data sheet", status = "verified" }
cores = { value = 16, unit = "1", source = "data sheet", status = "verified" }

[weights]
levels = { value = 16, unit = "1", source = "data sheet", status = "secondary" }

[energy]
energy_per_spike_j = { value = 1e-12, unit = "J", source = "talk", status = "unverified" }

[[faults]]
site = "synapse"
probability = { value = 0.01, unit = "1", source = "guess", status = "assumption" }
persistence = "intermittent"
mean_duration = { value = 5, unit = "presentations", source = "guess", status = "assumption" }
layers = [1]
"""


@pytest.mark.parametrize("name", ns.chip_profiles())
def test_every_profile_loads_and_states_where_its_numbers_are_from(name):
    chip = ns.Chip.load(name)
    assert chip.name == name
    assert chip.description
    for quantity in chip.quantities.values():
        assert quantity.status in STATUSES
        assert len(quantity.source) > 5
        assert quantity.unit
    assert name in str(chip)


def test_the_profiles_that_are_promised_are_there():
    assert {"ideal", "crossbar-256", "truenorth", "loihi"} <= set(ns.chip_profiles())
    chip = ns.Chip.load("crossbar-256")
    assert (chip.rows, chip.columns, chip.cores) == (256, 256, 8192)
    assert ns.Chip.load("ideal").rows is None


def test_numbers_from_memory_are_marked_so():
    # 256 axons and 9 bits are known from memory only.
    assert ns.Chip.load("truenorth").quantities["geometry.rows"].status == "unverified"
    assert ns.Chip.load("loihi").quantities["device.bits"].status == "unverified"


def test_a_profile_of_ones_own_is_read_from_its_path(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(PROFILE)
    chip = ns.Chip.load(path)
    assert (chip.rows, chip.columns, chip.cores, chip.weight_levels) == (8, 4, 16, 16)
    assert chip.faults == (
        ns.StuckAtZero(
            "synapse", probability=0.01, layers=[1], persistence=ns.Intermittent(mean_duration=5)
        ),
    )
    assert chip.quantities["energy.energy_per_spike_j"].value == 1e-12
    assert "1e-12 J [unverified; talk]" in str(chip)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("rows =", "rws =", "geometry: expected keys rows, .* got rws; did you mean rows"),
        ("[geometry]", "[geometri]", "did you mean geometry"),
        ("persistence =", "persistance =", "did you mean persistence"),
        ("value = 8", "value = 0", "rows: expected a whole number from 1 on"),
        ("value = 8", "value = -3", "rows: expected a whole number from 1 on"),
        ("value = 8", "value = 8.5", "whole numbers, got 8.5"),
        ("value = 8", 'value = "8"', "geometry.rows.value"),
        (
            'value = 16, unit = "1", source = "data sheet", status = "secondary"',
            'value = 1, unit = "1", source = "data sheet", status = "secondary"',
            "weight_levels: expected a whole number from 2 on",
        ),
        ('status = "unverified"', 'status = "sure"', "expected status verified"),
        ('source = "talk", ', "", "source"),
        ('source = "talk"', 'source = ""', "source"),
        ('unit = "J"', 'unit = "pJ"', "expected unit 'J', got 'pJ'"),
        ("energy_per_spike_j", "energy_per_spike", "did you mean energy_per_spike_j"),
        ("value = 1e-12", "value = -1e-12", "expected a value above 0"),
        ("value = 0.01", "value = 1.01", r"probability: expected a number in \[0, 1\]"),
        ("value = 5, unit", "value = 0.5, unit", "mean_duration: expected at least 1"),
        ('"intermittent"', '"permanent"', "expected one for intermittent faults only"),
        ('"intermittent"', '"sometimes"', "persistence: expected permanent, transient or"),
        ('"synapse"', '"axon"', 'site: expected one of "neuron", "synapse"'),
        ("[chip]", "[chip", "expected TOML"),
    ],
)
def test_wrong_profiles_are_refused_in_one_line(tmp_path, old, new, said):
    path = tmp_path / "mine.toml"
    assert old in PROFILE
    path.write_text(PROFILE.replace(old, new, 1))
    with pytest.raises((InputError, FormatError), match=said) as raised:
        ns.Chip.load(path)
    assert str(path) in str(raised.value)


SECONDS = PROFILE.replace("mean_duration =", "mean_duration_s =").replace(
    'unit = "presentations"', 'unit = "s"'
)
CLOCK = (
    '[neurons]\nduration_s = { value = 0.5, unit = "s", source = "talk", status = "secondary" }\n'
)


def test_a_duration_in_seconds_needs_the_time_of_a_presentation(tmp_path):
    path = tmp_path / "mine.toml"
    assert SECONDS != PROFILE
    path.write_text(SECONDS.replace("[[faults]]", f"{CLOCK}[[faults]]"))
    assert ns.Chip.load(path).faults[0].persistence == ns.Intermittent(mean_duration_s=5)
    path.write_text(SECONDS)
    with pytest.raises(InputError, match=r"mean_duration_s: expected neurons\.duration_s"):
        ns.Chip.load(path)


def test_a_misspelt_name_gets_a_suggestion(tmp_path):
    with pytest.raises(InputError, match="did you mean crossbar-256"):
        ns.Chip.load("crosbar-256")
    with pytest.raises(FormatError, match="expected a readable chip profile"):
        ns.Chip.load(tmp_path / "none.toml")
    with pytest.raises(FormatError, match="expected a readable chip profile"):
        ns.Chip.load(tmp_path)


@pytest.mark.parametrize("size", [{"rows": 0}, {"columns": 2.5}, {"cores": True}])
def test_impossible_sizes_are_refused(size):
    with pytest.raises(InputError, match=f"{next(iter(size))}: expected a whole number from 1 on"):
        ns.Chip(name="x", **size)


@pytest.mark.parametrize("name", ns.chip_profiles())
def test_a_chip_survives_the_way_to_another_process(name):
    chip = ns.Chip.load(name)
    assert pickle.loads(pickle.dumps(chip)) == chip


NUMBER = '{ value = %s, unit = "%s", source = "data sheet", status = "verified" }'


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        (f"[geometry]\nneurons = {NUMBER % (3, 1)}", "geometry.neurons: expected cores, columns"),
        (
            f"[geometry]\ncores = {NUMBER % (2, 1)}\ncolumns = {NUMBER % (4, 1)}\n"
            f"neurons = {NUMBER % (9, 1)}",
            "geometry.neurons: expected cores x columns = 8, got 9; the geometry contradicts",
        ),
        (
            f'[weights]\nlevels = {NUMBER % (4, 1)}\n[device]\nmapping = "digital"\n'
            f"bits = {NUMBER % (2, 1)}",
            "weights.levels: expected none beside",
        ),
        (
            f'[device]\nmapping = "differential"\ng_on_s = {NUMBER % (1e-6, "S")}\n'
            f"g_off_s = {NUMBER % (1e-5, 'S')}",
            "device.g_on_s: expected more than g_off_s",
        ),
        (
            f'[device]\nmapping = "differential"\ng_on_s = {NUMBER % (1e-6, "uS")}\n',
            "device.g_on_s: expected unit 'S', got 'uS'",
        ),
        (
            f'[device]\nmapping = "digital"\nbits = {NUMBER % (2, 1)}\nbit = {NUMBER % (2, 1)}',
            "device: expected keys .* got bit; did you mean bits",
        ),
        (
            f'[device]\nmapping = "differential"\nlevels = {NUMBER % (1, 1)}',
            "device.levels: expected a whole number from 2",
        ),
        (
            f"[energy]\nenergy_per_synaptic_operation_j = {NUMBER % (1, 'J')}\n"
            f"energy_per_multiply_accumulate_j = {NUMBER % (1, 'J')}",
            "energy: expected one of",
        ),
    ],
)
def test_profiles_that_contradict_themselves_are_refused(tmp_path, tables, said):
    path = tmp_path / "mine.toml"
    path.write_text(f'[chip]\nname = "mine"\ndescription = "my chip"\n{tables}\n')
    with pytest.raises(InputError, match=said):
        ns.Chip.load(path)


def test_the_field_list_has_every_key_and_no_other():
    from neurosim import chip

    tables = {
        "geometry": chip._Geometry,
        "mapping": chip._Mapping,
        "weights": chip._Weights,
        "device": chip._Device,
        "faults": chip._Fault,
    }
    wanted = {f"{table}.{key}" for table, s in tables.items() for key in s.__struct_fields__}
    wanted |= {f"{table}.{key}" for table, keys in chip._COST_KEYS.items() for key in keys}
    wanted |= {f"neurons.{key}" for key in chip._NEURON_KEYS} | {"chip.name", "chip.description"}
    table, listed = "", set()
    for line in (chip._folder() / "README.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) < 5:
            continue
        table = cells[1].strip("`[]") or table
        keys = [key.strip("` ") for key in cells[2].split(",") if key.strip().startswith("`")]
        listed |= {f"{table}.{key}" for key in keys}
    assert listed == wanted
