"""The command line: what users type, what they read, and the exit code."""

import os
import re
import resource
import subprocess
import sys

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

import neurosim as ns
from neurosim.campaign_file import FaultEntry, _process
from neurosim.cli import _fault, main

CAMPAIGN = """
network = "net.npz"
chip = "ideal"
inputs = "inputs.npy"
targets = "labels.npy"
trials = 300
seed = 1
epsilons = [0.1]
replicas = [3]
[[faults]]
site = "neuron"
probability = 0.1
"""


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    ns.Network.dense(
        weights=[rng.normal(size=(8, 6)), rng.normal(size=(3, 8))],
        biases=[np.zeros(8), np.zeros(3)],
        activations=["sigmoid(4)", "identity"],
    ).save(tmp_path / "net.npz")
    np.save(tmp_path / "inputs.npy", rng.normal(size=(4, 6)))
    np.save(tmp_path / "labels.npy", np.array([0, 1, 2, 0]))
    (tmp_path / "campaign.toml").write_text(CAMPAIGN)
    return tmp_path


def call(*arguments, code=0):
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.output


def refused(*arguments):
    """The one line said about bad input."""
    output = call(*arguments, code=2)
    assert len(output.strip().splitlines()) == 1, output
    assert "Traceback" not in output
    assert output.startswith("neurosim: ")
    return output


def test_a_campaign_runs_compares_and_reports(folder):
    trace = folder / "out.h5"
    assert "300" in call("run", folder / "campaign.toml", "-o", trace)
    assert "300" in call("info", trace)
    call("compare", folder / "campaign.toml", "--trace", trace, "--method", "single-fault")
    output = call("report", folder / "campaign.toml", "--trace", trace, "-o", folder / "report")
    assert (folder / "report" / "index.html").is_file()
    assert "index.html" in output


def test_flags_do_without_a_campaign_file_and_replace_its_entries(folder):
    call(
        "run",
        "--network",
        folder / "net.npz",
        "--chip",
        "ideal",
        "--inputs",
        folder / "inputs.npy",
        "--fault",
        "synapse:0.01:transient",
        "--fault",
        "neuron:0.1:intermittent=3",
        "--trials",
        50,
        "--seed",
        3,
        "-o",
        folder / "flags.h5",
    )
    with ns.Trace(folder / "flags.h5") as trace:
        assert trace.completed == 50
    call("run", folder / "campaign.toml", "--trials", 20, "-o", folder / "fewer.h5")
    with ns.Trace(folder / "fewer.h5") as trace:
        assert trace.completed == 20


def test_predict_draws_nothing(folder):
    assert "first-order" in call("predict", folder / "campaign.toml")


def test_a_wrong_prediction_has_exit_code_1(folder):
    # First order on a narrow network at p = 0.45: far off, and 4000 trials show it.
    flags = (folder / "campaign.toml", "--fault", "neuron:0.45", "--trials", 4000)
    call("run", *flags, "-o", folder / "out.h5")
    call("compare", *flags, "--trace", folder / "out.h5", code=1)


def test_sweep_prints_each_probability(folder):
    output = call(
        "sweep",
        folder / "campaign.toml",
        "--probability",
        0.01,
        "--probability",
        0.1,
        "-o",
        folder / "report",
    )
    assert "0.01" in output
    assert (folder / "report" / "index.html").is_file()


def test_chips_and_deploy_are_printed(folder):
    assert "crossbar-256" in call("chips")
    assert "256" in call("chips", "crossbar-256")
    assert "core" in call("deploy", folder / "net.npz", "crossbar-256")
    assert "energy unknown" in call("deploy", folder / "net.npz", "crossbar-256")
    given = ("--inputs", folder / "inputs.npy", "--replicas", 3, "--device-seed", 0)
    assert "with 3 replicas" in call("deploy", folder / "net.npz", "loihi", *given)


def test_profiles_are_checked(folder):
    assert "ok     crossbar-256: 4 assumption" in call("chips", "--check")
    wrong = folder / "wrong.toml"
    wrong.write_text('[chip]\nname = "wrong"\n')
    told = call("chips", "--check", "ideal", wrong, code=2)
    assert "ok     ideal: no numbers" in told
    assert "description" in told
    assert "1 of 2 profiles are wrong" in told


def test_a_campaign_file_programs_devices(folder):
    path = folder / "campaign.toml"
    text = path.read_text().replace("trials =", "device_seed = 1\ntrials =")
    path.write_text(text)
    assert "has no device to program" in refused("predict", path)


def test_every_command_explains_itself():
    for command in main.commands:
        assert "Usage" in call(command, "--help")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("trials = 300", "trial = 300"), "did you mean trials"),
        (("seed = 1", ""), "expected seed, got none"),
        (("seed = 1", 'seed = "one"'), "seed"),
        (("probability = 0.1", "probability = 1.5"), "expected a number in [0, 1], got 1.5"),
        (("probability = 0.1", "probabilty = 0.1"), "did you mean probability"),
        (('site = "neuron"', 'site = "axon"'), "got 'axon'"),
        (('network = "net.npz"', 'network = "none.npz"'), "none.npz"),
        (('network = "net.npz"', 'network = "inputs.npy"'), "inputs.npy"),
        (('chip = "ideal"', 'chip = "crosbar-256"'), "crossbar-256"),
        (('inputs = "inputs.npy"', 'inputs = "none.npy"'), "none.npy"),
        (('inputs = "inputs.npy"', 'inputs = "labels.npy"'), "inputs: expected shape"),
        (("epsilons = [0.1]", "epsilons = [0.1"), "expected TOML"),
        (("epsilons = [0.1]", "epsilons = [-0.1]"), "epsilons: expected finite numbers above 0"),
        (("trials = 300", "trials = 1e4"), "a whole number, got a number with a point or an e"),
        (("probability = 0.1", "length = 2"), "campaign.toml: faults.1: probability: expected"),
        (("replicas = [3]", 'plan = {kind = "strat"}'), "kind plain, stratified or tilted, got 's"),
    ],
)
def test_bad_campaign_files_get_one_line(folder, change, said):
    (folder / "campaign.toml").write_text(CAMPAIGN.replace(*change))
    assert said in refused("run", folder / "campaign.toml", "-o", folder / "out.h5")
    assert not (folder / "out.h5").exists()


def test_a_campaign_file_may_begin_with_a_byte_order_mark(folder):
    (folder / "campaign.toml").write_text(CAMPAIGN, encoding="utf-8-sig")
    assert "single-fault prediction" in call(
        "predict", folder / "campaign.toml", "--method", "single-fault"
    )


def test_a_prediction_takes_no_impossible_number_of_trials(folder):
    assert "trials: expected" in refused("predict", folder / "campaign.toml", "--trials", 0)


def test_unknown_keys_of_a_chip_profile_are_named(folder):
    (folder / "mine.toml").write_text(
        '[chip]\nname = "mine"\ndescription = "x"\n[geometry]\nrow = 3\n'
    )
    output = refused("deploy", folder / "net.npz", folder / "mine.toml")
    assert "did you mean rows" in output


def test_a_network_that_does_not_fit_is_refused(folder):
    (folder / "mine.toml").write_text(
        '[chip]\nname = "mine"\ndescription = "x"\n[geometry]\n'
        + "".join(
            f'{key} = {{ value = 4, unit = "1", source = "a test", status = "assumption" }}\n'
            for key in ("rows", "columns", "cores")
        )
    )
    assert "2 short" in refused("deploy", folder / "net.npz", folder / "mine.toml")


def test_non_finite_weights_and_inputs_are_named(folder):
    with np.load(folder / "net.npz") as archive:
        arrays = dict(archive)
    arrays["weight_1"] = arrays["weight_1"].copy()
    arrays["weight_1"][2, 3] = np.nan
    np.savez(folder / "bad.npz", **arrays)
    output = refused("deploy", folder / "bad.npz", "ideal")
    assert "nan" in output
    assert "(2, 3)" in output
    np.save(folder / "inputs.npy", np.full((4, 6), np.inf))
    output = refused("run", folder / "campaign.toml", "-o", folder / "out.h5")
    assert "inputs: expected finite numbers, got inf" in output


@pytest.mark.parametrize("name", ["net.npz", "net.onnx", "inputs.npy"])
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 truncated", b"\x00" * 100, b"<html>"])
def test_foreign_and_truncated_files_are_refused(folder, name, content):
    (folder / name).write_bytes(content)
    flags = ("--network", folder / "net.onnx") if name == "net.onnx" else ()
    output = refused("run", folder / "campaign.toml", *flags, "-o", folder / "out.h5")
    assert name in output


def test_foreign_and_truncated_traces_are_refused(folder):
    trace = folder / "out.h5"
    call("run", folder / "campaign.toml", "-o", trace)
    whole = trace.read_bytes()
    for content in (whole[: len(whole) // 2], b"not HDF5"):
        trace.write_bytes(content)
        assert "out.h5" in refused("info", trace)
        assert "out.h5" in refused("run", folder / "campaign.toml", "-o", trace)
        assert trace.read_bytes() == content
    assert "none.h5" in refused("info", folder / "none.h5")


def test_a_trace_of_another_campaign_is_left_alone(folder):
    trace = folder / "out.h5"
    call("run", folder / "campaign.toml", "-o", trace)
    whole = trace.read_bytes()
    output = refused("run", folder / "campaign.toml", "--seed", 2, "-o", trace)
    assert "seed" in output
    assert trace.read_bytes() == whole


def test_an_output_below_a_file_is_refused(folder):
    assert "inputs.npy" in refused(
        "run", folder / "campaign.toml", "-o", folder / "inputs.npy" / "out.h5"
    )
    assert "inputs.npy" in refused("demo", "-o", folder / "inputs.npy")
    call("run", folder / "campaign.toml", "-o", folder / "out.h5")
    assert "inputs.npy" in refused(
        "report",
        folder / "campaign.toml",
        "--trace",
        folder / "out.h5",
        "-o",
        folder / "inputs.npy" / "report",
    )


def test_a_full_disk_is_one_line_and_loses_nothing(folder):
    arguments = [
        "run",
        str(folder / "campaign.toml"),
        "--record",
        "error",
        "--trials",
        "100000",
        "-o",
        str(folder / "out.h5"),
        "--quiet",
    ]
    limit = 1_000_000  # more than a compiled kernel in the cache, less than the errors

    def small_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    done = subprocess.run(
        [sys.executable, "-m", "neurosim.cli", *arguments],
        capture_output=True,
        text=True,
        preexec_fn=small_files,
        env={**os.environ, "NUMBA_CACHE_DIR": str(folder / "cache")},
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert re.search(r"out.h5: \d+ of 100000 trials are kept; run the campaign again", done.stderr)
    call(*arguments)
    with ns.Trace(folder / "out.h5") as trace:
        assert trace.completed == 100_000


def test_the_package_runs_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "neurosim", "deploy", "none.npz", "ideal"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("neurosim: none.npz: expected a network file")
    helped = subprocess.run(
        [sys.executable, "-m", "neurosim", "--help"], capture_output=True, text=True, check=True
    )
    assert helped.stdout.startswith("Usage: neurosim [OPTIONS] COMMAND")


def test_debug_shows_the_traceback(folder):
    with pytest.raises(ns.NeurosimError):
        call("--debug", "info", folder / "none.h5")


def test_the_demo_runs(tmp_path):
    output = call("demo", "-o", tmp_path / "demo", "--quiet")
    assert (tmp_path / "demo" / "demo.h5").is_file()
    assert (tmp_path / "demo" / "report" / "index.html").is_file()
    assert "neurosim run --network" in output


def test_a_defect_map_and_physical_faults_on_the_command_line(folder):
    (folder / "map.csv").write_text("core,kind,row,column\n0,synapse,1,2\n")
    shown = call("deploy", folder / "net.npz", "crossbar-256", "--defects", folder / "map.csv")
    assert "lie on known defects" not in shown
    given = ["--chip", "crossbar-256", "--defects", folder / "map.csv"]
    given += ["--fault", "column:0.1", "--fault", "link:0.1:transient"]
    trace = folder / "out.h5"
    call("run", folder / "campaign.toml", *given, "-o", trace)
    told = call(
        "compare", folder / "campaign.toml", *given, "--trace", trace, "--method", "single-fault"
    )
    assert "stuck-at-0 links of every layer" in told
    report = folder / "report"
    call(
        "report", folder / "campaign.toml", *given, "--trace", trace, "-o", report,
        "--method", "single-fault",
    )  # fmt: skip
    assert (report / "index.html").is_file()
    (folder / "map.csv").write_text("core,kind,row,column\n0,synapse,1,256\n")
    assert "line 2: expected column from 0 to 255" in refused(
        "deploy", folder / "net.npz", "crossbar-256", "--defects", folder / "map.csv"
    )


@pytest.mark.parametrize(
    ("text", "process"),
    [
        ("neuron:1e-3", ns.StuckAtZero("neuron", probability=1e-3)),
        (
            "neuron:1e-3:value=maximum:layers=1",
            ns.StuckAt("neuron", value="maximum", probability=1e-3, layers=[1]),
        ),
        (
            "synapse:.1:transient:value=-0.5",
            ns.StuckAt("synapse", value=-0.5, probability=0.1, persistence=ns.Transient()),
        ),
        (
            "column:0.1:intermittent=5:layers=1,2",
            ns.StuckAtZero(
                "column", probability=0.1, layers=[1, 2],
                persistence=ns.Intermittent(mean_duration=5),
            ),
        ),
        (
            "row:0.1:intermittent=0.5s:onset=2,4",
            ns.StuckAtZero(
                "row", probability=0.1,
                persistence=ns.Intermittent(mean_duration_s=0.5, onset=(2, 4)),
            ),
        ),
        (
            "synapse:0.1:length=3:along=row:transient:onset_s=0,0.5",
            ns.Cluster(
                "synapse", length=3, along="row", probability=0.1,
                persistence=ns.Transient(onset_s=(0, 0.5)),
            ),
        ),
        ("device:stuck_lrs=0.02:stuck_hrs=0.01", ns.StuckDevice(stuck_lrs=0.02, stuck_hrs=0.01)),
        ("bit:1e-6:bits=7,6", ns.BitFlip(probability=1e-6, bits=[6, 7])),
    ],
)  # fmt: skip
def test_every_fault_has_its_flag(text, process):
    (entry,) = msgspec.convert([_fault(text)], list[FaultEntry])
    assert _process(entry) == process


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("neuron:0.1:transient:permanent", "--fault: expected SITE"),
        ("neuron:0.1:colour=red", "--fault: expected SITE"),
        ("neuron:0.1:layers=1:layers=2", "--fault: expected SITE"),
        ("neuron:0.1:layers=x", "--fault: expected SITE"),
        ("neuron:0,1", "--fault: expected SITE"),
        ("neuron:0.1:", "--fault: expected SITE"),
        ("neuron", "probability: expected one"),
        ("neuron:1:value=most", 'value: expected a finite number or "maximum"'),
        ("neuron:0.1:sometimes", "--fault 1: persistence: expected permanent, transient"),
    ],
)
def test_a_wrong_flag_of_a_fault_is_refused(folder, text, said):
    assert said in refused("predict", folder / "campaign.toml", "--fault", text)


def test_stuck_neurons_on_the_command_line(folder):
    given = ("--fault", "neuron:0.1:value=0.5:layers=1")
    told = call("predict", folder / "campaign.toml", *given, "--method", "single-fault")
    assert "stuck neurons of layer 1" in told


def test_a_certificate_and_its_exit_codes(folder):
    file = folder / "campaign.toml"
    output = call(
        "certify", file, "--epsilon", "1.5", "--delta", "0.1", "--quiet", "-o", folder / "report"
    )
    assert "Certified: P(some output is off by 1.5 or more) <= 0.1" in output
    assert (folder / "report" / "index.html").is_file()
    # Most chips have a dead neuron that matters by 1e-9: no median helps.
    output = call(
        "certify", file, "--epsilon", "1e-9", "--delta", "1e-6", "--no-check", "--quiet", code=1
    )
    assert "Not certified" in output
    assert "--epsilon" in refused(
        "certify", file, "--epsilon", "1", "--epsilon", "2", "--delta", "0.1"
    )
    assert "below 1/2" in refused("certify", file, "--epsilon", "1", "--delta", "0.7")


def test_hardening(folder):
    file = folder / "campaign.toml"
    output = call("harden", file, "--budget", "4", "-o", folder / "hard")
    assert "4 more neurons" in output
    assert "simulated" in output
    hardened = ns.Network.load(folder / "hard" / "hardened.npz")
    assert hardened.widths == (6, 12, 3)
    output = call(
        "harden", file, "--budget", "2", "--action", "protect", "--by", "failures",
        "--no-simulation",
    )  # fmt: skip
    assert "2 neurons protected" in output
    assert "budget" in refused("harden", file, "--budget", "0")


def test_plans_are_spelled_in_the_file_and_on_the_command_line(folder):
    file = folder / "campaign.toml"
    file.write_text(CAMPAIGN.replace("replicas = [3]", 'plan = {kind = "stratified"}'))
    said = call("run", file, "-o", folder / "a.h5", "--quiet")
    assert "stratified by the number of faults" in said
    assert "effective sample size" in said
    assert "effective sample size" in call(
        "compare", file, "--trace", folder / "a.h5", "--method", "enumeration"
    )
    said = call("run", file, "-o", folder / "b.h5", "--quiet", "--plan", "tilted=0.1")
    assert "importance sampling of |error| >= 0.1" in said
    assert "expected plain, stratified or tilted" in refused("predict", file, "--plan", "tilted=x")
    assert "expected an epsilon" in refused("predict", file, "--plan", "tilted")
    assert "epsilons" in refused("predict", file, "--plan", "tilted=0.3")
    said = refused("predict", file, "--plan", "straitified")
    assert "neurosim: --plan: expected the kind plain, stratified or tilted, got 'str" in said
    assert "tilted=EPSILON" in refused("predict", file, "--plan", "tilted=")
    assert "beside kind stratified" in refused("predict", file, "--plan", "stratified=0.1")
    file.write_text(CAMPAIGN.replace("replicas = [3]", 'plan = {kind = "plain", stratta = [2]}'))
    assert "did you mean strata" in refused("predict", file)
