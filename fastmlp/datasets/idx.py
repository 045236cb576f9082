"""Reading and writing IDX files, the format of the MNIST data set.

An IDX file holds one array: two zero bytes, one byte for the element type, one byte for the number
of dimensions, the size of each dimension (unsigned 32-bit, big-endian), then the elements in C order,
big-endian.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from fastmlp.validation import check_path

_TYPES = {0x08: "uint8", 0x09: "int8", 0x0B: "int16", 0x0C: "int32", 0x0D: "float32", 0x0E: "float64"}
_GZIP_MAGIC = b"\x1f\x8b"
_CHUNK = 1 << 20


def read_idx(path: str | os.PathLike[str]) -> npt.NDArray[Any]:
    """Read the array of an IDX file.

    Parameters
    ----------
    path : str or os.PathLike
        The file, gzip-compressed or not; its first two bytes decide, not its name.

    Returns
    -------
    numpy.ndarray
        The array: uint8, int8, int16, int32, float32 or float64, in native byte order, C-contiguous
        and writable, of the shape given in the file.

    Raises
    ------
    TypeError
        If `path` is neither a str nor an os.PathLike.
    ValueError
        If the file is not an IDX file, has an unknown element type or no dimensions, is truncated,
        goes on after the data, is a damaged gzip stream, or has a shape that NumPy cannot hold.
    OSError
        If the file cannot be read (FileNotFoundError, PermissionError, ...).

    Notes
    -----
    The format is described at http://yann.lecun.com/exdb/mnist/.
    """
    path = Path(check_path("path", path))
    with open(path, "rb") as raw:
        compressed = raw.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
        raw.seek(0)
        if not compressed:
            return _read_array(raw, path)

        import gzip
        import zlib

        try:
            with gzip.GzipFile(fileobj=raw) as file:
                return _read_array(file, path)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise ValueError(f"{path}: damaged gzip stream: {error}") from error


def write_idx(path: str | os.PathLike[str], array: npt.NDArray[Any]) -> None:
    """Write an array as an IDX file.

    The file appears whole or not at all: it is written under a temporary name in the same folder and
    then renamed, replacing a file that was there before. The same array always gives the same bytes.

    Parameters
    ----------
    path : str or os.PathLike
        The file to write; gzip-compressed if the name ends in ``.gz``.
    array : numpy.ndarray
        The array, of one or more dimensions and of dtype uint8, int8, int16, int32, float32 or float64,
        in any byte order and memory layout.

    Raises
    ------
    TypeError
        If `path` is neither a str nor an os.PathLike, `array` is no ndarray, or its dtype is not one of
        those above.
    ValueError
        If `array` has no dimensions or more than 255, or a dimension of 2**32 or more.
    OSError
        If the file cannot be written (FileNotFoundError if its folder does not exist, ...).
    """
    path = Path(check_path("path", path))
    if not isinstance(array, np.ndarray):
        raise TypeError(f"array must be a numpy.ndarray, got {type(array).__name__}")
    # "equiv" allows another byte order only.
    codes = [code for code, name in _TYPES.items() if np.can_cast(array.dtype, name, casting="equiv")]
    if not codes:
        raise TypeError(f"array must have one of the dtypes {', '.join(_TYPES.values())}, got {array.dtype}")
    if not 1 <= array.ndim <= 255:
        raise ValueError(f"array must have 1 to 255 dimensions, got {array.ndim}")
    if max(array.shape) >= 2**32:
        raise ValueError(f"array must have dimensions smaller than 2**32, got the shape {array.shape}")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"path must be in an existing folder, got {path}")

    header = bytes([0, 0, codes[0], array.ndim])
    header += b"".join(size.to_bytes(4, "big") for size in array.shape)
    content = array.astype(array.dtype.newbyteorder(">"), copy=False).tobytes()
    with open_atomically(path) as file:
        if path.suffix == ".gz":
            import gzip

            with gzip.GzipFile("", "wb", fileobj=file, mtime=0) as stream:
                stream.write(header)
                stream.write(content)
        else:
            file.write(header)
            file.write(content)


@contextmanager
def open_atomically(path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing that replaces `path` only when the block ends without an exception.

    The bytes go to a temporary file in the same folder, which reaches the disk before it is renamed to
    `path`; after an exception it is removed.
    """
    temporary = path.parent / f".{os.urandom(8).hex()}.tmp"
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _read_array(file: io.BufferedIOBase, path: Path) -> npt.NDArray[Any]:
    magic = file.read(4)
    if not b"\0\0".startswith(magic[:2]):
        raise ValueError(f"{path}: not an IDX file: it begins with {magic[:2].hex(' ')}, expected 00 00")
    if len(magic) < 4:
        raise ValueError(f"{path}: truncated header: expected 4 bytes, found {len(magic)}")
    code, dimensions = magic[2:]
    if code not in _TYPES:
        allowed = ", ".join(f"0x{code:02X} ({name})" for code, name in _TYPES.items())
        raise ValueError(f"{path}: unknown element type 0x{code:02X}, allowed are {allowed}")
    if dimensions == 0:
        raise ValueError(f"{path}: 0 dimensions, allowed are 1 to 255")

    sizes = file.read(4 * dimensions)
    if len(sizes) < 4 * dimensions:
        raise ValueError(
            f"{path}: truncated header: expected {4 + 4 * dimensions} bytes, found {4 + len(sizes)}"
        )
    shape = tuple(int.from_bytes(sizes[i : i + 4], "big") for i in range(0, len(sizes), 4))
    dtype = np.dtype(_TYPES[code])

    # The sizes may be nonsense, so memory grows only with the bytes that are there. One byte more than
    # needed is asked for: it shows trailing bytes, and makes gzip check its checksum at the end.
    expected = math.prod(shape) * dtype.itemsize
    data = bytearray()
    while chunk := file.read(min(_CHUNK, expected + 1 - len(data))):
        data += chunk
    if len(data) < expected:
        raise ValueError(f"{path}: truncated data: expected {expected} bytes, found {len(data)}")
    if len(data) > expected:
        raise ValueError(f"{path}: trailing bytes: expected {expected} bytes of data, found more")
    try:
        array = np.frombuffer(data, dtype.newbyteorder(">")).reshape(shape)
    except ValueError as error:
        raise ValueError(f"{path}: NumPy cannot hold an array of the shape {shape}: {error}") from error
    return array.astype(dtype, copy=False)
