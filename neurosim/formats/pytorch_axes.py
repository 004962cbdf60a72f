"""Functions of PyTorch that move no value or put axes in another shape or order."""

from math import prod

from neurosim.formats.axes import BATCH
from neurosim.formats.pytorch_arguments import Given, Reader, computed
from neurosim.formats.refusals import reason_against
from neurosim.formats.steps import UnreadableError
from neurosim.formats.tensor import Tensor

__all__ = ["AXES"]


# What leaves values as they are


def _passed(given: Given) -> Tensor:
    if given.get("train"):
        raise UnreadableError(reason_against("native_dropout", ()))
    return computed(given)


def _cast(given: Given) -> Tensor:
    dtype = given.get("dtype", getattr(given.get("other"), "dtype", None))
    if dtype is not None and not dtype.is_floating_point:
        raise UnreadableError(f"expected a cast to real numbers, got one to {dtype}")
    return computed(given)


def _expanded(given: Given) -> Tensor:
    x = computed(given)
    if "other" in given:  # expand_as
        given = {"size": (-1, *(getattr(given["other"], "shape", None) or ()))}
    sizes = [int(n) for n in given["size"]]
    known = (x.batch or BATCH, *(x.shape or ()))
    if len(sizes) != len(known) or any(n not in (-1, m) for n, m in zip(sizes, known, strict=True)):
        raise UnreadableError(reason_against("repeat", ()))
    return x


def _nothing(given: Given) -> None:
    """A check of types and shapes, whose result nobody takes."""


# Axes


def _padded(given: Given) -> Tensor:
    x = computed(given)
    sizes = [int(n) for n in given["pad"]] + [0] * 8
    mode, value = given.get("mode", "constant"), given.get("value")
    if mode != "constant" or value not in (None, 0) or min(sizes) < 0 or any(sizes[4:]):
        wanted = "expected zeros around height and width of a map"
        raise UnreadableError(f"{wanted}, got mode {mode}, value {value}, sizes {given['pad']}")
    if len(x.shape or ()) == 2 and not any(sizes[2:]):
        return x.upright().padded(((0, 0), (sizes[0], sizes[1]))).lying()
    return x.padded(((sizes[2], sizes[3]), (sizes[0], sizes[1])))


def _flattened(given: Given) -> Tensor:
    x = computed(given)
    first, last = x.axis(int(given["start_dim"])), x.axis(int(given["end_dim"]))
    sizes = [BATCH, *(x.shape or ())]
    return x.reshaped([*sizes[:first], prod(sizes[first : last + 1]), *sizes[last + 1 :]])


def _viewed(given: Given) -> Tensor:
    return computed(given).reshaped([int(n) for n in given.get("size") or given["shape"]])


def _unflattened(given: Given) -> Tensor:
    x = computed(given)
    axis, sizes = x.axis(int(given["dim"])), [BATCH, *(x.shape or ())]
    return x.reshaped([*sizes[:axis], *(int(n) for n in given["sizes"]), *sizes[axis + 1 :]])


def _squeezed(given: Given) -> Tensor:
    x, axes = computed(given), given.get("dim")
    if axes is None:
        return x.squeezed(None)
    axes = [axes] if isinstance(axes, int) else axes
    sizes = (x.batch, *(x.shape or ()))  # axes of another length stay, as torch has it
    return x.squeezed([a for a in (x.axis(int(a)) for a in axes) if sizes[a] == 1])


def _transposed(given: Given) -> Tensor:
    x = computed(given)
    axes = list(range(len(x.shape or ()) + 1))
    a, b = (x.axis(int(given[key])) for key in ("dim0", "dim1"))
    axes[a], axes[b] = axes[b], axes[a]
    return x.transposed(axes)


def _permuted(given: Given) -> Tensor:
    x = computed(given)
    return x.transposed([x.axis(int(n)) for n in given["dims"]])


def _shuffled(given: Given) -> Tensor:
    """Channels dealt out from groups in turn."""
    x, groups = computed(given), int(given["groups"])
    channels, *rest = x.shape or (0,)
    split = x.reshaped([BATCH, groups, channels // groups, *rest])
    turned = split.transposed([0, 2, 1, *range(3, 3 + len(rest))])
    return turned.reshaped([BATCH, channels, *rest])


def _pixels(factor: str, *, down: bool) -> Reader:
    """Channels laid out over the map, or squares of the map as channels."""

    def read(given: Given) -> Tensor:
        x, r = computed(given), int(given[factor])
        c, h, w = (x.shape or ())[-3:]
        if down:
            split = x.reshaped([BATCH, c, h // r, r, w // r, r])
            turned = split.transposed([0, 1, 3, 5, 2, 4])
            return turned.reshaped([BATCH, c * r * r, h // r, w // r])
        split = x.reshaped([BATCH, c // r**2, r, r, h, w])
        return split.transposed([0, 1, 4, 2, 5, 3]).reshaped([BATCH, c // r**2, h * r, w * r])

    return read


def _size(given: Given) -> int:
    """A size that a graph asks for."""
    x = computed(given)
    axis = x.axis(int(given["dim"]))
    return x.batch or BATCH if axis == 0 else (x.shape or ())[axis - 1]


AXES: dict[str, Reader] = {
    "dropout": _passed,
    "feature_dropout": _passed,
    "alpha_dropout": _passed,
    "feature_alpha_dropout": _passed,
    "contiguous": _passed,
    "clone": _passed,
    "alias": _passed,
    "detach": _passed,
    "lift_fresh_copy": _passed,
    "to": _cast,
    "type_as": _cast,
    "_to_copy": _cast,
    "expand": _expanded,
    "expand_as": _expanded,
    "_assert_tensor_metadata": _nothing,
    "pad": _padded,
    "constant_pad_nd": _padded,
    "flatten": _flattened,
    "unflatten": _unflattened,
    "view": _viewed,
    "reshape": _viewed,
    "_unsafe_view": _viewed,
    "squeeze": _squeezed,
    "unsqueeze": lambda given: computed(given).unsqueezed([int(given["dim"])]),
    "permute": _permuted,
    "transpose": _transposed,
    "channel_shuffle": _shuffled,
    "pixel_shuffle": _pixels("upscale_factor", down=False),
    "pixel_unshuffle": _pixels("downscale_factor", down=True),
    "sym_size": _size,
}
