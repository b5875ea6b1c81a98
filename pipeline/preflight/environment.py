"""The environment of the TPU compiler, made on first use beside the project's own."""

import os
import shutil
import subprocess
import sys

from absl import logging

from pipeline.errors import UserError

_HERE = os.path.dirname(os.path.abspath(__file__))
_ROOT = os.path.dirname(os.path.dirname(_HERE))
REQUIREMENTS = os.path.join(_HERE, "compiler_requirements.txt")
DIRECTORY = os.path.join(_ROOT, ".venv-tpu-compiler")
_INSTALLED = os.path.join(DIRECTORY, "installed.txt")  # the requirements, written last: what was cut off is made again


def python() -> str:
    """The interpreter that has the compiler; installs it where it is missing or other than its requirements.

    Raises UserError where this Python is too old for the compiler, or nothing can be installed.
    """
    interpreter = os.path.join(DIRECTORY, "bin", "python")
    if _read(_INSTALLED) == _read(REQUIREMENTS):
        return interpreter
    source = _fitting_python()
    logging.info("installing the TPU compiler into %s (600 MB, once) …", DIRECTORY)
    shutil.rmtree(DIRECTORY, ignore_errors=True)
    try:
        subprocess.run([source, "-m", "venv", DIRECTORY], check=True)
        subprocess.run([interpreter, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement",
                        REQUIREMENTS], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise UserError(f"can't install the TPU compiler of {REQUIREMENTS} into {DIRECTORY}: {error}") from None
    shutil.copyfile(REQUIREMENTS, _INSTALLED)
    return interpreter


def _read(path: str) -> str:
    if not os.path.exists(path):
        return ""
    with open(path, encoding="utf-8") as file:
        return file.read()


def _fitting_python() -> str:
    """A Python of 3.11 or later, which the compiler's packages want; this one, where it is."""
    if sys.version_info >= (3, 11):
        return sys.executable
    for name in ("python3.13", "python3.12", "python3.11"):
        if shutil.which(name):
            return name
    raise UserError("the TPU compiler wants Python 3.11 or later, and none is here beside this "
                    f"{sys.version_info.major}.{sys.version_info.minor}")
