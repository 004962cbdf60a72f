"""The trace: the HDF5 file of a campaign's results, versioned and resumable.

`docs/trace-format.md` describes every group, dataset and attribute.
"""

from neurosim.trace.joining import join
from neurosim.trace.layout import Rows, rows_of
from neurosim.trace.lazy_array import LazyArray
from neurosim.trace.reader import Trace
from neurosim.trace.writer import TraceWriter, is_finished

__all__ = ["LazyArray", "Rows", "Trace", "TraceWriter", "is_finished", "join", "rows_of"]
