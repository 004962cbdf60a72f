"""compare_networks: what a transformation of a network gains, predicted and simulated."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, get_args

from neurosim.campaign import Campaign
from neurosim.certification.outcomes import Outcome, outcome_of, ratio, standard_error
from neurosim.certification.scope import require_formulas
from neurosim.deployment import deploy
from neurosim.errors import InputError
from neurosim.executors import Executor
from neurosim.layers import Array
from neurosim.network import Network
from neurosim.theory import predict
from neurosim.theory.arguments import check_campaign, check_network

__all__ = ["NetworkComparison", "NetworkErrors", "compare_networks"]

Quantity: TypeAlias = Literal["variance", "mean square"]


@dataclass(frozen=True, kw_only=True, eq=False)
class NetworkErrors:
    """Errors of one network: faulty output minus the golden output of the network as it was.

    Moments are summed over outputs, means over inputs; the mean square is the squared mean plus
    the variance.

    Parameters
    ----------
    network : Network
    squared_mean, variance : float
        As predicted.
    simulated : Outcome
        Its means and squares are of these errors, batch by batch.
    """

    network: Network
    squared_mean: float
    variance: float
    simulated: Outcome

    @property
    def square(self) -> float:
        """Predicted mean square."""
        return self.squared_mean + self.variance

    @property
    def simulated_squared_mean(self) -> tuple[float, float]:
        """Simulated squared mean, without bias (so at times below 0), and its standard error."""
        return self.simulated.squared_mean

    @property
    def simulated_variance(self) -> tuple[float, float]:
        """Simulated variance, and its standard error."""
        return self.simulated.variance, self.simulated.variance_error

    @property
    def simulated_square(self) -> tuple[float, float]:
        """Simulated mean square, and its standard error."""
        return float(self.simulated.squares.mean()), standard_error(self.simulated.squares)


@dataclass(frozen=True, kw_only=True, eq=False)
class NetworkComparison:
    """What `compare_networks` found.

    Parameters
    ----------
    before, after : NetworkErrors
    method : str
        Of the predictions.
    """

    before: NetworkErrors
    after: NetworkErrors
    method: str

    def predicted_gain(self, of: Quantity = "mean square") -> float:
        """By how much `after` lowers the predicted variance or mean square."""
        name = "variance" if _checked(of) == "variance" else "square"
        before, after = getattr(self.before, name), getattr(self.after, name)
        return before / after if after else float("inf")

    def simulated_gain(self, of: Quantity = "mean square") -> tuple[float, float]:
        """The same of the simulated one, with its standard error."""
        name = "variances" if _checked(of) == "variance" else "squares"
        return ratio(getattr(self.before.simulated, name), getattr(self.after.simulated, name))

    def __str__(self) -> str:
        lines = [
            f"errors from the golden output of the network before; {self.method} beside simulation",
            f"{'':8}{'neurons':>8}{'mean^2':>12}{'simulated':>22}{'variance':>12}"
            f"{'simulated':>22}{'mean square':>13}{'simulated':>22}",
        ]
        for name, one in (("before", self.before), ("after", self.after)):
            pairs = (
                (12, one.squared_mean, one.simulated_squared_mean),
                (12, one.variance, one.simulated_variance),
                (13, one.square, one.simulated_square),
            )
            lines.append(
                f"{name:8}{sum(one.network.widths[1:]):8}"
                + "".join(
                    f"{predicted:{width}.3e}{f'{seen:.3e} +- {error:.0e}':>22}"
                    for width, predicted, (seen, error) in pairs
                )
            )
        for of in get_args(Quantity):
            gain, error = self.simulated_gain(of)
            lines.append(
                f"gain in {of}: predicted {self.predicted_gain(of):.3g}, "
                f"simulated {gain:.3g} +- {error:.1g}"
            )
        return "\n".join(lines)


def _checked(of: str) -> str:
    if of not in get_args(Quantity):
        raise InputError(f'of: expected "variance" or "mean square", got {of!r}')
    return of


def compare_networks(
    campaign: Campaign,
    after: Network,
    *,
    method: str = "single-fault",
    executor: Executor | None = None,
) -> NetworkComparison:
    """Predict and simulate the errors of a network and of what it was transformed into.

    Both are deployed on the campaign's chip with its faults, and both errors are taken from the
    golden output of the campaign's network: what a transformation changes without any fault, as
    compensation does, counts as a part of the mean error.

    Parameters
    ----------
    campaign : Campaign
        Of the network before; its trials are simulated for both.
    after : Network
        Of as many layers, with the same inputs and outputs: `theory.continuity.compensated` or
        `duplicate`, `Hardening.network`, or the same network trained anew.
    method : str
        As in `predict`. "single-fault" is right to first order in p; "mean-field" has the mean
        of many small neurons at any p, but takes every compensated mean error for 0, which it is
        for a linear rest only.
    executor
        As in `run`.

    Returns
    -------
    NetworkComparison

    Raises
    ------
    InputError
        If the networks differ in depth, inputs or outputs, or the faults are not dead neurons and
        synapses of a chain of dense layers.
    DeploymentError
        If the network does not fit on the chip.

    Examples
    --------
    >>> import neurosim as ns
    >>> network = ns.Network.dense(weights=[[[1.0], [1.0]], [[1.0, 3.0]]], biases=[[0, 0], [0]],
    ...                            activations=["identity", "identity"])
    >>> campaign = ns.Campaign(
    ...     deployment=ns.deploy(network, ns.Chip.load("ideal")), inputs=[[1.0]], trials=100,
    ...     faults=[ns.StuckAtZero("neuron", probability=0.1, layers=[1])], seed=0)
    >>> after = ns.theory.continuity.compensated(network, probabilities=[0, 0.1])
    >>> found = ns.compare_networks(campaign, after)
    >>> round(found.before.squared_mean, 3), abs(round(found.after.squared_mean, 3))
    (0.16, 0.0)
    >>> round(found.predicted_gain("variance"), 3)  # (1 - p)^2
    0.81
    """
    check_campaign(campaign)
    require_formulas(campaign, "compare_networks")
    check_network(after)
    before = campaign.network
    ends = [(n.widths[0], n.depth, n.n_outputs) for n in (before, after)]
    if ends[0] != ends[1]:
        raise InputError(
            "after: expected a network of {} inputs, {} layers and {} outputs as before, "
            "got {}, {} and {}".format(*ends[0], *ends[1])
        )
    golden = before(campaign.inputs)
    changed = replace(campaign, deployment=deploy(after, campaign.deployment.chip))
    return NetworkComparison(
        before=_errors(campaign, golden, method, executor),
        after=_errors(changed, golden, method, executor),
        method=method,
    )


def _errors(
    campaign: Campaign, golden: Array, method: str, executor: Executor | None
) -> NetworkErrors:
    shift = campaign.network(campaign.inputs) - golden
    prediction = predict(campaign, method)
    return NetworkErrors(
        network=campaign.network,
        squared_mean=float(((prediction.mean + shift) ** 2).sum(axis=1).mean()),
        variance=float(prediction.variance.sum(axis=1).mean()),
        simulated=outcome_of(campaign, executor=executor, shift=shift),
    )
