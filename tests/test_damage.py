"""Damaged checkpoints and traces: said, or computed again, never taken for results."""

import random
import shutil
import warnings

import h5py
import pytest
from test_runner import assert_same, campaign_of, small_chunks

import neurosim as ns
from neurosim.errors import TraceError
from neurosim.executors import SerialExecutor

__all__ = ["small_chunks"]  # a fixture

TRIALS, UNITS = 1000, 3  # of 256 trials, and a cut one


class StoppedError(Exception):
    pass


class Stopping(SerialExecutor):
    """Computes some units of work and stops."""

    def __init__(self, units):
        self.units = units

    def map(self, function, items):
        for k, item in enumerate(items):
            if k == self.units:
                raise StoppedError
            yield function(item)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A whole trace, one of the first 300 trials, and checkpoints after three units of work."""
    folder = tmp_path_factory.mktemp("kept")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("neurosim.campaign._CHUNK_TRIALS", 256)
        for trials, name in ((TRIALS, "whole.h5"), (300, "begun.h5")):
            ns.run(campaign_of(trials), folder / name, SerialExecutor(), progress=False).close()
        with pytest.raises(StoppedError):
            run(folder / "broken.h5", Stopping(UNITS))
    return folder


@pytest.fixture
def broken(kept, tmp_path):
    shutil.copytree(kept / "broken.h5.segments", tmp_path / "broken.h5.segments")
    return tmp_path / "broken.h5"


def run(path, executor=None):
    executor = executor or SerialExecutor()
    campaign = campaign_of(TRIALS)
    ns.run(campaign, path, executor, progress=False, checkpoint_seconds=0).close()


def checkpoints(path, kind):
    return sorted(path.with_name(path.name + ".segments").glob(f"*.{kind}.h5"))


def change_value(path, name="statistics/errors_mean"):
    """What a bad disk does to a number that HDF5 stores as it is."""
    with h5py.File(path, "r+") as file:
        file[name][0, 0] += 1


def flip_in_chunk(path, name="trials/errors/values"):
    """What a bad disk does to a compressed chunk."""
    with h5py.File(path) as file:
        at = file[name].id.get_chunk_info(0).byte_offset
        # A bit of the last values: those are compressed, not stored.
        at += file[name].id.get_chunk_info(0).size - 40
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(("damage", "kind"), [(change_value, "state"), (flip_in_chunk, "trials")])
def test_a_damaged_last_checkpoint_is_said_and_computed_again(broken, kept, damage, kind):
    damage(checkpoints(broken, kind)[-1])
    with pytest.warns(UserWarning, match=r"damaged.*trials from 512 on are computed again"):
        run(broken)
    assert_same(broken, kept / "whole.h5")


def test_a_damaged_first_checkpoint_is_refused_before_anything_is_computed(broken):
    first = checkpoints(broken, "trials")[0]
    flip_in_chunk(first)
    with pytest.raises(TraceError, match=rf"{first.name}.*damaged.*or delete .*segments"):
        run(broken, Stopping(0))
    assert len(checkpoints(broken, "trials")) == UNITS


def test_a_damaged_trace_is_not_read(kept, tmp_path):
    shutil.copy(kept / "whole.h5", tmp_path)
    change_value(tmp_path / "whole.h5")
    with (
        ns.Trace(tmp_path / "whole.h5") as trace,
        pytest.raises(TraceError, match="checksum of /statistics"),
    ):
        _ = trace.mean


def test_a_damaged_trace_is_not_continued(kept, tmp_path):
    trace = tmp_path / "begun.h5"
    shutil.copy(kept / "begun.h5", trace)
    flip_in_chunk(trace)
    damaged = trace.read_bytes()
    with pytest.raises(TraceError, match=r"begun.h5.*damaged"):
        run(trace)
    assert trace.read_bytes() == damaged


def test_a_damaged_trace_is_not_joined(kept, tmp_path):
    damaged = tmp_path / "begun.h5"
    shutil.copy(kept / "begun.h5", damaged)
    flip_in_chunk(damaged)
    with pytest.raises(TraceError, match=r"begun.h5.*damaged"):
        ns.join([damaged], tmp_path / "joined.h5")
    assert not (tmp_path / "joined.h5").exists()


def test_rows_written_without_a_state_do_not_count(kept, tmp_path, monkeypatch):
    """Where memory is full before it is time for a checkpoint; also with some states between."""
    monkeypatch.setattr("neurosim.trace.writer._MEMORY", 0)
    monkeypatch.setattr("neurosim.trace.writer.TraceWriter.write_checkpoint", lambda self: None)
    broken = tmp_path / "broken.h5"
    asked = campaign_of(TRIALS)
    with pytest.raises(StoppedError):
        ns.run(asked, broken, Stopping(UNITS), progress=False, checkpoint_seconds=1000)
    assert len(checkpoints(broken, "trials")) == UNITS
    assert not checkpoints(broken, "state")
    monkeypatch.undo()
    monkeypatch.setattr("neurosim.campaign._CHUNK_TRIALS", 256)
    monkeypatch.setattr("neurosim.trace.writer._MEMORY", 0)
    with pytest.raises(StoppedError):
        ns.run(asked, broken, Stopping(2), progress=False, checkpoint_seconds=1000)
    # The checkpoint at the end holds both units of work, in files of their own.
    assert len(checkpoints(broken, "trials")) == 2
    assert [path.name for path in checkpoints(broken, "state")] == [f"{512:015d}.state.h5"]
    ns.run(asked, broken, SerialExecutor(), progress=False, checkpoint_seconds=1000).close()
    assert_same(broken, kept / "whole.h5")


def test_traces_of_earlier_versions_have_no_checksum(kept, tmp_path):
    trace = tmp_path / "begun.h5"
    shutil.copy(kept / "begun.h5", trace)
    with h5py.File(trace, "r+") as file:
        for group in ("statistics", "checkpoint"):
            del file[group].attrs["crc32"]
    run(trace)
    assert_same(trace, kept / "whole.h5")


def places(path):
    """Where the values of datasets lie: HDF5 itself may hang on damaged tables of its own."""
    found = []

    def visit(name, item):
        if not isinstance(item, h5py.Dataset) or item.dtype.hasobject:
            return
        if item.chunks is None:
            found.append((item.id.get_offset(), item.nbytes))
        else:
            chunks = (item.id.get_chunk_info(n) for n in range(item.id.get_num_chunks()))
            found.extend((chunk.byte_offset, chunk.size) for chunk in chunks)

    with h5py.File(path) as file:
        file.visititems(visit)
    return [(first, size) for first, size in found if first is not None and size]


def test_no_flipped_bit_changes_results(kept, tmp_path):
    luck = random.Random(7)
    told = 0
    for attempt in range(20):
        path = tmp_path / f"{attempt}.h5"
        shutil.copytree(kept / "broken.h5.segments", path.with_name(path.name + ".segments"))
        chosen = luck.choice(checkpoints(path, "state")[-1:] + checkpoints(path, "trials"))
        first, size = luck.choice(places(chosen))
        content = bytearray(chosen.read_bytes())
        content[first + luck.randrange(size)] ^= 1 << luck.randrange(8)
        chosen.write_bytes(content)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            try:
                run(path)
            except TraceError as error:
                told += 1
                assert str(path.parent) in str(error)  # noqa: PT017
            else:
                told += len(said)
                assert_same(path, kept / "whole.h5")
    assert told >= 15


def test_a_missing_part_of_a_trace_is_damage(kept, tmp_path):
    trace = tmp_path / "whole.h5"
    shutil.copy(kept / "whole.h5", trace)
    with h5py.File(trace, "r+") as file:
        del file["trials/errors/values"]
    with ns.Trace(trace) as opened, pytest.raises(TraceError, match=r"whole.h5.*damaged"):
        _ = opened.errors
