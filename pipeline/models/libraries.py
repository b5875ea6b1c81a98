"""The packages that networks come from, imported when one of theirs is asked for."""

import importlib
from types import ModuleType

from pipeline.errors import UserError


def load(module: str) -> ModuleType:
    """The module; raises UserError where it can't be imported."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(f"can't import {module} ({error}): install requirements.txt") from error
