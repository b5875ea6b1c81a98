"""tensorflow-addons, imported where it is used and nowhere else: TensorFlow 2.16 and later have none, aarch64 has no wheel.

What the pipeline takes of it (a rotation, LAMB) has a form of its own beside it, which takes its place there.
"""

import importlib
import types
import warnings
from typing import Optional


def load() -> Optional[types.ModuleType]:
    """The package; None where it can't be imported."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # it announces the end of its development at every import
        try:
            return importlib.import_module("tensorflow_addons")
        except ImportError:
            return None
