"""What a trace holds, in a few lines."""

from typing import TYPE_CHECKING

import numpy as np

from neurosim.layers import Array
from neurosim.trace.writer import checkpointed
from neurosim.weighted_statistics import LEAST_EFFECTIVE

if TYPE_CHECKING:
    from neurosim.trace.reader import Trace

__all__ = ["summary"]


def summary(trace: "Trace") -> str:
    """Campaign, errors, accuracy and failures of a trace, and how far it is to be trusted."""
    n_inputs, n_outputs = trace.mean.shape
    presentations = trace.completed * n_inputs
    last = trace.first_trial + trace.completed - 1
    lines = [
        f"Trace {trace.path}: {trace.completed} trials ({trace.first_trial} to {last}) x "
        f"{n_inputs} inputs x {n_outputs} outputs",
        f"  campaign {trace.fingerprint[:12]}, seed {trace.components.get('seed')}, backend "
        f"{trace.components.get('backend')} ({trace.components.get('dtype')}), recorded: "
        f"{trace.components.get('record')}",
        *(f"  {process}" for process in trace.processes),
        f"  error: mean {_span(trace.mean)}, standard deviation {_span(np.sqrt(trace.variance))}, "
        f"extremes {trace.minimum.min():.4g} and {trace.maximum.max():.4g}",
        f"  largest output changed in {trace.class_changes.sum() / presentations:.3%} of "
        "presentations",
    ]
    interval = trace.accuracy_interval()
    if trace.accuracy is not None and interval is not None:
        lines.append(
            f"  accuracy under faults {trace.accuracy:.4f} (95 %: {interval[0]:.4f} to "
            f"{interval[1]:.4f})"
        )
    for epsilon, counts in zip(trace.epsilons, trace.exceedances_any, strict=True):
        share = counts.sum() / presentations
        lines.append(f"  |error| >= {epsilon:g} at some output in {_percent(share)}")
    lines += _median_lines(trace)
    if trace.loss is not None:
        lines.append(
            f"  {trace.components.get('loss')}, faulty minus golden: mean "
            f"{_span(trace.loss.mean)}, standard deviation {_span(np.sqrt(trace.loss.variance))}"
        )
    lines += _weight_lines(trace)
    reached = checkpointed(trace.path)
    if reached is not None and reached > last + 1:
        lines.append(
            f"  being continued: trials up to {reached} are in checkpoints; run the campaign "
            "again to finish"
        )
    return "\n".join(lines)


def _median_lines(trace: "Trace") -> list[str]:
    """How often medians of replicas are off."""
    lines = []
    for size, groups, at_epsilon in zip(
        trace.replicas, trace.median_groups, trace.median_exceedances_any, strict=True
    ):
        if not groups:
            lines.append(f"  median of {size} chips: unknown, fewer than {size} trials")
            continue
        for epsilon, counts in zip(trace.epsilons, at_epsilon, strict=True):
            lines.append(
                f"  median of {size} chips ({groups} groups): |error| >= {epsilon:g} at some "
                f"output in {_percent(counts.sum() / (groups * counts.size))}"
            )
    return lines


def _weight_lines(trace: "Trace") -> list[str]:
    """How the trials were weighted, and where they are too few to be trusted."""
    found = trace.weighted
    if found is None:
        return []
    size, each = found.effective_sample_size, found.drawn.evaluated.sum(axis=0)
    lines = [
        f"  {trace.plan}",
        f"  effective sample size of the weights {size.min():.4g} to {size.max():.4g} of "
        f"{each.min()} trials an input; all probabilities together "
        f"{found.total_weight.value.mean():.6g}",
    ]
    for epsilon, trusted, seen in zip(
        trace.epsilons,
        found.exceedances.trusted,
        found.exceedances.value > 0,
        strict=True,
    ):
        if not trusted.all():
            lines.append(
                f"  not to be trusted: P(|error| >= {epsilon:g}) at {(~trusted).sum()} of "
                f"{seen.sum()} inputs and outputs where it was seen rests on fewer than "
                f"{LEAST_EFFECTIVE:g} effective failures, and so does its standard error; "
                "draw more trials, or tilt towards this epsilon"
            )
    return lines


def _span(values: Array) -> str:
    """Smallest and largest; a single trial has no variance."""
    if np.isnan(values).all():
        return "unknown"
    return f"{values.min():.4g} to {values.max():.4g}"


def _percent(share: float) -> str:
    """Of presentations: rare ones keep their digits."""
    text = f"{share:.3%}" if share >= 1e-5 or share == 0 else f"{100 * share:.3g} %"
    return f"{text} of presentations"
