"""Reading and writing IDX files."""

from __future__ import annotations

import gzip
import os
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import hypothesis.extra.numpy as hnp
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastmlp.datasets import idx, read_idx, write_idx

DTYPES = {"uint8": 0x08, "int8": 0x09, "int16": 0x0B, "int32": 0x0C, "float32": 0x0D, "float64": 0x0E}
# A 2 x 3 array of int16, byte by byte as the format prescribes.
INT16_FILE = bytes.fromhex("00000b02 00000002 00000003 0001 0002 0003 fffe 7fff 8000")
INT16_ARRAY = np.array([[1, 2, 3], [-2, 32767, -32768]], dtype=np.int16)

same_folder = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60
)


def header(code: int, *sizes: int) -> bytes:
    return bytes([0, 0, code, len(sizes)]) + b"".join(size.to_bytes(4, "big") for size in sizes)


def assert_same(actual: npt.NDArray[Any], expected: npt.NDArray[Any]) -> None:
    assert actual.shape == expected.shape
    assert actual.tobytes() == expected.astype(expected.dtype.newbyteorder("=")).tobytes()


# Round trips


@same_folder
@given(
    array=st.sampled_from(sorted(DTYPES)).flatmap(
        lambda name: hnp.arrays(
            np.dtype(name), hnp.array_shapes(min_dims=1, max_dims=5, min_side=0, max_side=4)
        )
    ),
    name=st.sampled_from(["a.idx", "a.idx.gz"]),
)
def test_round_trip(tmp_path: Path, array: npt.NDArray[Any], name: str) -> None:
    write_idx(tmp_path / name, array)
    result = read_idx(tmp_path / name)
    assert_same(result, array)
    assert result.dtype == array.dtype
    assert result.dtype.isnative
    assert result.flags.c_contiguous
    assert result.flags.writeable
    assert result.flags.aligned


@pytest.mark.parametrize("name", ["a.idx", "a.idx.gz"])
def test_known_bytes(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(INT16_FILE) if name.endswith(".gz") else INT16_FILE)
    assert_same(read_idx(path), INT16_ARRAY)
    write_idx(path, INT16_ARRAY)
    content = path.read_bytes()
    assert (gzip.decompress(content) if name.endswith(".gz") else content) == INT16_FILE


@pytest.mark.parametrize(("dtype", "code"), DTYPES.items())
def test_type_codes(tmp_path: Path, dtype: str, code: int) -> None:
    write_idx(tmp_path / "a", np.zeros(3, dtype))
    content = (tmp_path / "a").read_bytes()
    assert content == header(code, 3) + bytes(3 * np.dtype(dtype).itemsize)


@pytest.mark.parametrize(
    "array",
    [
        INT16_ARRAY.astype(">i2"),
        INT16_ARRAY.astype("<i2"),
        np.asfortranarray(INT16_ARRAY),
        np.repeat(INT16_ARRAY, 2, axis=1)[:, ::2],
    ],
    ids=["big-endian", "little-endian", "fortran", "strided"],
)
def test_write_any_layout(tmp_path: Path, array: npt.NDArray[Any]) -> None:
    write_idx(tmp_path / "a", array)
    assert (tmp_path / "a").read_bytes() == INT16_FILE


def test_special_floats_are_kept(tmp_path: Path) -> None:
    array = np.array([np.nan, np.inf, -np.inf, -0.0, 5e-324])
    write_idx(tmp_path / "a", array)
    assert_same(read_idx(tmp_path / "a"), array)


def test_many_dimensions(tmp_path: Path) -> None:
    array = np.arange(4, dtype=np.uint8).reshape((1,) * 30 + (2, 2))
    write_idx(tmp_path / "a", array)
    assert_same(read_idx(tmp_path / "a"), array)


@pytest.mark.parametrize("extra", [-1, 0, 1])
def test_data_around_the_size_of_a_chunk(tmp_path: Path, extra: int) -> None:
    array = np.arange((1 << 20) + extra, dtype=np.uint8)
    for name in ("a", "a.gz"):
        write_idx(tmp_path / name, array)
        assert_same(read_idx(tmp_path / name), array)


def test_result_can_be_written_to(tmp_path: Path) -> None:
    write_idx(tmp_path / "a", np.zeros(2, np.uint8))
    result = read_idx(tmp_path / "a")
    result[0] = 7
    assert result.tolist() == [7, 0]
    assert read_idx(tmp_path / "a").tolist() == [0, 0]


def test_compression_is_read_from_the_content_not_the_name(tmp_path: Path) -> None:
    (tmp_path / "plain.gz").write_bytes(INT16_FILE)
    (tmp_path / "compressed").write_bytes(gzip.compress(INT16_FILE))
    assert_same(read_idx(tmp_path / "plain.gz"), INT16_ARRAY)
    assert_same(read_idx(tmp_path / "compressed"), INT16_ARRAY)


def test_several_gzip_members(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(gzip.compress(INT16_FILE[:7]) + gzip.compress(INT16_FILE[7:]))
    assert_same(read_idx(tmp_path / "a"), INT16_ARRAY)


def test_str_paths(tmp_path: Path) -> None:
    write_idx(str(tmp_path / "a"), INT16_ARRAY)
    assert_same(read_idx(str(tmp_path / "a")), INT16_ARRAY)


def test_same_array_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_idx(tmp_path / "a.gz", INT16_ARRAY)
    monkeypatch.setattr("time.time", lambda: 2e9)
    write_idx(tmp_path / "b.gz", INT16_ARRAY)
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()


# Files that cannot be read


def assert_unreadable(path: Path, content: bytes, *parts: str) -> None:
    """Reading must fail with the same clear message whether the content is compressed or not."""
    for stored in (content, gzip.compress(content)):
        path.write_bytes(stored)
        with pytest.raises(ValueError) as error:
            read_idx(path)
        for part in (str(path), *parts):
            assert part in str(error.value)


@pytest.mark.parametrize("length", range(len(INT16_FILE)))
def test_truncated_at_each_byte(tmp_path: Path, length: int) -> None:
    if length < 4:
        message = f"truncated header: expected 4 bytes, found {length}"
    elif length < 12:
        message = f"truncated header: expected 12 bytes, found {length}"
    else:
        message = f"truncated data: expected 12 bytes, found {length - 12}"
    assert_unreadable(tmp_path / "a", INT16_FILE[:length], message)


@pytest.mark.parametrize("extra", [b"\0", b"more than one byte"])
def test_trailing_bytes(tmp_path: Path, extra: bytes) -> None:
    assert_unreadable(tmp_path / "a", INT16_FILE + extra, "trailing bytes: expected 12 bytes")


def test_trailing_bytes_after_empty_data(tmp_path: Path) -> None:
    assert_unreadable(tmp_path / "a", header(0x08, 0, 5) + b"\0", "trailing bytes: expected 0 bytes")


@pytest.mark.parametrize("byte", [0, 1])
@pytest.mark.parametrize("bit", range(8))
def test_flipped_magic(tmp_path: Path, byte: int, bit: int) -> None:
    content = bytearray(INT16_FILE)
    content[byte] ^= 1 << bit
    found = content[:2].hex(" ")
    assert_unreadable(tmp_path / "a", bytes(content), f"not an IDX file: it begins with {found}")


@pytest.mark.parametrize("content", [b"x", b"PK\x03\x04", b"\x89PNG\r\n\x1a\n", b"label,pixel0,pixel1\n"])
def test_other_formats(tmp_path: Path, content: bytes) -> None:
    assert_unreadable(tmp_path / "a", content, "not an IDX file")


@pytest.mark.parametrize("code", sorted(set(range(256)) - set(DTYPES.values())))
def test_unknown_element_type(tmp_path: Path, code: int) -> None:
    assert_unreadable(
        tmp_path / "a", header(code, 1) + bytes(8), f"unknown element type 0x{code:02X}", "0x0D (float32)"
    )


def test_no_dimensions(tmp_path: Path) -> None:
    assert_unreadable(tmp_path / "a", header(0x08) + b"\0", "0 dimensions, allowed are 1 to 255")


def test_shape_beyond_numpy(tmp_path: Path) -> None:
    assert_unreadable(tmp_path / "a", header(0x08, *[1] * 255) + b"\0", "NumPy cannot hold")


@pytest.mark.parametrize("sizes", [(2**32 - 1,), (2**32 - 1,) * 3, (2**32 - 1,) * 255])
def test_absurd_sizes_need_no_memory(tmp_path: Path, sizes: tuple[int, ...]) -> None:
    tracemalloc.start()
    try:
        assert_unreadable(tmp_path / "a", header(0x0E, *sizes) + bytes(100), "truncated data", "found 100")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 50e6


def test_no_more_is_decompressed_than_needed(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(gzip.compress(header(0x08, 10) + bytes(100_000_000), compresslevel=1))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="trailing bytes"):
            read_idx(tmp_path / "a")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 10e6


def test_gzip_truncated_at_each_byte(tmp_path: Path) -> None:
    content = gzip.compress(INT16_FILE)
    for length in range(len(content)):
        (tmp_path / "a").write_bytes(content[:length])
        with pytest.raises(ValueError, match="damaged gzip stream" if length > 1 else "header|not an IDX"):
            read_idx(tmp_path / "a")


def test_gzip_with_each_byte_changed(tmp_path: Path) -> None:
    content = gzip.compress(INT16_FILE, mtime=0)
    harmless = {4, 5, 6, 7, 8, 9}  # time, flags of the compressor, operating system
    for position in set(range(len(content))) - harmless:
        damaged = bytearray(content)
        damaged[position] ^= 0xFF
        (tmp_path / "a").write_bytes(damaged)
        with pytest.raises(ValueError):
            read_idx(tmp_path / "a")


def test_gzip_wrong_checksum(tmp_path: Path) -> None:
    content = bytearray(gzip.compress(INT16_FILE))
    content[-8] ^= 1
    (tmp_path / "a.gz").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.gz: damaged gzip stream: CRC check failed"):
        read_idx(tmp_path / "a.gz")


def test_gzip_followed_by_garbage(tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(gzip.compress(INT16_FILE) + b"garbage")
    with pytest.raises(ValueError, match="damaged gzip stream"):
        read_idx(tmp_path / "a.gz")


@same_folder
@given(content=st.binary(max_size=200))
def test_any_bytes_give_an_array_or_a_value_error(tmp_path: Path, content: bytes) -> None:
    for stored in (content, b"\x1f\x8b" + content, b"\0\0\x08\x01" + content):
        (tmp_path / "a").write_bytes(stored)
        try:
            assert isinstance(read_idx(tmp_path / "a"), np.ndarray)
        except ValueError as error:
            assert str(tmp_path / "a") in str(error)


def test_absent_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_idx(tmp_path / "absent")


@pytest.mark.parametrize("path", [3, None, b"a", ["a"]])
def test_path_of_wrong_type(path: Any) -> None:
    with pytest.raises(TypeError, match=r"path must be a str or an os\.PathLike of str, got"):
        read_idx(path)
    with pytest.raises(TypeError, match=r"path must be a str or an os\.PathLike of str, got"):
        write_idx(path, INT16_ARRAY)


# Arrays that cannot be written


@pytest.mark.parametrize(
    "dtype",
    [
        "object",
        "bool",
        "complex64",
        "float16",
        "uint16",
        "uint32",
        "int64",
        "uint64",
        "U3",
        "S3",
        "V2",
        "u1,u1",
    ],
)
def test_dtype_without_code(tmp_path: Path, dtype: str) -> None:
    with pytest.raises(TypeError, match="uint8, int8, int16, int32, float32, float64, got"):
        write_idx(tmp_path / "a", np.zeros(2, dtype))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("array", [[1, 2], 3, None, np.float32(1)])
def test_not_an_array(tmp_path: Path, array: Any) -> None:
    with pytest.raises(TypeError, match=r"array must be a numpy\.ndarray, got"):
        write_idx(tmp_path / "a", array)


def test_0d_array(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="array must have 1 to 255 dimensions, got 0"):
        write_idx(tmp_path / "a", np.array(1, np.uint8))
    assert list(tmp_path.iterdir()) == []


class Deep(np.ndarray[Any, Any]):
    """An array that claims 256 dimensions, more than NumPy allows."""

    ndim = 256


def test_too_many_dimensions(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="array must have 1 to 255 dimensions, got 256"):
        write_idx(tmp_path / "a", np.zeros(1, np.uint8).view(Deep))


def test_dimension_too_large(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"smaller than 2\*\*32, got the shape \(0, 4294967296\)"):
        write_idx(tmp_path / "a", np.empty((0, 2**32), np.uint8))


def test_absent_folder(tmp_path: Path) -> None:
    path = tmp_path / "absent" / "a"
    with pytest.raises(FileNotFoundError) as error:
        write_idx(path, INT16_ARRAY)
    assert str(path) in str(error.value)


# Writing whole or not at all


class Interruption(BaseException):
    """Stands for anything that may stop a write, KeyboardInterrupt included."""


def fail(*args: Any, **kwargs: Any) -> Any:
    raise Interruption


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("a", "os.fsync"),
        ("a", "os.replace"),
        ("a.gz", "os.fsync"),
        ("a.gz", "os.replace"),
        ("a.gz", "gzip.GzipFile.write"),
        ("a.gz", "gzip.GzipFile.close"),
    ],
)
@pytest.mark.parametrize("existing", [True, False])
def test_failed_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, target: str, existing: bool
) -> None:
    if existing:
        write_idx(tmp_path / name, INT16_ARRAY)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setattr(target, fail)
    with pytest.raises(Interruption):
        write_idx(tmp_path / name, np.ones(100, np.float64))
    monkeypatch.undo()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_failure_in_the_middle(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def write() -> None:
        with idx.open_atomically(path) as file:
            file.write(b"new, but only half")
            file.flush()
            assert path.read_bytes() == b"old"
            raise Interruption

    with pytest.raises(Interruption):
        write()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_temporary_file_is_in_the_same_folder_and_complete_before_the_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    fsync, replace = os.fsync, os.replace

    def recording_fsync(descriptor: int) -> None:
        assert os.fstat(descriptor).st_size == len(INT16_FILE)
        events.append("fsync")
        fsync(descriptor)

    def recording_replace(source: Path, target: Path) -> None:
        assert Path(source).parent == tmp_path
        assert Path(source).read_bytes() == INT16_FILE
        assert target == tmp_path / "a"
        events.append("replace")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", recording_fsync)
    monkeypatch.setattr(os, "replace", recording_replace)
    write_idx(tmp_path / "a", INT16_ARRAY)
    assert events == ["fsync", "replace"]
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]


def test_failed_replace_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(OSError):
        write_idx(tmp_path / "a", INT16_ARRAY)
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_permissions_follow_the_umask(tmp_path: Path, umask: int, mode: int) -> None:
    previous = os.umask(umask)
    try:
        write_idx(tmp_path / "a", INT16_ARRAY)
    finally:
        os.umask(previous)
    assert (tmp_path / "a").stat().st_mode & 0o777 == mode
