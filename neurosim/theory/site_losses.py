"""Moments of the error of a loss that sites or noise make, with the curvature of the loss.

As in `neurosim.theory.corrected_loss`, the loss is expanded to second order in the outputs: an
error Delta of mean m and covariance K changes it by a.Delta + 1/2 Delta.H Delta, of mean
a.m + 1/2 m.H m + 1/2 tr(H K). AP9 is a.m alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from neurosim.layers import Array
from neurosim.theory.passes import GoldenPass
from neurosim.theory.setting import Setting
from neurosim.theory.site_moments import SiteSums

__all__ = ["SiteLosses", "expanded_in", "expansion", "quadratic_mean"]


def expanded_in(setting: Setting) -> Setting:
    """The setting of the outputs in which the loss of a setting is expanded."""
    return replace(setting, head=setting.head.expanded_in, targets=None)


def expansion(setting: Setting) -> tuple[Array, Array]:
    """A (n_inputs, n_L) and H (n_inputs, n_L, n_L) of the loss of a setting, at golden outputs."""
    last = GoldenPass(setting=setting, rows=slice(0, setting.n_inputs)).y[-1]
    return setting.head.expansion(last, setting.targets)


def quadratic_mean(curvature: Array, mean: Array, covariance: Array) -> Array:
    """1/2 m.H m + 1/2 tr(H K), (n_inputs,)."""
    square = covariance + mean[:, :, None] * mean[:, None, :]
    return np.asarray(0.5 * np.einsum("xkl,xkl->x", curvature, square))


@dataclass(frozen=True, kw_only=True, eq=False)
class SiteLosses:
    """Exact moments of that quadratic form where Delta is a sum over independent sites.

    With u_s the deviation of what site s changes from its mean, and K_s its covariance, the
    variance is sum_s Var((a + H m).u_s + 1/2 u_s.H u_s) + 1/2 (tr((H K)^2) - sum_s tr((H K_s)^2)).

    Parameters
    ----------
    setting : Setting
        Of a loss.
    outputs : SiteSums
        Of the outputs in which the loss is expanded.
    """

    setting: Setting
    outputs: SiteSums

    @property
    def states(self):  # type: ignore[no-untyped-def]
        """The states of the sites."""
        return self.outputs.states

    @property
    def exact(self) -> bool:
        """Whether the error of the loss is this quadratic form."""
        return self.setting.head.loss == "squared_error" and self.outputs.exact

    @cached_property
    def _of_outputs(self) -> tuple[Array, Array]:
        return self.outputs.moments()[0], self.outputs.covariance()

    @cached_property
    def _expansion(self) -> tuple[Array, Array]:
        return expansion(self.setting)

    @property
    def linear_mean(self) -> Array:
        """a.m (AP9), (n_inputs, 1)."""
        return np.einsum("xk,xk->x", self._expansion[0], self._of_outputs[0])[:, None]

    def moments(self) -> tuple[Array, Array, Array, Array]:
        """Mean, variance (n_inputs, 1); what each site adds by itself (n_sites, 1)."""
        (slope, curvature), (mean, covariance) = self._expansion, self._of_outputs
        steep = slope + np.einsum("xkl,xl->xk", curvature, mean)
        bent = curvature @ covariance
        variance = 0.5 * np.einsum("xkl,xlk->x", bent, bent)
        states = self.outputs.states
        site_mean, site_variance = np.zeros((2, states.n_sites, 1))
        n_inputs = self.setting.n_inputs
        for rows, sites, p, m, deviation in self.outputs.parts():
            a, s, h = slope[rows], steep[rows], curvature[rows]
            none = states.no_fault[sites]
            starts = states.first[sites] - states.first[sites[0]]
            failed = _quadratic(s, h, deviation)
            whole = _quadratic(s, h, -m)
            centre = np.add.reduceat(p * failed, starts, axis=1) + none * whole
            lengths = np.diff([*starts, len(p)])
            apart = failed - np.repeat(centre, lengths, axis=1)
            own = np.add.reduceat(p * apart**2, starts, axis=1) + none * (whole - centre) ** 2
            outer = p[:, None, None] * deviation[..., :, None] * deviation[..., None, :]
            spread = np.add.reduceat(outer, starts, axis=1)
            spread += none[:, None, None] * m[..., :, None] * m[..., None, :]
            twice = h[:, None] @ spread
            variance[rows] += own.sum(axis=1) - 0.5 * np.einsum("xskl,xslk->x", twice, twice)
            given = states.site[states.first[sites]]
            alone = np.einsum("xk,xsk->xs", a, m) + centre
            alone += 0.5 * np.einsum("xsk,xkl,xsl->xs", m, h, m)
            site_mean[given, 0] += alone.sum(axis=0) / n_inputs
            site_variance[given, 0] += own.sum(axis=0) / n_inputs
        whole_mean = self.linear_mean + quadratic_mean(curvature, mean, covariance)[:, None]
        return whole_mean, np.maximum(variance, 0)[:, None], site_mean, site_variance

    def covariance(self) -> Array:
        """The variance as a covariance: (n_inputs, 1, 1)."""
        return self.moments()[1][:, :, None]


def _quadratic(slope: Array, curvature: Array, u: Array) -> Array:
    """Slope.u + 1/2 u.H u for u (n_inputs, n, n_L): (n_inputs, n)."""
    bent = 0.5 * np.einsum("xsk,xkl,xsl->xs", u, curvature, u)
    return np.asarray(np.einsum("xk,xsk->xs", slope, u) + bent)
