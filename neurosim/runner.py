"""From a campaign to its trace: units of work in order, with checkpoints and progress."""

import math
import os
import sys
from functools import partial

from tqdm import tqdm

from neurosim.backends import Backend, SpikingBackend, backend_of
from neurosim.campaign import Campaign
from neurosim.errors import InputError, TraceError, path_of
from neurosim.executors import Executor, ThreadExecutor, one_blas_thread
from neurosim.layers import Array
from neurosim.sampling import PlainMonteCarlo
from neurosim.statistics import Changes, Statistics, summarise
from neurosim.trace import Rows, Trace, TraceWriter, is_finished, rows_of
from neurosim.weighted_statistics import (
    WeightedStatistics,
    enumerate_few,
    summarise_weighted,
    with_control,
)

__all__ = ["compute_chunk", "run"]


def compute_chunk(
    campaign: Campaign, backend: Backend, stop: int, k: int
) -> tuple[Statistics | WeightedStatistics, Rows]:
    """Compute unit of work k: trials k * campaign.chunk up to the next one, at most to `stop`.

    A pure function of its arguments that keeps nothing between calls: executors may call it in
    any thread or process.

    Parameters
    ----------
    campaign : Campaign
    backend : Backend
        Made once, so that all units share its golden outputs.
    stop : int
        The end of the trials asked for, which may cut the last unit short.
    k : int

    Returns
    -------
    statistics : Statistics, or WeightedStatistics with a weighted plan
    rows : dict of str to ndarray
        What the campaign records of each trial.
    """
    first = k * campaign.chunk
    last = min(first + campaign.chunk, stop)
    trials = None
    if isinstance(campaign.plan, PlainMonteCarlo):
        batch = campaign.fault_batch(first, last)
    else:
        trials = campaign.weighted_trials(first, last)
        batch = trials.batch
    hidden: list[Array] | None = None
    spiking_rows: Rows = {}
    if isinstance(backend, SpikingBackend):
        errors, hidden, rates = backend.errors_hidden_and_rates(batch)
        changes = Changes.of(errors)
        spiking_rows["rates"] = rates
        if "spikes" in campaign.record:
            rasters = backend.rasters(batch)
            spiking_rows |= {f"spikes/{name}": values for name, values in vars(rasters).items()}
    elif "hidden" in campaign.record:
        errors, hidden = backend.errors_and_hidden(batch)
        changes = Changes.of(errors)
    else:
        changes = backend.changes(batch)
    rows = rows_of(campaign, first, batch, changes, hidden) | spiking_rows
    if trials is None:
        return summarise(campaign, backend.golden, changes, first), rows
    rows |= {"weight": trials.weights, "law": trials.laws}
    return summarise_weighted(campaign, backend.golden, trials, changes, first), rows


def _enumerated(
    campaign: Campaign, backend: Backend, piece: tuple[int, int, int, int]
) -> WeightedStatistics:
    """Exact parts from some sets of at most one fault: those of a group, and their numbers."""
    g, first, stop, number = piece
    draws = campaign.draws.groups[g]
    batch, chances = draws.enumerated(campaign.deployment.sites, campaign.n_inputs, first, stop)
    changes, about = backend.changes(batch), (draws.first, draws.stop)
    return enumerate_few(campaign, backend.golden, changes, chances, about, number)


def _enumerate(campaign: Campaign, backend: Backend, executor: Executor) -> WeightedStatistics:
    """What a weighted plan computes before its trials: all sets of at most one fault."""
    pieces, number = [], 0
    for g, draws in enumerate(campaign.draws.groups):
        for first in range(0, draws.n_enumerated, campaign.chunk):
            stop = min(first + campaign.chunk, draws.n_enumerated)
            pieces.append((g, first, stop, number))
            number += stop - first
    results = executor.map(partial(_enumerated, campaign, backend), pieces)
    total = next(results)
    for part in results:
        total = total.merge(part)
    return with_control(total, campaign.draws)


def run(
    campaign: Campaign,
    path: str | os.PathLike[str],
    executor: Executor | None = None,
    progress: bool = True,
    trials: range | None = None,
    *,
    checkpoint_seconds: float = 5.0,
) -> Trace:
    """Run a campaign's trials into a trace, or continue one.

    After Ctrl-C, a crash or a full disk, call it again: it continues at the last checkpoint, and
    the results are the same bits as those of an unbroken run. A finished trace of fewer trials is
    extended, one of as many is opened.

    Parameters
    ----------
    campaign : Campaign
    path : str or path-like
        Of the trace. Beside it, while the campaign runs, lies the folder of checkpoints
        `<path>.segments`.
    executor : Executor, optional
        Who computes; threads on all cores by default. The results do not depend on it.
    progress : bool
        Show a progress bar on standard error if that is a terminal.
    trials : range, optional
        Which trials: range(a, b) with a multiple of campaign.chunk for a, to be joined with
        others later. By default all, range(campaign.trials).
    checkpoint_seconds : float
        Least time between two checkpoints; 0 for one after every unit of work.

    Returns
    -------
    Trace
        Open; close it, or use it as a context manager.

    Raises
    ------
    InputError
        If an argument is not as said above, or a weighted plan is not resolved.
    CampaignMismatchError
        If what lies at the path belongs to another campaign.
    TraceError
        If the trace cannot be written or continued, holds more trials, or another process
        writes it.

    Examples
    --------
    >>> with run(campaign, "digits.h5") as trace:  # doctest: +SKIP
    ...     print(trace)
    """
    if not isinstance(campaign, Campaign):
        raise InputError(
            f"campaign: expected Campaign(...), got {campaign!r:.60} ({type(campaign).__name__}); "
            "load_campaign reads one from a file"
        )
    target = path_of(path)
    wanted = _checked_trials(campaign, trials)
    pool = ThreadExecutor() if executor is None else _checked_executor(executor)
    # A weighted plan that is not resolved is refused here.
    draws = None if isinstance(campaign.plan, PlainMonteCarlo) else campaign.draws
    if not isinstance(checkpoint_seconds, int | float) or not 0 <= checkpoint_seconds < math.inf:
        raise InputError(
            f"checkpoint_seconds: expected seconds from 0 on, got {checkpoint_seconds!r}"
        )
    if is_finished(campaign, target, wanted):
        return Trace(target)
    with one_blas_thread():
        backend = backend_of(campaign)
    enumerated = None if draws is None else _enumerate(campaign, backend, pool)
    with TraceWriter(
        campaign,
        target,
        wanted,
        backend.golden,
        enumerated=enumerated,
        checkpoint_seconds=checkpoint_seconds,
    ) as writer:
        try:
            _compute(campaign, backend, writer, wanted, pool, progress)
            writer.finish()
        except BaseException as error:
            if not isinstance(error, TraceError):
                writer.write_checkpoint()
            error.add_note(
                f"{target}: {writer.checkpoint - wanted.start} of {len(wanted)} trials are kept; "
                "run the campaign again with the same path to continue"
            )
            raise
    return Trace(target)


def _compute(
    campaign: Campaign,
    backend: Backend,
    writer: TraceWriter,
    trials: range,
    executor: Executor,
    progress: bool,
) -> None:
    units = range(writer.next_trial // campaign.chunk, -(-trials.stop // campaign.chunk))
    done = writer.next_trial - trials.start
    results = executor.map(partial(compute_chunk, campaign, backend, trials.stop), units)
    with tqdm(
        total=len(trials),
        initial=done,
        desc=f"continued at trial {writer.next_trial}" if done else None,
        unit=" trials",
        disable=None if progress else True,
        file=sys.stderr,
    ) as bar:
        try:
            for statistics, rows in results:
                writer.add(statistics, rows)
                bar.update(statistics.stop - statistics.first)
        finally:
            # Wait for the workers now, not whenever the iterator happens to be collected.
            if hasattr(results, "close"):
                results.close()


def _checked_executor(executor: Executor) -> Executor:
    if isinstance(executor, type) or not callable(getattr(executor, "map", None)):
        raise InputError(
            "executor: expected one, as ThreadExecutor(4), ProcessExecutor(4) or "
            f'DaskExecutor("tcp://10.0.0.1:8786"), got {executor!r}'
        )
    return executor


def _checked_trials(campaign: Campaign, trials: range | None) -> range:
    if trials is None:
        return range(campaign.trials)
    if not isinstance(trials, range) or trials.step != 1 or not trials:
        raise InputError(f"trials: expected range(a, b) with a < b, got {trials!r}")
    if trials.start < 0 or trials.stop > campaign.trials:
        raise InputError(
            f"trials: expected a range within the {campaign.trials} trials of the campaign, "
            f"got {trials!r}"
        )
    rest = trials.start % campaign.chunk
    if rest:
        below = trials.start - rest
        raise InputError(
            f"trials: expected a beginning that is a multiple of {campaign.chunk}, the "
            f"campaign's unit of work, got {trials.start}; the nearest are {below} and "
            f"{below + campaign.chunk}"
        )
    return trials
