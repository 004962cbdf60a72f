"""The errors a caller may want to catch."""

import re
from os import PathLike
from pathlib import Path

__all__ = [
    "CampaignMismatchError",
    "DeploymentError",
    "ExecutorError",
    "FormatError",
    "InputError",
    "NeurosimError",
    "TraceError",
    "named_entry",
    "path_of",
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


def path_of(given: object, name: str = "path") -> Path:
    """What a caller gives as the path of a file.

    Raises
    ------
    InputError
        If it is neither text nor a path.

    Examples
    --------
    >>> path_of("folder/mine.toml").name
    'mine.toml'
    """
    if isinstance(given, str) or (
        isinstance(given, PathLike) and isinstance(given.__fspath__(), str)
    ):
        return Path(given)
    raise InputError(
        f"{name}: expected the path of a file, as text or a pathlib.Path, got {given!r:.60} "
        f"({type(given).__name__})"
    )


# What msgspec calls a type, and what a user does.
_WORDS = {
    "object": "a table",
    "array": "a list",
    "null": "nothing",
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
}


def named_entry(message: str) -> str:
    """What msgspec finds wrong in a file, with the entry first and counted from 1.

    Examples
    --------
    >>> named_entry("Expected `object | null`, got `float` - at `$.faults[0].value`")
    'faults.1.value: expected a table or nothing, got a number'
    >>> named_entry("Expected `int`, got `float` - at `$.trials`")
    'trials: expected a whole number, got a number with a point or an e'
    >>> named_entry("Object missing required field `unit` - at `$.faults[0].value`")
    'faults.1.value: expected unit, got a table without it'
    """
    found = re.fullmatch(r"(.*?)(?: - at `\$\.?(.*)`)?", message)
    text, place = found.groups() if found else (message, None)
    text = re.sub(
        r"Object missing required field `(.*)`", r"expected \1, got a table without it", text
    )
    text = re.sub(r"Object contains unknown field `(.*)`", r"expected known keys, got \1", text)
    text = re.sub(r"Invalid (enum )?value", "expected a word that is known here, got", text)
    for old, new in _WORDS.items():
        text = re.sub(rf"\b{old}\b", new, text)
    text = text.replace(" | ", " or ").replace("`", "")
    # TOML tells 10000 and 1e4 apart.
    text = re.sub(r"xpected a whole number, got a number$", r"\g<0> with a point or an e", text)
    text = text[:1].lower() + text[1:]
    if place:
        where = re.sub(r"\[(\d+)\]", lambda at: f".{int(at[1]) + 1}", place)
        text = f"{where}: {text}"
    return text
