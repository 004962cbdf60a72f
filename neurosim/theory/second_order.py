"""Second-order moments: the surrogate -g.xi + 1/2 xi.H xi of what the faults change.

g_s and H_st are derivatives by the strengths xi of the faults (a neuron or synapse scaled by
1 - xi) at the fault-free network. Exactly, for independent faults (section 2 of the theory),

    E = sum_s p_s (-g_s + H_ss / 2) + sum_{s<t} H_st p_s p_t
    Var = sum_s p_s q_s e_s^2 + sum_{s<t} H_st^2 p_s q_s p_t q_t
    e_s = -g_s + H_ss / 2 + sum_{t != s} H_st p_t

What it takes: H p by one tangent of the forward and backward passes; the diagonal by second
derivatives along single neurons; the pairs by one tangent a neuron. A dead synapse changes the
pre-activation of one neuron, so that the tangents of all synapses of a neuron are multiples of one,
and of two sites on one path the earlier one is made the tangent.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from neurosim.errors import InputError
from neurosim.layers import Array
from neurosim.theory.effects import ProductEffects, Term
from neurosim.theory.first_order import LinearEffects, Passes
from neurosim.theory.setting import Block, Setting, is_linear

__all__ = ["PairCovariance", "QuadraticEffects", "check_smooth", "pair_covariance"]

# Tangents (neurons that fail or whose synapses fail) up to which pairs are summed exactly; beyond
# it by this many random combinations of the tangents of each block.
_MOST_TANGENTS = 2000
_PROBES = 64


def check_smooth(setting: Setting) -> None:
    """Refuse what has no second derivative where faults may reach.

    Raises
    ------
    InputError
        If an activation or a loss has a kink.
    """
    for number, layer in enumerate(setting.layers, start=1):
        reached = any(n < number or (kind, n) == ("synapse", number)
                      for kind, n in setting.probabilities)  # fmt: skip
        if reached and not layer.activation.smooth and not is_linear(layer.activation):
            raise InputError(
                f'method: expected smooth activations for "second-order", got {layer.activation} '
                f"in layer {number}: its curvature sits in the kink and is unknown; use "
                '"single-fault"'
            )
    if setting.head.loss == "absolute_error":
        raise InputError(
            'loss: expected a smooth one for "second-order", got absolute_error: its curvature '
            'sits in the kink and is unknown; use "single-fault"'
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Tangent:
    """Derivatives of a pass along paths; lists run over layers 0..L, entries may be missing.

    da, dy, dz: (n_inputs, n_paths, n_l); dc, db: (n_outputs, n_inputs, n_paths, n_l).
    """

    da: dict[int, Array]
    dy: dict[int, Array]
    dz: dict[int, Array]
    dc: dict[int, Array]
    db: dict[int, Array]


def _spread(array: Array) -> Array:
    """(..., n_inputs, n) as (..., n_inputs, 1, n), beside paths."""
    return array[..., None, :]


def _backward(
    setting: Setting, p: Passes, targets: Array | None, tangent: _Tangent, stop: int,
    shares: dict[Block, float],
) -> None:  # fmt: skip
    """Add dc of layers stop..L and db above; shares: how much of each block the paths scale away.

    b_l = (1 - xi) c_l phi'(z_l), c_{l-1} = ((1 - xi) W_l)^T b_l.
    """
    tangent.dc[setting.depth] = setting.head.gradient_change(
        p.y[-1], tangent.dy[setting.depth], targets
    )
    for number in range(setting.depth, stop, -1):
        layer = setting.layers[number - 1]
        dc = tangent.dc[number] - shares.get(("neuron", number), 0.0) * _spread(p.c[number])
        if is_linear(layer.activation):
            db = dc
        else:
            db = dc * _spread(layer.activation.derivative(p.z[number]))
            if number in tangent.dz:
                bend = layer.activation.second_derivative(p.z[number])
                db = db + _spread(p.c[number] * bend) * tangent.dz[number]
        tangent.db[number] = db
        lost = shares.get(("synapse", number), 0.0)
        tangent.dc[number - 1] = layer.pull_back(db - lost * _spread(p.b[number]))


@dataclass(frozen=True, kw_only=True, eq=False)
class QuadraticEffects(ProductEffects):
    """Effects e_s of every site: the part of the quadratic surrogate that is linear in the faults.

    Parameters
    ----------
    setting : Setting
    """

    setting: Setting

    @cached_property
    def first(self) -> LinearEffects:
        """The effects to first order."""
        return LinearEffects(setting=self.setting)

    def _mean_tangent(self, p: Passes, rows: slice) -> _Tangent:
        """Tangent along the mean strengths of all faults."""
        setting = self.setting
        shares = dict(setting.probabilities)
        tangent = _Tangent(da={}, dy={}, dz={}, dc={}, db={})
        tangent.da[0] = np.zeros((len(p.a[0]), 1, p.a[0].shape[1]))
        tangent.dy[0] = -shares.get(("neuron", 0), 0.0) * _spread(p.a[0])
        for number, layer in enumerate(setting.layers, start=1):
            dz = layer.push_forward(tangent.dy[number - 1])
            dz = dz - shares.get(("synapse", number), 0.0) * _spread(p.drive[number])
            tangent.dz[number] = dz
            tangent.da[number] = _spread(layer.activation.derivative(p.z[number])) * dz
            lost = shares.get(("neuron", number), 0.0) * _spread(p.a[number])
            tangent.dy[number] = tangent.da[number] - lost
        low = min(number - (kind == "synapse") for kind, number in shares)
        _backward(setting, p, setting.targets_of(rows), tangent, low, shares)
        return tangent

    def parts(self, rows: slice) -> dict[Block, tuple[tuple[Term, ...], ...]]:
        """Terms of every block: (-g_s, sum_t H_st p_t, H_ss)."""
        setting, passes = self.setting, self.first.passes(rows)
        if not setting.probabilities:
            return {}
        along = self._mean_tangent(passes, rows)
        linear = self.first.terms(rows)
        found: dict[Block, tuple[tuple[Term, ...], ...]] = {}
        for kind, n in setting.probabilities:
            bend = _diagonal(setting, passes, (kind, n), setting.targets_of(rows))
            if kind == "neuron":
                feature, moved = passes.a[n], along.da[n][:, 0]
                before, change = passes.c[n], along.dc[n][:, :, 0]
                power = 0
            else:
                feature, moved = passes.y[n - 1], along.dy[n - 1][:, 0]
                before, change = passes.b[n], along.db[n][:, :, 0]
                power = 1
            found[kind, n] = (
                linear[kind, n],
                (
                    Term(coefficient=change, feature=-feature, power=power),
                    Term(coefficient=before, feature=-moved, power=power),
                ),
                (Term(coefficient=bend, feature=feature**2, power=2 * power),),
            )
        return found

    def terms(self, rows: slice) -> dict[Block, tuple[Term, ...]]:
        """-g_s + sum_t H_st p_t + (1/2 - p_s) H_ss."""
        found = {}
        for block, (linear, along, diagonal) in self.parts(rows).items():
            factor = 0.5 - self.setting.probabilities[block]
            bent = [
                Term(coefficient=factor * t.coefficient, feature=t.feature, power=t.power)
                for t in diagonal
            ]
            # The first two share their feature.
            (g,), (h, moved) = linear, along
            both = Term(coefficient=g.coefficient + h.coefficient, feature=g.feature, power=g.power)
            found[block] = (both, moved, *bent)
        return found

    def means(self, rows: slice) -> dict[Block, dict[str, Array]]:
        """Mean by block and kind of term, each (n_inputs, n_outputs).

        "linear": -p g; "curvature": p H_ss / 2; "pairs": half of what the pairs with this block
        add.
        """
        result = {}
        for block, parts in self.parts(rows).items():
            p = self.setting.probabilities[block]
            linear, along, diagonal = (self._block_sums(block, terms)[0] for terms in parts)
            result[block] = {
                "linear": p * linear,
                "curvature": p / 2 * diagonal,
                "pairs": p / 2 * (along - p * diagonal),
            }
        return result


def _diagonal(setting: Setting, p: Passes, block: Block, targets: Array | None) -> Array:
    """Second derivatives by single outputs y_l (neurons) or pre-activations z_l (synapses).

    Shape (n_outputs, n_inputs, n_l).
    """
    kind, number = block
    n_inputs, n = len(p.a[0]), setting.widths[number]
    result = np.empty((setting.n_outputs, n_inputs, n))
    step = max(1, 2**21 // (n_inputs * max(setting.widths)))
    for first in range(0, n, step):
        units = np.arange(first, min(first + step, n))
        dy = np.zeros((n_inputs, len(units), n))
        d2y = np.zeros_like(dy)
        paths = np.arange(len(units))
        if kind == "neuron":
            dy[:, paths, units] = 1
        else:
            activation = setting.layers[number - 1].activation
            dy[:, paths, units] = activation.derivative(p.z[number])[:, units]
            d2y[:, paths, units] = activation.second_derivative(p.z[number])[:, units]
        for m in range(number + 1, setting.depth + 1):
            layer = setting.layers[m - 1]
            dz, d2z = layer.push_forward(dy), layer.push_forward(d2y)
            slope = _spread(layer.activation.derivative(p.z[m]))
            bend = _spread(layer.activation.second_derivative(p.z[m]))
            dy, d2y = slope * dz, slope * d2z + bend * dz**2
        second = setting.head.second_derivative(p.y[-1], dy, d2y, targets)
        result[:, :, units] = second.transpose(2, 0, 1)
    return result


@dataclass(frozen=True, kw_only=True, eq=False)
class PairCovariance:
    """What pairs of faults add to the covariances of the outputs.

    Parameters
    ----------
    total : ndarray, shape (n_inputs, n_outputs, n_outputs)
    by_block : mapping of Block to ndarray (n_inputs, n_outputs)
        Variances; a pair of sites of two blocks counts half for each.
    standard_error : ndarray, shape (n_inputs, n_outputs)
        Of the variances; 0 where all tangents were summed.
    """

    total: Array
    by_block: dict[Block, Array]
    standard_error: Array


def pair_covariance(effects: QuadraticEffects, seed: int) -> PairCovariance:
    """Sum over pairs s < t of H_st H'_st p_s q_s p_t q_t.

    Exact while at most 2000 neurons fail or have failing synapses; beyond, a randomised estimate:
    for random signs v the square of sum_s v_s w_s H_st has the expectation sum_s w_s^2 H_st^2.
    """
    setting = effects.setting
    k = setting.n_outputs
    total = np.zeros((setting.n_inputs, k, k))
    by_block = {block: np.zeros((setting.n_inputs, k)) for block in setting.probabilities}
    error = np.zeros((setting.n_inputs, k))
    order = sorted(setting.probabilities, key=_place)
    exact = sum(setting.widths[number] for _, number in order) <= _MOST_TANGENTS
    rng = np.random.default_rng(seed)
    for place, source in enumerate(order):
        targets = order[place:]  # of two sites the one that comes first on the path is the tangent
        signs = None if exact else rng.choice([-1.0, 1.0], (_PROBES, setting.widths[source[1]]))
        for rows in setting.chunks(4 * k * max(setting.widths)):
            p = effects.first.passes(rows)
            own = _own_squares(setting, p, source, rows)
            pieces = [
                _pair_sums(setting, p, source, targets, tangents, rows)
                for tangents in _tangents(setting, p, source, signs)
            ]
            estimates: Array = np.zeros(1)  # of the variances, one a path
            for target in targets:
                sums = np.concatenate([piece[target] for piece in pieces], axis=1)
                if target == source:  # each pair was met twice, and each site with itself
                    sums = (sums - own[:, None] / (len(sums[0]) if exact else 1)) / 2
                whole = sums.sum(axis=1) if exact else sums.mean(axis=1)
                estimates = estimates + np.diagonal(sums, axis1=2, axis2=3)
                total[rows] += whole
                variances = np.diagonal(whole, axis1=1, axis2=2)
                for block in (source, target):
                    by_block[block][rows] += variances / 2
            if not exact:
                error[rows] += estimates.var(axis=1, ddof=1) / _PROBES
    return PairCovariance(total=total, by_block=by_block, standard_error=np.sqrt(error))


def _place(block: Block) -> int:
    """Where a block lies on the path of the signal."""
    kind, number = block
    return 2 * number - (kind == "synapse")


def _weights(setting: Setting, p: Passes, source: Block) -> Array:
    """W of every tangent of a block, the root of the summed p q u^2 of its sites: (n_inputs, n)."""
    kind, number = source
    q = setting.probabilities[source]
    if kind == "neuron":
        return np.sqrt(q * (1 - q)) * p.a[number]
    weight = setting.layers[number - 1].weight
    return np.sqrt(q * (1 - q) * (p.y[number - 1] ** 2 @ (weight**2).T))


def _tangents(setting: Setting, p: Passes, source: Block, signs: Array | None) -> Iterator[Array]:
    """Starting tangents (n_inputs, n_paths, n), one a neuron or one a row of signs, in batches."""
    weights = _weights(setting, p, source)
    n_inputs, n = weights.shape
    n_paths = n if signs is None else len(signs)
    step = max(1, 2**22 // (n_inputs * setting.n_outputs * max(setting.widths)))
    for first in range(0, n_paths, step):
        stop = min(first + step, n_paths)
        if signs is None:
            start = np.zeros((n_inputs, stop - first, n))
            units = np.arange(first, stop)
            start[:, units - first, units] = weights[:, units]
        else:
            start = signs[first:stop] * weights[:, None, :]
        yield start


def _pair_sums(
    setting: Setting, p: Passes, source: Block, targets: list[Block], start: Array, rows: slice
) -> dict[Block, Array]:
    """Sum over the sites t of each block of w_t G_t G'_t: (n_inputs, n_paths, n_out, n_out)."""
    kind, number = source
    tangent = _Tangent(da={}, dy={}, dz={}, dc={}, db={})
    if kind == "neuron":
        tangent.dy[number] = start
    else:
        tangent.dz[number] = start
        slope = setting.layers[number - 1].activation.derivative(p.z[number])
        tangent.da[number] = tangent.dy[number] = _spread(slope) * start
    for m in range(number + 1, setting.depth + 1):
        layer = setting.layers[m - 1]
        tangent.dz[m] = layer.push_forward(tangent.dy[m - 1])
        tangent.da[m] = _spread(layer.activation.derivative(p.z[m])) * tangent.dz[m]
        tangent.dy[m] = tangent.da[m]
    low = number if kind == "neuron" else number - 1
    _backward(setting, p, setting.targets_of(rows), tangent, low, {})
    result = {}
    for target in targets:
        what, m = target
        q = setting.probabilities[target]
        if what == "neuron":
            g = tangent.dc[m] * _spread(p.a[m])
            if m in tangent.da:
                g = g + _spread(p.c[m]) * tangent.da[m]
            sums = _gram(g, g)
        else:
            squared = (setting.layers[m - 1].weight ** 2).T
            y, change = p.y[m - 1], tangent.db[m]
            sums = _gram(change * _spread(y**2 @ squared), change)
            if m - 1 in tangent.dy:
                dy = tangent.dy[m - 1]
                b = np.broadcast_to(_spread(p.b[m]), change.shape)
                mixed = _gram(change * ((_spread(y) * dy) @ squared), b)
                sums = sums + mixed + np.swapaxes(mixed, 2, 3)
                sums = sums + _gram(b * (dy**2 @ squared), b)
        result[target] = q * (1 - q) * sums
    return result


def _gram(a: Array, b: Array) -> Array:
    """Sum over units of a_k b_l; a, b (n_outputs, n_inputs, n_paths, n)."""
    return np.moveaxis(a, 0, 2) @ np.moveaxis(np.moveaxis(b, 0, 2), -1, -2)


def _own_squares(setting: Setting, p: Passes, source: Block, rows: slice) -> Array:
    """Sum of (p q)^2 H_ss H'_ss over the sites of a block: (n_inputs, n_outputs, n_outputs)."""
    kind, number = source
    q = setting.probabilities[source]
    bend = _diagonal(setting, p, source, setting.targets_of(rows)).transpose(1, 0, 2)
    if kind == "neuron":
        square = p.a[number] ** 4
    else:
        square = p.y[number - 1] ** 4 @ (setting.layers[number - 1].weight ** 4).T
    return (q * (1 - q)) ** 2 * ((bend * square[:, None, :]) @ bend.transpose(0, 2, 1))
