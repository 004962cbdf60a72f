"""Executors: the same bits from threads, processes and a cluster, whoever dies; clear errors."""

import multiprocessing
import os
import re
import signal
import socket
import subprocess
import sys
import time
import warnings
from functools import partial
from itertools import count
from pathlib import Path

import pytest
from distributed import Client, LocalCluster
from test_cli import call, folder, refused
from test_runner import assert_same, campaign_of
from test_weighted_plans import PLANS
from test_weighted_plans import campaign as weighted_campaign
from threadpoolctl import threadpool_limits
from work_elsewhere import (
    Loaded,
    blas_threads,
    dies_at_two,
    dies_while_sending,
    fails_at_five,
    fails_secretly,
    in_small_units,
    pretend,
    slow,
    square,
)

import neurosim as ns
import neurosim.environment

__all__ = ["folder"]  # a fixture

TRIALS = 3000


class InSmallUnits:
    """An executor that changes the function on its way to the workers."""

    def __init__(self, executor, flag=None):
        self.executor, self.flag = executor, flag

    def map(self, function, items):
        return self.executor.map(partial(in_small_units, function, self.flag), items)


# The executors.


@pytest.fixture(scope="module")
def cluster():
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0"
    ) as running:
        yield running


@pytest.fixture
def executor(request):
    if request.param != "dask":
        return {
            "serial": ns.SerialExecutor(),
            "threads": ns.ThreadExecutor(2),
            "processes": ns.ProcessExecutor(2),
        }[request.param]
    running = request.getfixturevalue("cluster")
    return ns.DaskExecutor(running.scheduler_address)


every = pytest.mark.parametrize(
    "executor", ["serial", "threads", "processes", "dask"], indirect=True
)
remote = pytest.mark.parametrize("executor", ["processes", "dask"], indirect=True)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    path = tmp_path_factory.mktemp("serial") / "unbroken.h5"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("neurosim.campaign._CHUNK_TRIALS", 256)
        ns.run(campaign_of(TRIALS), path, executor=ns.SerialExecutor(), progress=False).close()
    return path


@remote
@pytest.mark.parametrize("killed", [False, True])
def test_the_same_datasets_whether_or_not_a_worker_is_killed(
    tmp_path, monkeypatch, unbroken, executor, killed
):
    monkeypatch.setattr("neurosim.campaign._CHUNK_TRIALS", 256)
    flag = tmp_path / "killed" if killed else None
    through = InSmallUnits(executor, flag and str(flag))
    ns.run(campaign_of(TRIALS), tmp_path / "t.h5", executor=through, progress=False).close()
    assert not killed or flag.exists()
    assert_same(tmp_path / "t.h5", unbroken)


@remote
@pytest.mark.parametrize("plan", ["stratified", "tilted"])
def test_weighted_trials_too_wherever_the_plan_is_resolved(tmp_path, monkeypatch, executor, plan):
    monkeypatch.setattr("neurosim.campaign._CHUNK_TRIALS", 256)
    work = weighted_campaign(PLANS[plan], trials=2000, record=("faults", "error"))
    here = ns.resolve(work, executor=ns.SerialExecutor())
    ns.run(here, tmp_path / "here.h5", executor=ns.SerialExecutor(), progress=False).close()
    through = InSmallUnits(executor, str(tmp_path / "killed"))
    there = ns.resolve(work, executor=through)
    assert there.fingerprint == here.fingerprint
    ns.run(there, tmp_path / "there.h5", executor=through, progress=False).close()
    assert (tmp_path / "killed").exists()
    assert_same(tmp_path / "there.h5", tmp_path / "here.h5")


def test_all_workers_of_a_cluster_killed_cost_only_time(cluster):
    with Client(cluster, set_as_default=False) as client:
        results = ns.DaskExecutor(client).map(slow, range(8))
        before = {next(results)}
        for worker in cluster.workers.values():
            os.kill(worker.pid, signal.SIGKILL)
        after = list(results)
        assert len(after) == 7
        assert set(after[-2:]).isdisjoint(before)
        assert client.status == "running"  # the user's own client stays open


@every
def test_results_come_in_the_order_of_the_items(executor):
    assert list(executor.map(square, range(20))) == [k * k for k in range(20)]
    assert list(executor.map(square, [])) == []


@every
def test_an_error_comes_in_the_place_of_its_result(executor):
    results = executor.map(fails_at_five, range(10))
    assert [next(results) for _ in range(5)] == list(range(5))
    with pytest.raises(KeyError, match="5"):
        next(results)


@every
def test_items_are_taken_as_results_are_fetched_and_the_rest_is_dropped(executor):
    taken = count()

    def items():
        while True:
            yield next(taken)

    results = executor.map(square, items())
    assert next(results) == 0
    results.close()
    assert next(taken) <= 4


@every
def test_blas_has_one_thread(executor):
    with threadpool_limits(2, user_api="blas"):
        assert list(executor.map(blas_threads, range(4))) == [{1}] * 4
        assert blas_threads(0) == {2}


@remote
def test_the_function_is_sent_to_each_worker_once(tmp_path, executor):
    log = tmp_path / "log"
    assert list(executor.map(Loaded(str(log)), range(30))) == list(range(30))
    processes = log.read_text().split()
    assert 1 <= len(processes) <= 2
    assert len(set(processes)) == len(processes)
    assert str(os.getpid()) not in processes


@remote
def test_an_item_that_kills_its_workers_is_given_up(monkeypatch, executor):
    monkeypatch.setattr(f"{type(executor).__module__}._LOSSES", 2)
    results = executor.map(dies_at_two, range(6))
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ns.ExecutorError, match=r"item 2: .*memory"):
        list(results)


# Local processes


def test_a_process_killed_while_it_sends_a_result_costs_only_time(tmp_path):
    flag = tmp_path / "killed"
    results = ns.ProcessExecutor(2).map(partial(dies_while_sending, str(flag)), range(4))
    assert [len(r) for r in results] == [100_000] * 4
    assert flag.exists()


def test_the_traceback_of_a_process_is_a_note(tmp_path):
    with pytest.raises(KeyError) as raised:
        list(ns.ProcessExecutor(1).map(fails_at_five, [5]))
    assert "in fails_at_five" in raised.value.__notes__[0]
    with pytest.raises(RuntimeError, match="SecretError: no way"):
        list(ns.ProcessExecutor(1).map(fails_secretly, [1]))


def test_no_process_is_left_behind():
    before = set(multiprocessing.active_children())
    results = ns.ProcessExecutor(2).map(slow, count())
    next(results)
    assert set(multiprocessing.active_children()) - before
    results.close()
    assert not set(multiprocessing.active_children()) - before


ORPHANS = """
import sys; sys.path[:0] = {path!r}
from work_elsewhere import slow
import neurosim as ns
for pid in ns.ProcessExecutor(2).map(slow, iter(int, 1)):
    print(pid, flush=True)
"""


def runs(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="asks Linux about processes")
def test_processes_end_when_their_parent_is_killed():
    parent = subprocess.Popen(
        [sys.executable, "-c", ORPHANS.format(path=sys.path)], stdout=subprocess.PIPE, text=True
    )
    children = {int(parent.stdout.readline()) for _ in range(3)}
    parent.kill()
    parent.communicate()
    deadline = time.monotonic() + 60
    while any(map(runs, children)):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_script_that_cannot_be_imported_is_told_why(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import neurosim as ns\nprint(list(ns.ProcessExecutor(1).map(abs, [1, 2])))\n"
    )
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert 'belongs below `if __name__ == "__main__":`' in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("flag", ["--processes", "--threads"])
@pytest.mark.parametrize(
    ("sign", "code", "said"), [("SIGINT", 130, "interrupted"), ("SIGTERM", 143, "terminated")]
)
def test_ctrl_c_and_sigterm_stop_a_run_that_continues(folder, flag, sign, code, said):
    arguments = ["run", folder / "campaign.toml", "--trials", "1000000000", flag, "2"]
    arguments = [str(a) for a in (*arguments, "--quiet", "-o", folder / "out.h5")]
    process = subprocess.Popen(
        [sys.executable, "-m", "neurosim.cli", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A shell that runs the tests in the background has told them to ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while not (folder / "out.h5.segments").exists():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)
    time.sleep(1)  # let the processes begin
    os.killpg(process.pid, signal.Signals[sign])  # as a terminal or a batch system does
    _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    found = re.fullmatch(rf"neurosim: {said}; .*out.h5: (\d+) of 1000000000 trials are .*\n", err)
    kept = int(found[1])
    call("run", folder / "campaign.toml", "--trials", kept + 5000, "-o", folder / "out.h5")
    with ns.Trace(folder / "out.h5") as trace:
        assert trace.completed == kept + 5000


# Workers that differ


@pytest.fixture
def pretending(cluster, monkeypatch):
    """Make workers, or else the submitting process, another machine."""
    with Client(cluster, set_as_default=False) as client:

        def another(executor, name, value):
            if isinstance(executor, ns.DaskExecutor):
                client.run(pretend, name, value)
            else:
                here = {**neurosim.environment.current(), name: value}
                monkeypatch.setattr("neurosim.executors.processes.current", lambda: here)

        yield another
        client.run(pretend, None, None)


@remote
def test_a_worker_of_another_cpu_is_warned_of_once(executor, pretending):
    pretending(executor, "cpu", "Abacus 3000")
    with pytest.warns(UserWarning, match="differs from the submitting process") as caught:
        assert list(executor.map(square, range(6))) == [k * k for k in range(6)]
    assert len(caught) == 1
    assert "Abacus 3000" in str(caught[0].message)
    assert neurosim.environment.current()["cpu"] in str(caught[0].message)


@remote
def test_a_worker_of_another_version_is_refused(executor, pretending):
    pretending(executor, "numpy", "0.9")
    with pytest.raises(ns.ExecutorError, match=r"numpy .*; install the same versions"):
        list(executor.map(square, range(6)))


@remote
def test_equal_workers_are_not_warned_of(executor):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert list(executor.map(square, [3])) == [9]


def test_only_the_blas_of_numpy_counts():
    before = neurosim.environment.current()["blas"]
    import scipy.linalg  # noqa: F401 - brings a BLAS of its own

    assert neurosim.environment.current()["blas"] == before
    assert before.count(",") == 0
    assert before != "unknown"


# Errors at the door


@pytest.mark.parametrize("kind", [ns.ThreadExecutor, ns.ProcessExecutor])
@pytest.mark.parametrize("number", [0, -1, 1.5, True, "2"])
def test_a_number_of_workers_is_a_whole_number_from_1_on(kind, number):
    with pytest.raises(ns.InputError, match="expected a whole number from 1 on, got"):
        kind(number)


@pytest.mark.parametrize("scheduler", ["10.0.0.1:8786", "nonsense", "foo://a:1", "tcp://a", 5])
def test_a_scheduler_is_an_address_or_a_client(scheduler):
    with pytest.raises(ns.InputError, match="scheduler: expected an address, as"):
        ns.DaskExecutor(scheduler)


@pytest.fixture
def nobody(monkeypatch):
    """An address where no scheduler answers."""
    monkeypatch.setattr("neurosim.executors.cluster._CONNECT", 0.5)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{free.getsockname()[1]}"


def test_an_unreachable_scheduler_is_an_error(nobody):
    with pytest.raises(ns.ExecutorError, match=f"running at {nobody}, got no answer in 0.5 s"):
        list(ns.DaskExecutor(nobody).map(abs, [1]))


def test_a_cluster_without_workers_is_an_error(monkeypatch):
    monkeypatch.setattr("neurosim.executors.cluster._FIRST_WORKER", 0.5)
    with (
        LocalCluster(n_workers=0, dashboard_address=":0") as empty,
        pytest.raises(ns.ExecutorError, match=r"workers within 0\.5 s"),
    ):
        list(ns.DaskExecutor(empty.scheduler_address).map(abs, [1]))


def test_a_scheduler_that_goes_away_is_an_error_without_a_word_of_dask(monkeypatch, caplog):
    monkeypatch.setattr("neurosim.executors.cluster._CONNECT", 0.5)
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0") as going:
        results = ns.DaskExecutor(going.scheduler_address).map(slow, count())
        next(results)
    with pytest.raises(ns.ExecutorError, match="scheduler"):
        list(results)
    assert [r for r in caplog.records if r.name == "distributed.client"] == []


def test_a_missing_library_is_named_with_the_way_to_install_it(monkeypatch, folder):
    monkeypatch.setitem(sys.modules, "distributed", None)
    said = 'pip install "neurosim-faults[dask]"'
    with pytest.raises(ns.ExecutorError, match=re.escape(said)):
        ns.DaskExecutor("tcp://10.0.0.1:8786")
    flags = ("--scheduler", "tcp://10.0.0.1:8786", "-o", folder / "out.h5")
    assert said in refused("run", folder / "campaign.toml", *flags)


# The command line


def test_flags_choose_the_executor(folder, cluster):
    flags = {"--threads": 2, "--processes": 2, "--scheduler": cluster.scheduler_address}
    for name, value in flags.items():
        path = folder / f"{name}.h5"
        assert "300" in call("run", folder / "campaign.toml", name, value, "-o", path)
        assert_same(path, folder / "--threads.h5")


def test_flags_of_executors_exclude_each_other(folder):
    run = ("run", folder / "campaign.toml", "-o", folder / "out.h5")
    said = refused(*run, "--threads", 2, "--processes", 2)
    assert "expected one of --threads, --processes and --scheduler" in said
    assert "got --threads and --processes" in said
    for flag in ("--threads", "--processes"):
        assert "whole number from 1 on, got 0" in refused(*run, flag, 0)


def test_an_unreachable_scheduler_is_one_line(folder, nobody):
    run = ("run", folder / "campaign.toml", "-o", folder / "out.h5")
    assert "no answer" in refused(*run, "--scheduler", nobody)
    assert "300" in call(*run)
