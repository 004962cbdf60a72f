"""Traces of adjacent ranges of trials of one campaign become one trace."""

import os
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import pairwise

from neurosim.environment import Environment
from neurosim.errors import InputError, TraceError, path_of
from neurosim.statistics import Statistics
from neurosim.trace import provenance
from neurosim.trace.damage import check_rows
from neurosim.trace.files import open_hdf5, reading, written_aside
from neurosim.trace.layout import (
    TRACE,
    check_same_campaign,
    copy_rows,
    merged,
    read_header,
    read_state,
    read_statistics,
    write_header,
    write_results,
)
from neurosim.weighted_statistics import WeightedStatistics

__all__ = ["join"]


def join(paths: Sequence[str | os.PathLike[str]], path: str | os.PathLike[str]) -> None:
    """Join traces of disjoint, adjacent ranges of trials of one campaign.

    Counts, extremes and everything recorded of single trials equal those of one run of all the
    trials; means and higher moments equal them to rounding (sums of floating-point numbers depend
    on their order). A joined trace can be continued.

    Parameters
    ----------
    paths : sequence of str or path-like
        The traces, in any order, as `run(campaign, path, trials=range(a, b))` writes them.
    path : str or path-like
        Of the new trace; nothing may lie there.

    Raises
    ------
    InputError
        If a path is none.
    CampaignMismatchError
        If the traces are not of one campaign; the message says what differs.
    TraceError
        If trials are missing between them or held twice, a trace cannot be read, or the new one
        cannot be written.

    Examples
    --------
    >>> join(["first.h5", "second.h5"], "both.h5")  # doctest: +SKIP
    """
    target = path_of(path)
    if isinstance(paths, str | os.PathLike):
        raise InputError(f"paths: expected a list of traces, got the path {os.fspath(paths)!r}")
    if not paths:
        raise TraceError("paths: expected at least one trace, got none")
    if target.exists():
        raise TraceError(
            f"{target}: expected a path where nothing lies, got an existing file; give another"
        )
    with ExitStack() as stack:
        parts = []
        for source in map(path_of, paths):
            file = stack.enter_context(open_hdf5(source))
            parts.append((read_header(file, source, TRACE), source, file))
        parts.sort(key=lambda part: part[0].first)
        first = parts[0][0]
        for header, source, _ in parts[1:]:
            check_same_campaign(
                source,
                header,
                first.fingerprint,
                first.components,
                f'where "here" is {parts[0][1]}; join traces of one campaign only',
            )
        for (before, one, _), (after, other, _) in pairwise(parts):
            if before.stop != after.first:
                what = "trials missing between them" if before.stop < after.first else "some twice"
                raise TraceError(
                    f"{other}: expected trials from {before.stop} on, where {one} ends, got "
                    f"trials from {after.first} on ({what})"
                )
        total: Statistics | WeightedStatistics | None = None
        state: Statistics | WeightedStatistics | None = None
        environments: list[Environment] = []
        for _, source, file in parts:
            complete = read_state(file, source)
            part = read_statistics(file, source)
            if total is None:
                total, state = part, complete
            else:
                # All but the last trace end with a complete unit of work, where the next begins.
                state = total if complete is None else merged(total, complete)
                total = merged(total, part)
            with reading(source):
                environments += [
                    e for e in provenance.read(file["provenance"]) if e not in environments
                ]
        if total is None:
            raise AssertionError("there is at least one part")
        aside = target.with_name(target.name + ".part")
        with written_aside(target, aside) as (new, check):
            resume = total.first if state is None else state.stop
            write_header(new, TRACE, first.fingerprint, total.first, total.stop, resume)
            with reading(parts[0][1]):
                parts[0][2].copy("campaign", new)
            write_results(new, total, state, environments)
            trials = new.create_group("trials")
            for header, source, file in parts:
                with reading(source):
                    check_rows(file["trials"])
                copy_rows(trials, file, source, header.stop - header.first, check)
