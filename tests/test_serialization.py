"""Model files: what is written comes back, a failed write changes nothing, and no file crashes the reader."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

import fastmlp.serialization as serialization
from fastmlp.serialization import ModelFileError, read_model_file, read_model_header, write_model_file

posix_only = pytest.mark.skipif(os.name != "posix", reason="POSIX permissions and file types")

TENSORS: dict[str, np.ndarray[Any, Any]] = {
    "layers.0.weight": np.arange(12, dtype=np.float32).reshape(4, 3) / 7,
    "layers.0.bias": np.array([np.nan, np.inf, -0.0], dtype=np.float32),
    "mean": np.linspace(-1, 1, 5),
    "step": np.array(1234567890123, dtype=np.int64),
    "empty": np.zeros((0, 3), dtype=np.float32),
}
DESCRIPTION: dict[str, Any] = {
    "sizes": [4, 3],
    "activation": "relu",
    "dropout": 0.1,
    "seed": None,
    "classes": ["ü", "猫", '"', "\ud800"],
    "nested": {"flag": True},
}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A model file: the raw material of the damaged ones."""
    path = tmp_path_factory.mktemp("good") / "model.safetensors"
    write_model_file(path, TENSORS, DESCRIPTION)
    return path.read_bytes()


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file to write damaged contents to."""
    return tmp_path_factory.mktemp("damaged") / "model.safetensors"


def file_of(header: dict[str, Any] | bytes, numbers: bytes = b"") -> bytes:
    """A safetensors file with any header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + numbers


def metadata(**changes: str) -> dict[str, str]:
    return {"format": "fastmlp", "format_version": "1", "architecture": "{}"} | changes


def assert_refused(path: Path, contents: bytes, reason: str = "path=") -> None:
    path.write_bytes(contents)
    with pytest.raises(ModelFileError, match=reason) as caught:
        read_model_file(path)
    assert str(caught.value).count(f"path={str(path)!r}") == 1


# What is written comes back


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    write_model_file(path, TENSORS, DESCRIPTION)
    tensors, description = read_model_file(path)
    assert description == DESCRIPTION
    assert set(tensors) == set(TENSORS)
    assert read_model_header(path) == ({name: tensor.shape for name, tensor in TENSORS.items()}, DESCRIPTION)
    for name, tensor in tensors.items():
        assert tensor.dtype == TENSORS[name].dtype
        assert tensor.shape == TENSORS[name].shape
        assert tensor.tobytes() == TENSORS[name].tobytes()
        assert tensor.flags.writeable
        assert tensor.flags.c_contiguous


def test_the_file_is_a_plain_safetensors_file(tmp_path: Path) -> None:
    path = str(tmp_path / "model.safetensors")
    write_model_file(path, TENSORS, DESCRIPTION)
    with safe_open(path, framework="numpy") as file:  # type: ignore[no-untyped-call, unused-ignore]
        assert set(file.keys()) == set(TENSORS)
        np.testing.assert_array_equal(file.get_tensor("mean"), TENSORS["mean"])
        header = file.metadata()
    assert set(header) == {"format", "format_version", "architecture"}
    assert header["format"] == "fastmlp"
    assert header["format_version"] == "1"
    assert json.loads(header["architecture"]) == DESCRIPTION


def test_numbers_are_aligned(good: bytes) -> None:
    assert int.from_bytes(good[:8], "little") % 8 == 0


def test_memory_order_and_byte_order_do_not_matter(tmp_path: Path) -> None:
    matrix = np.arange(24.0).reshape(4, 6)
    views = {"transposed": matrix.T, "strided": matrix[::2, ::-1], "big_endian": matrix.astype(">f8")}
    write_model_file(tmp_path / "m", views, {})
    tensors, _ = read_model_file(tmp_path / "m")
    for name, view in views.items():
        np.testing.assert_array_equal(tensors[name], view)


@pytest.mark.parametrize("dtype", ["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"])
def test_dtypes(tmp_path: Path, dtype: str) -> None:
    write_model_file(tmp_path / "m", {"x": np.array([0, 1, 1], dtype=dtype)}, {})
    tensor = read_model_file(tmp_path / "m")[0]["x"]
    assert tensor.dtype == np.dtype(dtype)
    assert tensor.tolist() == [0, 1, 1]


def test_no_tensors_and_no_description(tmp_path: Path) -> None:
    write_model_file(tmp_path / "m", {}, {})
    assert read_model_file(tmp_path / "m") == ({}, {})


def test_same_contents_same_bytes(tmp_path: Path, good: bytes) -> None:
    for attempt in range(8):
        path = tmp_path / str(attempt)
        write_model_file(path, TENSORS, DESCRIPTION)
        assert path.read_bytes() == good


def test_paths_of_every_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for path in ("relative.safetensors", str(tmp_path / "ünï cødé 猫"), tmp_path / "a path", "x" * 255):
        write_model_file(path, {"x": np.ones(2)}, {"of": str(path)})
        assert read_model_file(path)[1] == {"of": str(path)}


@pytest.mark.skipif(sys.platform != "linux", reason="file names that are not UTF-8")
def test_path_that_is_not_unicode(tmp_path: Path) -> None:
    path = os.path.join(tmp_path, os.fsdecode(b"\xff.safetensors"))
    write_model_file(path, {"x": np.ones(2)}, {})
    assert read_model_file(path)[0]["x"].tolist() == [1.0, 1.0]


@settings(max_examples=50, deadline=None)
@given(
    tensors=st.dictionaries(
        st.text(max_size=8).filter(lambda name: name.isprintable() and name != "__metadata__"),
        st.lists(st.floats(width=32, allow_nan=False), max_size=5),
        max_size=4,
    ),
    description=st.dictionaries(
        st.text(max_size=5),
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers()
            | st.floats(allow_nan=False, allow_infinity=False)
            | st.text(),
            lambda inner: (
                st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
            ),
            max_leaves=6,
        ),
        max_size=4,
    ),
)
def test_any_contents_round_trip(scratch: Path, tensors: dict[str, list[float]], description: Any) -> None:
    arrays = {name: np.array(values, dtype=np.float32) for name, values in tensors.items()}
    write_model_file(scratch, arrays, description)
    read, description_read = read_model_file(scratch)
    assert description_read == description
    assert {name: array.tolist() for name, array in read.items()} == tensors


# Arguments


class BytesPath(os.PathLike[bytes]):
    def __fspath__(self) -> bytes:
        return b"model.safetensors"


@pytest.mark.parametrize("path", [None, 3, b"model.safetensors", ["m"], BytesPath()])
def test_path_must_be_a_path(path: Any) -> None:
    with pytest.raises(TypeError, match="path must"):
        write_model_file(path, {}, {})
    with pytest.raises(TypeError, match="path must"):
        read_model_file(path)


@pytest.mark.parametrize(
    ("tensors", "error", "message"),
    [
        ([np.ones(2)], TypeError, "tensors must be a dict"),
        ({0: np.ones(2)}, TypeError, "tensors must have names"),
        ({"__metadata__": np.ones(2)}, ValueError, "__metadata__"),
        ({"x": [1.0, 2.0]}, TypeError, "tensors must hold NumPy arrays, got list for 'x'"),
        ({"x": np.array([None])}, TypeError, "got object for 'x'"),
        ({"x": np.array(["a"])}, TypeError, "for 'x'"),
        ({"x": np.ones(2, dtype=complex)}, TypeError, "got complex128 for 'x'"),
        ({"x": np.ones(2, dtype="c8")}, TypeError, "got complex64 for 'x'"),
        ({"x": np.zeros(2, dtype="M8[s]")}, TypeError, "for 'x'"),
        ({"x": np.zeros(2, dtype="f4,f4")}, TypeError, "for 'x'"),
    ],
)
def test_tensors_are_checked(tmp_path: Path, tensors: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        write_model_file(tmp_path / "m", tensors, {})
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(np.dtype(np.longdouble).itemsize == 8, reason="long double is double here")
def test_tensors_of_more_than_64_bits_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"up to 64 bits, got .* for 'x'"):
        write_model_file(tmp_path / "m", {"x": np.ones(2, dtype=np.longdouble)}, {})


@pytest.mark.parametrize(
    ("description", "error"),
    [
        ([("a", 1)], TypeError),
        (None, TypeError),
        ({"x": {1, 2}}, TypeError),
        ({"x": np.float32(1)}, TypeError),
        ({"x": float("nan")}, ValueError),
        ({"x": float("inf")}, ValueError),
    ],
)
def test_description_is_checked(tmp_path: Path, description: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="description must"):
        write_model_file(tmp_path / "m", {}, description)
    assert os.listdir(tmp_path) == []


# Writing: all or nothing


@pytest.mark.parametrize("call", ["open", "chmod", "fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_failed_call_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, error: BaseException
) -> None:
    path = tmp_path / "model.safetensors"
    write_model_file(path, {"x": np.ones(3)}, {"version": "old"})
    before = path.read_bytes()
    calls = 0

    def fail(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(type(error)):
            write_model_file(path, {"x": np.zeros(3)}, {"version": "new"})
    assert calls == 1
    assert os.listdir(tmp_path) == ["model.safetensors"]
    assert path.read_bytes() == before


@posix_only
@pytest.mark.parametrize("old", [True, False])
def test_a_disk_that_fills_up_leaves_the_old_file_and_nothing_else(tmp_path: Path, old: bool) -> None:
    import resource

    path = tmp_path / "model.safetensors"
    if old:
        write_model_file(path, {"x": np.ones(3)}, {"version": "old"})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(OSError):
            write_model_file(path, {"x": np.zeros(100_000)}, {"version": "new"})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert os.listdir(tmp_path) == (["model.safetensors"] if old else [])
    if old:
        assert read_model_file(path)[1] == {"version": "old"}


def test_the_new_file_is_whole_and_on_the_disk_before_it_takes_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, good: bytes
) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"old")
    events: list[str] = []
    fsync, replace = os.fsync, os.replace

    def watched_fsync(descriptor: int) -> None:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            events.append("fsync folder")
        else:
            events.append("fsync file")
            assert status.st_size == len(good)
        fsync(descriptor)

    def watched_replace(source: str, target: str) -> None:
        events.append("replace")
        assert os.path.dirname(source) == os.path.dirname(target)
        assert read_model_file(source)[1] == DESCRIPTION
        assert path.read_bytes() == b"old"
        replace(source, target)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "replace", watched_replace)
    write_model_file(path, TENSORS, DESCRIPTION)
    expected = ["fsync file", "replace", "fsync folder"]
    assert events == (expected if os.name == "posix" else expected[:2])
    assert os.listdir(tmp_path) == ["model.safetensors"]


@pytest.fixture
def umask() -> Iterator[None]:
    """A umask under which a new file has the permissions rw-r-----."""
    before = os.umask(0o027)
    yield
    os.umask(before)


@posix_only
def test_a_new_file_gets_the_usual_permissions(tmp_path: Path, umask: None) -> None:
    write_model_file(tmp_path / "m", {}, {})
    assert stat.S_IMODE(os.stat(tmp_path / "m").st_mode) == 0o640


@posix_only
@pytest.mark.parametrize("permissions", [0o600, 0o606, 0o664, 0o444])
def test_a_replaced_file_keeps_its_permissions(tmp_path: Path, umask: None, permissions: int) -> None:
    path = tmp_path / "m"
    path.write_bytes(b"old")
    path.chmod(permissions)
    write_model_file(path, {}, {})
    assert stat.S_IMODE(os.stat(path).st_mode) == permissions
    assert read_model_file(path) == ({}, {})


@posix_only
def test_a_private_file_is_never_readable_by_others(
    tmp_path: Path, umask: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m"
    path.write_bytes(b"old")
    path.chmod(0o600)
    chmod = os.chmod

    def watched_chmod(name: str, permissions: int) -> None:
        assert stat.S_IMODE(os.stat(name).st_mode) == 0o600
        chmod(name, permissions)

    monkeypatch.setattr(os, "chmod", watched_chmod)
    write_model_file(path, {}, {})


@posix_only
def test_a_symbolic_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    link, target = tmp_path / "link", tmp_path / "folder" / "m"
    link.symlink_to(target)
    for version in ("first", "second"):
        write_model_file(link, {}, {"version": version})
        assert link.is_symlink()
        assert not target.is_symlink()
        assert read_model_file(link) == read_model_file(target) == ({}, {"version": version})
    assert os.listdir(tmp_path / "folder") == ["m"]


def test_where_no_file_can_be_written(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        write_model_file(tmp_path / "missing" / "m", {}, {})
    assert caught.value.filename == str(tmp_path / "missing")
    with pytest.raises(IsADirectoryError):
        write_model_file(tmp_path, {}, {})
    assert os.listdir(tmp_path) == []


@posix_only
def test_a_pipe_is_neither_replaced_nor_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(OSError, match="regular file"):
        write_model_file(pipe, {}, {})
    with pytest.raises(ModelFileError, match="pipe"):
        read_model_file(pipe)
    assert stat.S_ISFIFO(os.stat(pipe).st_mode)
    assert os.listdir(tmp_path) == ["pipe"]


# Reading: every file ends in ModelFileError or is what was written


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="missing"):
        read_model_file(tmp_path / "missing")
    with pytest.raises(IsADirectoryError, match=tmp_path.name):
        read_model_file(tmp_path)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read every file")
def test_file_without_read_permission(tmp_path: Path) -> None:
    write_model_file(tmp_path / "m", {}, {})
    (tmp_path / "m").chmod(0)
    with pytest.raises(PermissionError, match="m"):
        read_model_file(tmp_path / "m")


def test_model_file_error_is_a_value_error() -> None:
    assert issubclass(ModelFileError, ValueError)


def test_truncated_at_every_length(good: bytes, scratch: Path) -> None:
    for length in range(len(good)):
        assert_refused(scratch, good[:length])


def test_too_long(good: bytes, scratch: Path) -> None:
    assert_refused(scratch, good + b"\0")
    assert_refused(scratch, good + good)


@pytest.mark.parametrize(
    ("contents", "reason"),
    [
        (file_of({}), "safetensors file of another program"),
        (file_of({"__metadata__": {"format": "pt"}}), "safetensors file of another program"),
        (
            file_of({"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, b"1234"),
            "safetensors file of another program",
        ),
        (file_of({"__metadata__": metadata(format_version="2")}), "format_version '2'.* reads '1'"),
        (file_of({"__metadata__": {"format": "fastmlp"}}), "format_version None"),
        (file_of({"__metadata__": {"format": "fastmlp", "format_version": "1"}}), "no valid JSON"),
        (file_of({"__metadata__": metadata(architecture="{")}), "no valid JSON"),
        (file_of({"__metadata__": metadata(architecture="[" * 100_000)}), "no valid JSON"),
        (file_of({"__metadata__": metadata(architecture="9" * 100_000)}), "architecture"),
        (file_of({"__metadata__": metadata(architecture="[]")}), "no JSON object"),
        (file_of({"__metadata__": metadata(architecture="null")}), "no JSON object"),
        (file_of({"__metadata__": 3}), "damaged"),
        (file_of(b"[" * 100_000), "damaged"),
        (file_of(b'{"x":' * 100_000), "damaged"),
        (file_of(b"{"), "damaged"),
        (file_of(b""), "damaged"),
        (b"PK\x03\x04" + bytes(1000), "damaged"),
        (b"\x93NUMPY\x01\x00" + bytes(1000), "damaged"),
        (b"hello, world\n" * 100, "damaged"),
        (b"\0" * 1000, "damaged"),
    ],
)
def test_foreign_files(scratch: Path, contents: bytes, reason: str) -> None:
    assert_refused(scratch, contents, reason)


@pytest.mark.parametrize(
    ("dtype", "shape", "end"),
    [
        ("F32", [2**40], 2**42),  # the numbers are not in the file
        ("F32", [1], 8),
        ("F32", [3], 4),
        ("F32", [-1], 4),
        ("F32", [1.0], 4),
        ("F32", [2**64], 4),
        ("F32", [2**62 + 1], 4),  # its size in bytes is 4 modulo 2**64
        ("F32", [2**32, 2**32], 0),
        ("F32", [0, 2**63], 0),
        ("F32", [0, 2**40, 2**40], 0),
        ("F32", [1] * 100, 4),
        ("BF16", [2], 4),  # types that NumPy lacks
        ("F8_E4M3", [4], 4),
        ("F4", [8], 4),
        ("F31", [1], 4),
        (None, [1], 4),
    ],
)
def test_impossible_tensors(scratch: Path, dtype: Any, shape: list[Any], end: int) -> None:
    tensor = {"dtype": dtype, "shape": shape, "data_offsets": [0, end]}
    assert_refused(scratch, file_of({"__metadata__": metadata(), "x": tensor}, b"1234" if end else b""))


@pytest.mark.parametrize("offsets", [[[0, 4], [0, 4]], [[0, 4], [8, 12]], [[4, 0], [4, 8]], [[0, 4], [2, 6]]])
def test_tensors_that_overlap_or_leave_gaps(scratch: Path, offsets: list[list[int]]) -> None:
    tensors = {
        name: {"dtype": "F32", "shape": [1], "data_offsets": place}
        for name, place in zip("xy", offsets, strict=True)
    }
    assert_refused(scratch, file_of({"__metadata__": metadata(), **tensors}, bytes(8)))


@pytest.mark.parametrize(
    "length", [0, 1, 7, 10**6, 99_999_999, 10**8, 10**9, 2**32, 2**63 - 1, 2**63, 2**64 - 1]
)
def test_wrong_header_length(good: bytes, scratch: Path, length: int) -> None:
    assert_refused(scratch, length.to_bytes(8, "little") + good[8:])


def test_pickled_code_does_not_run(tmp_path: Path) -> None:
    pickled = f"cos\nmkdir\n(S'{tmp_path / 'ran'}'\ntR.".encode()  # unpickling this makes a folder
    assert_refused(tmp_path / "m", pickled)
    assert_refused(tmp_path / "m", file_of({"__metadata__": metadata(architecture=pickled.decode())}))
    assert not (tmp_path / "ran").exists()


@settings(max_examples=200, deadline=None)
@given(contents=st.binary(max_size=200))
def test_random_bytes(scratch: Path, contents: bytes) -> None:
    assert_refused(scratch, contents)


@settings(max_examples=200, deadline=None)
@given(text=st.binary(max_size=100))
def test_random_header(scratch: Path, text: bytes) -> None:
    assert_refused(scratch, file_of(text))


@settings(max_examples=500, deadline=None)
@given(data=st.data())
def test_random_changes_of_the_header(good: bytes, scratch: Path, data: st.DataObject) -> None:
    """A changed file is refused, or read as what its changed header says, within the size of the file."""
    contents = bytearray(good)
    end = 8 + int.from_bytes(good[:8], "little")
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, end - 1))
        match data.draw(st.sampled_from(["byte", "digit", "delete", "insert", "swap"])):
            case "byte":
                contents[position] = data.draw(st.integers(0, 255))
            case "digit":  # somewhere in the shapes and offsets
                contents[position] = data.draw(st.sampled_from(b"0123456789-.e,]}"))
            case "delete":
                del contents[position]
            case "insert":
                contents.insert(position, data.draw(st.sampled_from(b'09"{}[],:\\u \0\xff')))
            case "swap":
                other = data.draw(st.integers(0, end - 1))
                contents[position], contents[other] = contents[other], contents[position]
    scratch.write_bytes(contents)
    try:
        tensors, description = read_model_file(scratch)
    except ModelFileError as error:
        assert repr(str(scratch)) in str(error)
    else:
        assert sum(tensor.nbytes for tensor in tensors.values()) <= len(contents)
        assert isinstance(description, dict)


@settings(max_examples=200, deadline=None)
@given(
    tensors=st.dictionaries(
        st.text(max_size=3),
        st.fixed_dictionaries(
            {
                "dtype": st.sampled_from(["F64", "F32", "F16", "BF16", "F8_E5M2", "F4", "BOOL", "C64", "U8"]),
                "shape": st.lists(st.integers(0, 4) | st.integers(2**31, 2**64), max_size=4),
                "data_offsets": st.lists(
                    st.integers(0, 16) | st.integers(2**31, 2**64), min_size=2, max_size=2
                ),
            }
        ),
        max_size=3,
    ),
    numbers=st.binary(max_size=16),
)
def test_random_tensor_tables(scratch: Path, tensors: dict[str, Any], numbers: bytes) -> None:
    scratch.write_bytes(file_of({"__metadata__": metadata(), **tensors}, numbers))
    try:
        read, _ = read_model_file(scratch)
    except ModelFileError:
        return
    assert sum(tensor.nbytes for tensor in read.values()) <= len(numbers)


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on the memory of a process")
def test_claims_of_size_take_no_memory(good: bytes, tmp_path: Path) -> None:
    """A reader with 64 MB to spare refuses small files that claim to be large."""
    tensor = {"dtype": "F32", "shape": [2**30], "data_offsets": [0, 2**32]}
    claims = {
        "header": (99_999_999).to_bytes(8, "little") + good[8:],
        "huge_header": (2**63).to_bytes(8, "little") + good[8:],
        "tensor": file_of({"__metadata__": metadata(), "x": tensor}, bytes(16)),
        "shape": file_of({"__metadata__": metadata(), "x": tensor | {"shape": [2**60]}}, bytes(16)),
    }
    for name, contents in claims.items():
        (tmp_path / name).write_bytes(contents)
    program = """
import os, resource, sys
import safetensors
from fastmlp.serialization import ModelFileError, read_model_file
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**26,) * 2)
for name in sys.argv[1:]:
    try:
        read_model_file(name)
    except ModelFileError:
        print("refused", os.path.basename(name))
"""
    root = Path(serialization.__file__).parents[1]
    result = subprocess.run(
        [sys.executable, "-c", program, *(str(tmp_path / name) for name in claims)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(root)},
        check=False,
    )
    assert result.stdout.splitlines() == [f"refused {name}" for name in claims], result.stderr


def test_the_package_for_the_format_is_imported_only_when_needed() -> None:
    program = "import sys, fastmlp.serialization; sys.exit('safetensors' in sys.modules)"
    root = Path(serialization.__file__).parents[1]
    environment = os.environ | {"PYTHONPATH": str(root)}
    assert subprocess.run([sys.executable, "-c", program], env=environment, check=False).returncode == 0
