"""Registers of the full width for the loops of a kernel."""

from numba import config, types
from numba.extending import intrinsic

__all__ = ["use_wide_vectors"]


def _nothing():
    """Plain Python has no registers to choose."""


def _attribute(typing_context):
    def generate(context, builder, signature, arguments):
        # LLVM takes half registers for AVX-512, as former processors slowed down with whole ones.
        # llvmlite knows no attributes with a value: past its check of names.
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        return context.get_dummy_value()

    return types.void(), generate


# Called first thing in a kernel: its loops become vectors of 512 bits where the processor has them.
use_wide_vectors = _nothing if config.DISABLE_JIT else intrinsic(_attribute)
