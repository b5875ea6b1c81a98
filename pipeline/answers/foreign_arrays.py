"""The arrays of another program's predictions: a matrix on disk whose rows are read when they are asked for, and names.

NAME.npz holds the matrix [examples, classes] under a name of KINDS, or probabilities as scipy.sparse.save_npz writes a
csr_matrix, and beside it perhaps the arrays `ids` and `class_ids`, text or integers. NAME.npy is the matrix alone:
probabilities, unless NAME ends with _log_probabilities or _logits. Ids that are in no .npz stand in NAME_ids.txt and
NAME_class_ids.txt, one a line. Nothing is ever unpickled.
"""

import contextlib
import os
import struct
import tempfile
import tokenize
from typing import Any, Iterator, Optional, Protocol
import zipfile
import zlib

import numpy as np

from pipeline import files
from pipeline.errors import UserError

PROBABILITIES, LOG_PROBABILITIES, LOGITS = KINDS = ("probabilities", "log_probabilities", "logits")
ENDINGS = (".npz", ".npy")
_SPARSE = ("data", "indices", "indptr", "shape", "format")  # what scipy.sparse.save_npz writes
_LOCAL_HEADER = 30  # bytes of a ZIP's local file header before its name; the lengths of name and extra are its last four
# What NumPy raises for a header that is none (it is read as a Python literal), and an archive for a member that is not there.
_BROKEN = (ValueError, TypeError, SyntaxError, EOFError, KeyError, RecursionError, MemoryError, tokenize.TokenError,
           NotImplementedError, RuntimeError)
_READABLE = "iuf"   # kinds of dtypes: integers and floats
_TRANSPOSED_BYTES = 1 << 26  # of a matrix stored by columns, at a time


class Matrix(Protocol):
    """Rows of numbers on disk.

    Attributes:
      shape: (rows, columns).
    """

    shape: tuple[int, int]

    def open(self) -> contextlib.AbstractContextManager:
        """A function from (first row, count) to an array [count, columns], for a `with`."""


class DenseMatrix:
    """A C-ordered array that stands in a file from `offset` on; `keep`: what must live as long as the file is needed."""

    def __init__(self, path: str, offset: int, shape: tuple[int, int], dtype: np.dtype, keep: Any = None):
        self.shape = shape
        self._path, self._offset, self._dtype, self._keep = path, offset, dtype, keep

    @contextlib.contextmanager
    def open(self) -> Iterator:
        row_bytes = self.shape[1] * self._dtype.itemsize
        with files.open_file(self._path, "rb") as file:
            def read(first: int, count: int) -> np.ndarray:
                file.seek(self._offset + first * row_bytes)
                return np.frombuffer(file.read(count * row_bytes), self._dtype).reshape(count, self.shape[1])

            yield read


def _by_rows(path: str, offset: int, shape: tuple[int, int], dtype: np.dtype, keep: Any = None) -> DenseMatrix:
    """What stands in a file column by column (NumPy saves so what was indexed by columns), in a temporary file by rows."""
    kept = tempfile.NamedTemporaryFile()  # its closing removes it
    rows = max(_TRANSPOSED_BYTES // (shape[1] * dtype.itemsize), 1)
    with files.open_file(path, "rb") as file:
        for first in range(0, shape[0], rows):
            count = min(rows, shape[0] - first)
            block = np.empty((count, shape[1]), dtype)
            for column in range(shape[1]):
                file.seek(offset + (column * shape[0] + first) * dtype.itemsize)
                block[:, column] = np.frombuffer(file.read(count * dtype.itemsize), dtype)
            kept.write(block.tobytes())
    kept.flush()
    del keep  # until here
    return DenseMatrix(kept.name, 0, shape, dtype, kept)


class SparseMatrix:
    """A matrix in compressed rows, of which memory holds the values that are not 0."""

    def __init__(self, shape: tuple[int, int], data: np.ndarray, indices: np.ndarray, indptr: np.ndarray):
        self.shape = shape
        self._data, self._indices, self._indptr = data, indices, indptr

    @contextlib.contextmanager
    def open(self) -> Iterator:
        def read(first: int, count: int) -> np.ndarray:
            found = np.zeros((count, self.shape[1]), self._data.dtype)
            bounds = self._indptr[first:first + count + 1]
            rows = np.repeat(np.arange(count), np.diff(bounds))
            found[rows, self._indices[bounds[0]:bounds[-1]]] = self._data[bounds[0]:bounds[-1]]
            return found

        yield read


class Arrays:
    """What is in a file of another program's predictions.

    Attributes:
      path: of the file.
      kind: of KINDS.
      matrix: its numbers.
      ids: of the rows, text.
      class_ids: of the columns, text; None: not told.

    Raises UserError for what it can't read, naming the file.
    """

    def __init__(self, path: str):
        self.path = path
        try:
            self.kind, self.matrix, named = _read_npz(path) if path.endswith(".npz") else _read_npy(path)
        except (*_BROKEN, zipfile.BadZipFile, zlib.error, struct.error) as error:
            raise UserError(f"--predictions: {path} can't be read: {error}") from None
        for name in ("ids", "class_ids"):
            if name not in named:
                named[name] = _read_lines(f"{os.path.splitext(path)[0]}_{name}.txt")
        if named["ids"] is None:
            raise UserError(f"--predictions: {path} does not tell whose its rows are; put an array `ids` into the .npz, or "
                            f"write a line each into {os.path.splitext(path)[0]}_ids.txt")
        self.ids: list[str] = named["ids"]
        self.class_ids: Optional[list[str]] = named["class_ids"]
        for name, count, what in (("ids", self.matrix.shape[0], "rows"), ("class_ids", self.matrix.shape[1], "columns")):
            _check_names(path, name, named[name], count, what)


def _check_names(path: str, name: str, names: Optional[list[str]], count: int, what: str) -> None:
    if names is None:
        return
    if len(names) != count:
        raise UserError(f"--predictions: {path} has {count} {what} and {len(names)} {name}")
    if len(set(names)) < count:
        seen: set[str] = set()
        twice = next(one for one in names if one in seen or seen.add(one))
        raise UserError(f"--predictions: {path} has the same of {name} twice: {twice}")


def _read_npy(path: str) -> tuple[str, Matrix, dict[str, Any]]:
    with files.open_file(path, "rb") as file:
        shape, dtype, by_columns = _read_header(file)
        offset = file.tell()
    if files.size(path) != offset + shape[0] * shape[1] * dtype.itemsize:
        raise ValueError("its size is not that of the array which it announces")
    stem = os.path.splitext(path)[0]
    kind = next((one for one in (LOG_PROBABILITIES, LOGITS) if stem.endswith(f"_{one}")), PROBABILITIES)
    return kind, (_by_rows if by_columns else DenseMatrix)(path, offset, shape, dtype), {}


def _read_header(file) -> tuple[tuple[int, int], np.dtype, bool]:
    """(shape, dtype, stored by columns) of the matrix that begins where the file then stands; raises ValueError for any
    other array."""
    version = np.lib.format.read_magic(file)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"version {version} of the .npy format")
    shape, by_columns, dtype = readers[version](file)
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which are never unpickled; save numbers")
    if len(shape) != 2 or dtype.kind not in _READABLE:
        raise ValueError(f"an array {shape} of {dtype} is no matrix [examples, classes] of numbers")
    return shape, dtype, by_columns


def _read_npz(path: str) -> tuple[str, Matrix, dict[str, Any]]:
    with files.open_file(path, "rb") as file, zipfile.ZipFile(file) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist()]
        named = {name: _texts(name, _read_array(archive, name)) for name in ("ids", "class_ids") if name in names}
        found = [kind for kind in KINDS if kind in names]
        if len(found) == 1:
            return found[0], _dense_member(path, file, archive, f"{found[0]}.npy"), named
        if not found and set(_SPARSE) <= set(names):
            return PROBABILITIES, _sparse(archive), named
    raise ValueError(f"it holds {', '.join(names) or 'nothing'}; one of {', '.join(KINDS)} is wanted (and `ids`), or what "
                     "scipy.sparse.save_npz writes of a csr_matrix")


def _dense_member(path: str, file, archive: zipfile.ZipFile, name: str) -> DenseMatrix:
    """The matrix of that name: read where it lies in the archive, or, where that is compressed, in a temporary file."""
    info = archive.getinfo(name)
    with archive.open(name) as member:
        shape, dtype, by_columns = _read_header(member)
        make = _by_rows if by_columns else DenseMatrix
        header = member.tell()
        if info.file_size != header + shape[0] * shape[1] * dtype.itemsize:
            raise ValueError("its size is not that of the array which it announces")
        if info.compress_type != zipfile.ZIP_STORED:
            kept = tempfile.NamedTemporaryFile()  # its closing removes it
            for part in iter(lambda: member.read(1 << 24), b""):
                kept.write(part)
            kept.flush()
            return make(kept.name, 0, shape, dtype, kept)
    file.seek(info.header_offset + _LOCAL_HEADER - 4)
    offset = info.header_offset + _LOCAL_HEADER + sum(struct.unpack("<HH", file.read(4)))
    return make(path, offset + header, shape, dtype)


def _sparse(archive: zipfile.ZipFile) -> SparseMatrix:
    data, indices, indptr, shape, kind = (_read_array(archive, name) for name in _SPARSE)
    if kind.item() not in (b"csr", "csr"):
        raise ValueError("a sparse matrix is wanted in compressed rows: save its tocsr()")
    rows, columns = (int(one) for one in shape)
    whole = (len(indptr) == rows + 1 and indptr[0] == 0 and (np.diff(indptr) >= 0).all()
             and indptr[-1] == len(indices) == len(data))
    if not whole or (len(indices) and not 0 <= indices.min() <= indices.max() < columns):
        raise ValueError("its sparse matrix is damaged")
    return SparseMatrix((rows, columns), data, indices, indptr)


def _read_array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    with archive.open(f"{name}.npy") as member:
        try:
            return np.lib.format.read_array(member, allow_pickle=False)
        except ValueError as error:
            raise ValueError(f"{name}: {error}; save text or numbers") from None


def _texts(name: str, values: np.ndarray) -> list[str]:
    """Names as text: of text, bytes or integers [n]."""
    if values.ndim != 1 or values.dtype.kind not in "USiu":
        raise ValueError(f"{name} is an array {values.shape} of {values.dtype}; text or integers in one row are wanted")
    return [one.decode("utf-8") if isinstance(one, bytes) else str(one) for one in values.tolist()]


def _read_lines(path: str) -> Optional[list[str]]:
    if not files.exists(path):
        return None
    with files.open_file(path, "rb") as file:
        try:
            lines = file.read().decode("utf-8").split("\n")  # not splitlines: a name may hold U+2028
        except UnicodeDecodeError:
            raise UserError(f"{path} is no UTF-8 text") from None
    return [line.removesuffix("\r") for line in (lines[:-1] if lines[-1] == "" else lines)]
