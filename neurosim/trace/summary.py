"""What a trace holds, in a few lines."""

from typing import TYPE_CHECKING

import numpy as np

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
        f"  error: mean {trace.mean.min():.4g} to {trace.mean.max():.4g}, standard deviation "
        f"{np.sqrt(trace.variance.min()):.4g} to {np.sqrt(trace.variance.max()):.4g}, extremes "
        f"{trace.minimum.min():.4g} and {trace.maximum.max():.4g}",
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
    lines += _weight_lines(trace)
    reached = checkpointed(trace.path)
    if reached is not None and reached > last + 1:
        lines.append(
            f"  being continued: trials up to {reached} are in checkpoints; run the campaign "
            "again to finish"
        )
    return "\n".join(lines)


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


def _percent(share: float) -> str:
    """Of presentations: rare ones keep their digits."""
    text = f"{share:.3%}" if share >= 1e-5 or share == 0 else f"{100 * share:.3g} %"
    return f"{text} of presentations"
