"""Whether what a JSON file holds is what a dataclass says: anybody may have edited it, or sent it."""

import dataclasses
import functools
import types
import typing
from typing import Any


def check(instance: Any) -> None:
    """Raises TypeError naming the first field of a dataclass whose value is of another type than the field."""
    for name, hint in _hints(type(instance)).items():
        if not is_of(getattr(instance, name), hint):
            raise TypeError(f"{name} is {_shown(getattr(instance, name))}")


@functools.lru_cache(maxsize=None)
def _hints(kind: type) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def is_of(value: Any, hint: Any) -> bool:
    """Whether a value is of a type, given as int, Optional[str], tuple[str, ...], dict[str, Any] or a dataclass."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return True
    if origin in (typing.Union, types.UnionType):
        return any(is_of(value, part) for part in parts)
    if origin in (tuple, list):
        if not isinstance(value, origin):
            return False
        if origin is tuple and parts[1:] != (Ellipsis,):
            return len(value) == len(parts) and all(map(is_of, value, parts))
        return all(is_of(one, parts[0]) for one in value)
    if origin is dict:
        return isinstance(value, dict) and all(is_of(key, parts[0]) and is_of(one, parts[1])
                                               for key, one in value.items())
    if hint in (int, float):  # to Python a bool is an int
        return isinstance(value, (int, hint)) and not isinstance(value, bool)
    return isinstance(value, hint)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:60] + "…"

