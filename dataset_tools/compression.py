"""How a shard file is compressed."""

import gzip
import zlib
from typing import Optional

import tensorflow as tf

from dataset_tools import files
from pipeline.files import open_file

NONE, GZIP, ZLIB = "", "GZIP", "ZLIB"  # as TensorFlow names them
_CHUNK = 8 << 20  # bytes
_FOREIGN = {b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"PK\x03\x04": "zip",
            b"\x04\x22\x4d\x18": "lz4", b"7z\xbc\xaf": "7-Zip"}


def of(path: str) -> str:
    """NONE, GZIP or ZLIB."""
    head = _head(path)
    if head[:2] == b"\x1f\x8b":
        told = GZIP
    elif len(head) > 1 and head[0] & 15 == 8 and (head[0] << 8 | head[1]) % 31 == 0:
        told = ZLIB
    else:
        return NONE
    # Such bytes are the length of a first record of that many bytes, too; but then that one can be read.
    return NONE if _can_be_read(path) else told


def foreign(path: str) -> Optional[str]:
    """The name of a program that TensorFlow does not know and that compressed this; None where none did."""
    head = _head(path)
    return next((name for magic, name in _FOREIGN.items() if head.startswith(magic)), None)


def _head(path: str) -> bytes:
    try:
        with files.os_errors(path), open_file(path) as file:
            return file.read(8)
    except OSError:  # whoever reads it all will tell
        return b""


def _can_be_read(path: str) -> bool:
    try:
        next(iter(tf.data.TFRecordDataset(path)), None)
    except tf.errors.OpError:
        return False
    return True


def size_of(path: str, compression: str) -> int:
    """Bytes of what is compressed in a file; −1 where it is cut off or corrupt. Raises OSError where it can't be read."""
    total = 0
    try:
        with files.os_errors(path), open_file(path) as file:
            if compression == GZIP:
                with gzip.GzipFile(fileobj=file) as unpacked:
                    while chunk := unpacked.read(_CHUNK):
                        total += len(chunk)
                return total
            unpacker = zlib.decompressobj()
            while chunk := file.read(_CHUNK):
                total += len(unpacker.decompress(chunk))
            return total if unpacker.eof else -1
    except (EOFError, gzip.BadGzipFile, zlib.error):
        return -1
