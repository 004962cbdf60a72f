"""What Algorithm 1 did: one row an iteration, as a table and in HDF5, and what came of it."""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal

from neurosim.network import Network
from neurosim.trace.logs import write_log
from neurosim.training.confirmation import Confirmation

__all__ = ["Achievement", "Iteration", "save_iterations"]


@dataclass(frozen=True, kw_only=True)
class Iteration:
    """One turn of the loop of Algorithm 1.

    Parameters
    ----------
    widths : tuple of int
        Neurons of each layer that fails.
    variance_factor, balance_factor, smoothness_factor : float
        lambda, mu, psi while training.
    training_loss : float
        Of the last epoch.
    balance : float
        q, the least over the layers that fail.
    weight_failure : float
        delta_0 of P3, added over the layers that fail.
    smoothness : float
        R3, or the authors' difference part of it; the largest of the layers that fail.
    largest_mean : float
        Largest |E Delta| over inputs and outputs (of the loss: E Delta) as a share of epsilon.
    infeasible_share : float
        Share of the inputs whose mean error alone is beyond epsilon.
    delta : float
        Largest failure probability of one chip over inputs and outputs, delta_0 included.
    claimed_width : float
        C p / (t^2 / 3), the paper's claim for the width, from C of this network; for several layers
        the sum of their widths, in the proportions that they have.
    replicas : int
        R; 0 where none will do.
    seconds : float
        Of the iteration.
    peak_memory_bytes : int
        Most memory the process has held so far.
    action : str
        What came of it.
    """

    widths: tuple[int, ...]
    variance_factor: float
    balance_factor: float
    smoothness_factor: float
    training_loss: float
    balance: float
    weight_failure: float
    smoothness: float
    largest_mean: float
    infeasible_share: float
    delta: float
    claimed_width: float
    replicas: int
    seconds: float
    peak_memory_bytes: int
    action: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Achievement:
    """The end of Algorithm 1.

    Parameters
    ----------
    verdict : "achieved", "infeasible" or "not achieved"
    reason : str
    network : Network
        Of the last iteration.
    replicas : int
        R of the network, 0 if none was found.
    iterations : tuple of Iteration
    confirmation : Confirmation or None
        Of this network with these replicas.
    method : "valid" or "paper"
    """

    verdict: Literal["achieved", "infeasible", "not achieved"]
    reason: str
    network: Network = field(repr=False)
    replicas: int
    iterations: tuple[Iteration, ...]
    confirmation: Confirmation | None
    method: str

    def __str__(self) -> str:
        wide = max(6, *(len(_joined(i.widths)) + 1 for i in self.iterations))
        head = (
            f"{'width':>{wide}}{'lambda':>9}{'mu':>9}{'psi':>9}{'loss':>10}{'q':>8}{'delta_0':>9}"
            f"{'R3':>10}{'|E|/eps':>9}{'delta':>9}{'R':>5}{'s':>7}{'MiB':>7}  action"
        )
        rows = [
            f"{_joined(i.widths):>{wide}}{i.variance_factor:9.1e}{i.balance_factor:9.1e}"
            f"{i.smoothness_factor:9.1e}{i.training_loss:10.3g}{i.balance:8.3f}"
            f"{i.weight_failure:9.1e}{i.smoothness:10.4g}{i.largest_mean:9.3f}{i.delta:9.2e}"
            f"{i.replicas:5}{i.seconds:7.1f}{i.peak_memory_bytes / 2**20:7.0f}  {i.action}"
            for i in self.iterations
        ]
        first, last = self.iterations[0], self.iterations[-1]
        lines = [
            f"{self.verdict}: {self.reason}",
            head,
            *rows,
            f"width: the paper's C p / eps^2 asks for about {last.claimed_width:.3g} neurons, "
            f"taken {_joined(last.widths)}; {len(self.iterations)} iterations",
            "memory: the paper claims that of one training; peak of the process after the first "
            f"iteration {first.peak_memory_bytes / 2**20:.0f} MiB, after the last "
            f"{last.peak_memory_bytes / 2**20:.0f} MiB",
        ]
        return "\n".join([*lines, *([str(self.confirmation)] if self.confirmation else [])])


def _joined(widths: tuple[int, ...]) -> str:
    return "+".join(map(str, widths))


def save_iterations(
    path: str | os.PathLike[str], iterations: Sequence[Iteration], method: str
) -> None:
    """Write the iterations so far to HDF5, one dataset a column.

    Raises
    ------
    TraceError
        If it cannot be written, or the file is something else.
    """
    rows = [asdict(iteration) for iteration in iterations]
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    write_log(path, columns, {"algorithm": "Algorithm 1", "method": method})
