"""The frames of a TFRecord file, without TensorFlow: which records are whole, and where each one lies.

A record stands as its length (8 bytes), a checksum of these, the record, a checksum of that (CRC-32C, masked). TensorFlow's
reader stops at the first damage and tells its place without the file's name; whoever wants to know what is behind it, or to
read around it, asks here.
"""

import functools
import io
import struct
from typing import BinaryIO, Iterator, NamedTuple
import zlib

import numpy as np

HEADER_BYTES, FOOTER_BYTES = 12, 4
FRAME_BYTES = HEADER_BYTES + FOOTER_BYTES
WHOLE, FLIPPED, CUT, LOST = "whole", "its checksum is wrong", "the file ends within it", "its length is damaged"
_POLYNOMIAL = 0x82F63B78  # of CRC-32C, its bits in reverse
_MASK_DELTA = 0xA282EAD8
_LANE_BYTES = 128         # of a record that go through the table one after another, all such lanes side by side
_ANY_HEADER = 47          # zlib's bits of a window: the largest, the header of zlib or gzip
_LONGEST = 1 << 31        # bytes; a record's length beyond is damage whose checksum holds by chance


class Frame(NamedTuple):
    """One record of a file, or what is left of it."""

    position: int   # number in the file
    offset: int     # bytes before it in the file, unpacked where it is compressed
    end: int        # of its last byte and one, likewise
    state: str      # WHOLE, FLIPPED, CUT (the file's last), LOST (likewise: where the next one begins is not known)
    record: bytes   # empty unless WHOLE


def frames(file: BinaryIO) -> Iterator[Frame]:
    """Every frame of an open file that is not compressed. A damaged record that tells its length is passed over; after any
    other damage nothing can be found."""
    offset = 0
    for position in _count():
        header = file.read(HEADER_BYTES)
        if not header:
            return
        if len(header) < HEADER_BYTES:
            yield Frame(position, offset, offset + len(header), CUT, b"")
            return
        length, checksum = struct.unpack("<QI", header)
        if masked_crc(header[:8]) != checksum or length > _LONGEST:
            yield Frame(position, offset, offset + HEADER_BYTES, LOST, b"")
            return
        body = file.read(length + FOOTER_BYTES)
        end = offset + HEADER_BYTES + len(body)
        if len(body) < length + FOOTER_BYTES:
            yield Frame(position, offset, end, CUT, b"")
            return
        record = body[:length]
        whole = masked_crc(record) == struct.unpack("<I", body[length:])[0]
        yield Frame(position, offset, end, WHOLE if whole else FLIPPED, record if whole else b"")
        offset = end


def _count() -> Iterator[int]:
    number = 0
    while True:
        yield number
        number += 1


def unpacked(file: BinaryIO, compression: str) -> BinaryIO:
    """What is in a file that is compressed as schema.Shard has it; reading damage ends it as if the file were cut."""
    if not compression:
        return file
    return io.BufferedReader(_Unpacked(file), 1 << 20)


class _Unpacked(io.RawIOBase):
    """What streams of zlib or gzip, one after another, hold up to the first damage."""

    def __init__(self, file: BinaryIO):
        self._file = file
        self._stream = zlib.decompressobj(_ANY_HEADER)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        try:
            found = self._next(len(buffer))
        except zlib.error:
            return 0
        buffer[:len(found)] = found
        return len(found)

    def _next(self, most: int) -> bytes:
        """Some bytes; none at the end, which may be no proper one."""
        found = b""
        while not found:
            if self._stream.eof:
                rest, self._stream = self._stream.unused_data, zlib.decompressobj(_ANY_HEADER)
            else:
                rest = self._stream.unconsumed_tail
            rest = rest or self._file.read(1 << 20)
            if not rest:
                return b""
            found = self._stream.decompress(rest, most)
        return found


def masked_crc(data: bytes) -> int:
    """The checksum that stands behind `data` in a file of records."""
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli). A register is linear over GF(2), so a long record is cut into lanes that go through the table
    side by side, and are joined in pairs; zeros put before the first byte change nothing of it."""
    if len(data) < 4 * _LANE_BYTES:
        return _short(data)
    begun = bytes(byte ^ 0xFF for byte in data[:4]) + data[4:]  # as the register's first value
    lanes = 1 << (-(-len(begun) // _LANE_BYTES) - 1).bit_length()
    padded = np.zeros(lanes * _LANE_BYTES, np.uint8)
    padded[len(padded) - len(begun):] = np.frombuffer(begun, np.uint8)
    columns = np.ascontiguousarray(padded.reshape(lanes, _LANE_BYTES).T)
    table, registers = _table(), np.zeros(lanes, np.uint32)
    for column in columns:
        registers = table[(registers ^ column) & 0xFF] ^ registers >> 8
    shift = _LANE_BYTES
    while len(registers) > 1:
        registers = _behind_zeros(registers[0::2], shift) ^ registers[1::2]
        shift *= 2
    return int(registers[0]) ^ 0xFFFFFFFF


def _short(data: bytes) -> int:
    crc, table = 0xFFFFFFFF, _plain_table()
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


@functools.lru_cache(maxsize=None)
def _table() -> np.ndarray:
    """uint32 [256]: what a byte makes of a register of zeros."""
    values = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        values = np.where(values & 1, values >> 1 ^ np.uint32(_POLYNOMIAL), values >> 1)
    return values


@functools.lru_cache(maxsize=None)
def _plain_table() -> list[int]:
    return _table().tolist()


def _behind_zeros(registers: np.ndarray, count: int) -> np.ndarray:
    """The registers, uint32 [n], after so many more bytes of zeros (a power of two times _LANE_BYTES)."""
    low, second, third, high = _shift_tables(count)
    return (low[registers & 0xFF] ^ second[registers >> 8 & 0xFF] ^ third[registers >> 16 & 0xFF] ^ high[registers >> 24])


@functools.lru_cache(maxsize=None)
def _shift_tables(count: int) -> tuple[np.ndarray, ...]:
    """For each byte of a register, uint32 [256]: what is left of it behind `count` zeros."""
    tables = tuple(np.arange(256, dtype=np.uint32) << np.uint32(8 * place) for place in range(4))
    if count > _LANE_BYTES:
        return tuple(_behind_zeros(_behind_zeros(one, count // 2), count // 2) for one in tables)
    for _ in range(count):
        tables = tuple(_table()[one & 0xFF] ^ one >> 8 for one in tables)
    return tables
