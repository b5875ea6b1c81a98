"""TensorFlow imported without what its C++ libraries say meanwhile.

From 2.18 or so on they write to the terminal before TF_CPP_MIN_LOG_LEVEL is heeded: of oneDNN, of drivers that a machine
without a GPU has not. With TF_CPP_MIN_LOG_LEVEL=0 all of it is told. Imports no TensorFlow by itself.
"""

import contextlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
import tempfile
from typing import Any, Iterator, Optional, Sequence

MODULE = "tensorflow"
TELL_ALL = "0"  # of TF_CPP_MIN_LOG_LEVEL


def install() -> None:
    """From now on, in this process; a second call, or one after TensorFlow's import, changes nothing."""
    if MODULE not in sys.modules and not any(isinstance(one, _Finder) for one in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(importlib.abc.MetaPathFinder):
    """Finds TensorFlow as the others do, and has it loaded quietly."""

    def find_spec(self, name: str, path: Optional[Sequence[str]] = None,
                  target: Any = None) -> Optional[importlib.machinery.ModuleSpec]:
        if name != MODULE:
            return None
        sys.meta_path.remove(self)  # once; and so that the others are asked now
        found = importlib.util.find_spec(name)
        if found and found.loader:
            found.loader = _Loader(found.loader)
        return found


class _Loader(importlib.abc.Loader):

    def __init__(self, loader: Any):
        self._loader = loader

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> Any:
        return self._loader.create_module(spec)

    def exec_module(self, module: Any) -> None:
        if os.environ.get("TF_CPP_MIN_LOG_LEVEL") == TELL_ALL:
            self._loader.exec_module(module)
            return
        with _without_stderr():
            self._loader.exec_module(module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)  # what else loaders can do: a module's files, its source


@contextlib.contextmanager
def _without_stderr() -> Iterator[None]:
    """What is written to file descriptor 2 is kept back, and told after all where the block fails."""
    sys.stderr.flush()
    own = os.dup(2)
    with tempfile.TemporaryFile() as kept:
        os.dup2(kept.fileno(), 2)
        try:
            yield
        except BaseException:
            sys.stderr.flush()
            kept.seek(0)
            os.write(own, kept.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(own, 2)
            os.close(own)
