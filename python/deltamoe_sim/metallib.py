"""Reads Apple's .metallib container: a list of functions and the LLVM bitcode of each."""

from __future__ import annotations

import mmap
import struct
from os import PathLike
from pathlib import Path

from deltamoe_sim.errors import SimError

_MAGIC = b"MTLB"
_HEADER = struct.Struct("<4s12xQ8Q")
"""Magic, versions, size of the file, then offset and size of four sections."""


class Metallib:
    """A .metallib file. Only what is asked for is read."""

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path = Path(path)
        try:
            with self.path.open("rb") as file:
                self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError as error:  # an empty file cannot be mapped
            raise SimError(f"{self.path}: not a metallib: the file is empty") from error
        self._functions = self._read_functions()

    @property
    def names(self) -> tuple[str, ...]:
        """Of all functions, in the order of the file."""
        return tuple(self._functions)

    def bitcode(self, name: str) -> bytes:
        """LLVM bitcode (AIR) of a module that holds the function."""
        if name not in self._functions:
            raise SimError(f"{self.path}: has no function {name!r}; it holds {len(self._functions)} others")
        start, size = self._functions[name]
        return self._data[start : start + size]

    def _read_functions(self) -> dict[str, tuple[int, int]]:
        data = self._data
        if data[:4] != _MAGIC:
            raise SimError(f"{self.path}: not a metallib: it starts with {data[:4]!r}, expected {_MAGIC!r}")
        if len(data) < _HEADER.size:
            raise SimError(f"{self.path}: truncated: {len(data)} bytes, the header alone has {_HEADER.size}")
        _, size, functions, _, _, _, _, _, bitcode, _ = _HEADER.unpack_from(data)
        if len(data) < size:
            raise SimError(f"{self.path}: truncated: {len(data)} of {size} bytes")
        try:
            (count,) = struct.unpack_from("<I", data, functions)
            found = {}
            position = functions + 4
            for _ in range(count):
                (length,) = struct.unpack_from("<I", data, position)
                tags = self._read_tags(position + 4, position + length)
                offset = bitcode + struct.unpack("<3Q", tags[b"OFFT"])[2]
                (length_of_bitcode,) = struct.unpack("<Q", tags[b"MDSZ"])
                if offset + length_of_bitcode > len(data):
                    raise SimError(f"{self.path}: damaged: a function's bitcode ends behind the file")
                found[tags[b"NAME"].rstrip(b"\0").decode()] = offset, length_of_bitcode
                position += length
        except (struct.error, KeyError, UnicodeDecodeError) as error:
            raise SimError(f"{self.path}: damaged function list: {error!r}") from error
        return found

    def _read_tags(self, position: int, end: int) -> dict[bytes, bytes]:
        tags = {}
        while position < end and (tag := self._data[position : position + 4]) != b"ENDT":
            (length,) = struct.unpack_from("<H", self._data, position + 4)
            tags[tag] = self._data[position + 6 : position + 6 + length]
            position += 6 + length
        return tags
