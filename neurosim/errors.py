"""The errors a caller may want to catch."""

__all__ = [
    "CampaignMismatchError",
    "DeploymentError",
    "ExecutorError",
    "FormatError",
    "InputError",
    "NeurosimError",
    "TraceError",
]


class NeurosimError(Exception):
    """Every error that neurosim raises on purpose; its message is one line for the user."""


class InputError(NeurosimError, ValueError):
    """A value is not what it must be; the message says what was expected and what came."""


class FormatError(NeurosimError):
    """A file is truncated, foreign, or holds something that neurosim cannot represent."""


class DeploymentError(NeurosimError):
    """The network does not fit on the chip; the message says what is short and by how much."""


class ExecutorError(NeurosimError):
    """Workers cannot be reached, are lost, or compute with other versions."""


class TraceError(NeurosimError):
    """A trace cannot be written, read, continued or joined."""


class CampaignMismatchError(TraceError):
    """The trace at this path belongs to another campaign; the message says what differs."""
