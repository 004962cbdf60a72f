"""The change of the outputs where every neuron and synapse has its mean value ("mean-field")."""

from neurosim.layers import Array
from neurosim.theory.setting import Setting
from neurosim.theory.single_fault import change_outputs

__all__ = ["mean_field_change"]


def mean_field_change(setting: Setting, rows: slice) -> Array:
    """y_L((1 - p) y_l) - y_L(y_l), for all failing layers at once: (n_inputs, n_outputs).

    The paper's "expand around the mean", to its zeroth order. Carried through the network as a
    difference, so that small probabilities keep their digits.
    """
    p = setting.probabilities
    y = setting.inputs[rows]
    dy = -p.get(("neuron", 0), 0.0) * y
    for number, layer in enumerate(setting.layers, start=1):
        lost, dead = p.get(("synapse", number), 0.0), p.get(("neuron", number), 0.0)
        drive = layer.push_forward(y)
        z = drive + layer.bias
        dz = (1 - lost) * layer.push_forward(dy) - lost * drive
        y = layer.activation(z)
        change = change_outputs(layer.activation, z, dz[:, None, :])[:, 0]
        dy = (1 - dead) * change - dead * y
    return setting.head.change(y, dy[:, None, :], setting.targets_of(rows))[:, 0]
