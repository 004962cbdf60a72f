"""Spiking networks as NIR graphs, the exchange format of spiking simulators and chips.

Pedersen et al., "Neuromorphic intermediate representation: a unified instruction set for
interoperable brain-inspired computing", Nature Communications 15:8122, 2024. The package nir is
loaded when it is first needed.
"""

from neurosim.nir_graph.reader import load_nir
from neurosim.nir_graph.writer import save_nir

__all__ = ["load_nir", "save_nir"]
