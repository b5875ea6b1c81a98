"""tensorflow-addons, imported where it is used and nowhere else: TensorFlow 2.16 and later have none."""

import importlib
import types
import warnings

from pipeline.errors import UserError


def load(wanted_for: str) -> types.ModuleType:
    """The package; raises UserError naming what it is wanted for where it can't be imported."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # it announces the end of its development at every import
        try:
            return importlib.import_module("tensorflow_addons")
        except ImportError as error:
            raise UserError(f"{wanted_for} needs tensorflow-addons ({error}): install requirements.txt") from None
