"""Finding, checking and downloading MNIST. Nothing here uses the network beyond 127.0.0.1."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import http.server
import io
import os
import re
import shutil
import sys
import threading
import urllib.error
from collections.abc import Iterator
from email.message import Message
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from fastmlp.datasets import Dataset, MnistUnavailable, load_mnist, mnist, read_idx, write_idx

REAL_FOLDER = os.environ.get("FASTMLP_DATA")
FILES = tuple(mnist.ORIGINALS)
SHAPES = ((30, 4, 5), (30,), (20, 4, 5), (20,))
IMAGES, LABELS, TEST_IMAGES, TEST_LABELS = FILES


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No mirror, an empty cache folder and no environment variable, unless a test says otherwise."""
    monkeypatch.delenv("FASTMLP_DATA", raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(mnist, "_MIRRORS", ())
    monkeypatch.setattr(mnist, "cache_folder", lambda: tmp_path / "cache" / "fastmlp")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "fastmlp" / "mnist"


def small_arrays(seed: int) -> dict[str, npt.NDArray[np.uint8]]:
    rng = np.random.default_rng(seed)
    arrays = {}
    for name, shape in zip(FILES, SHAPES, strict=True):
        array = rng.integers(0, 256 if len(shape) == 3 else 10, shape, dtype=np.uint8)
        array.flat[-1] = 9  # the number of classes is known
        arrays[name] = array
    return arrays


def make_folder(folder: Path, seed: int) -> dict[str, npt.NDArray[np.uint8]]:
    folder.mkdir()
    arrays = small_arrays(seed)
    for name, array in arrays.items():
        write_idx(folder / name, array)
    return arrays


def assert_holds(dataset: Dataset, arrays: dict[str, npt.NDArray[np.uint8]]) -> None:
    for X, y, images, labels in (
        (dataset.X_train, dataset.y_train, arrays[IMAGES], arrays[LABELS]),
        (dataset.X_test, dataset.y_test, arrays[TEST_IMAGES], arrays[TEST_LABELS]),
    ):
        assert X.dtype == np.uint8
        assert y.dtype == np.int64
        assert X.flags.c_contiguous
        assert X.flags.writeable
        np.testing.assert_array_equal(X, [image.ravel() for image in images])
        np.testing.assert_array_equal(y, labels)
    assert dataset.image_shape == (4, 5)
    assert dataset.classes == 10


@pytest.fixture
def originals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with four small files, which are taken for the original ones."""
    folder = tmp_path / "originals"
    make_folder(folder, seed=0)
    expected = {}
    for name in FILES:
        content = (folder / name).read_bytes()
        expected[name] = (len(content), hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(mnist, "ORIGINALS", expected)
    return folder


class Mirror:
    """A mirror on 127.0.0.1: what it answers to each name, and what it was asked for."""

    def __init__(self, folder: Path) -> None:
        self.answers: dict[str, bytes | int] = {name: (folder / name).read_bytes() for name in FILES}
        self.requests: list[str] = []
        mirror = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name = self.path.removeprefix("/mnist/")
                mirror.requests.append(name)
                answer = mirror.answers[name]
                if isinstance(answer, int):
                    self.send_error(answer)
                else:
                    self.send_response(200)
                    self.end_headers()
                    self.wfile.write(answer)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/mnist/"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def mirrors(originals: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Mirror, Mirror]]:
    pair = Mirror(originals), Mirror(originals)
    monkeypatch.setattr(mnist, "_MIRRORS", tuple(mirror.url for mirror in pair))
    yield pair
    for mirror in pair:
        mirror.close()


# A folder given by the user


@pytest.mark.parametrize("kind", [str, Path])
def test_data(tmp_path: Path, kind: Any) -> None:
    arrays = make_folder(tmp_path / "my digits", seed=1)
    dataset = load_mnist(kind(tmp_path / "my digits"))
    assert_holds(dataset, arrays)
    assert dataset.name == "my digits"


def test_environment_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = make_folder(tmp_path / "folder", seed=1)
    monkeypatch.setenv("FASTMLP_DATA", str(tmp_path / "folder"))
    dataset = load_mnist()
    assert_holds(dataset, arrays)
    assert dataset.name == "folder"


def test_order_data_environment_cache_mirrors(
    tmp_path: Path,
    cache: Path,
    mirrors: tuple[Mirror, Mirror],
    originals: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutil.copytree(originals, cache)
    of_data = make_folder(tmp_path / "data", seed=1)
    of_variable = make_folder(tmp_path / "variable", seed=2)

    monkeypatch.setenv("FASTMLP_DATA", str(tmp_path / "variable"))
    assert_holds(load_mnist(tmp_path / "data"), of_data)
    assert_holds(load_mnist(), of_variable)
    monkeypatch.delenv("FASTMLP_DATA")
    assert_holds(load_mnist(), small_arrays(0))
    assert mirrors[0].requests == mirrors[1].requests == []
    shutil.rmtree(cache)
    assert_holds(load_mnist(progress=False), small_arrays(0))
    assert mirrors[0].requests == list(FILES)


def test_empty_environment_variable_counts_as_unset(
    originals: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(originals, cache)
    monkeypatch.setenv("FASTMLP_DATA", "")
    assert load_mnist().name == "MNIST"


@pytest.mark.parametrize("missing", [FILES, FILES[:1], FILES[1:3], FILES[3:]])
@pytest.mark.parametrize("variable", [False, True])
def test_missing_files(
    tmp_path: Path,
    cache: Path,
    mirrors: tuple[Mirror, Mirror],
    originals: Path,
    monkeypatch: pytest.MonkeyPatch,
    missing: tuple[str, ...],
    variable: bool,
) -> None:
    shutil.copytree(originals, cache)
    make_folder(tmp_path / "folder", seed=1)
    for name in missing:
        (tmp_path / "folder" / name).unlink()
    if variable:
        monkeypatch.setenv("FASTMLP_DATA", str(tmp_path / "folder"))
    with pytest.raises(FileNotFoundError) as error:
        load_mnist(None if variable else tmp_path / "folder")
    message = str(error.value)
    assert str(tmp_path / "folder") in message
    assert ("FASTMLP_DATA" in message) == variable
    assert {name for name in FILES if name in message} == set(missing)
    assert mirrors[0].requests == []


def test_absent_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=re.escape(str(tmp_path / "absent"))):
        load_mnist(tmp_path / "absent")


@pytest.mark.parametrize("dotted", [False, True])
@pytest.mark.parametrize("compressed", [False, True])
def test_names_of_files(tmp_path: Path, dotted: bool, compressed: bool) -> None:
    arrays = small_arrays(1)
    for name, array in arrays.items():
        spelling = name if compressed else name.removesuffix(".gz")
        write_idx(tmp_path / (spelling.replace("s-idx", "s.idx") if dotted else spelling), array)
    assert_holds(load_mnist(tmp_path), arrays)


def test_names_are_as_documented(tmp_path: Path) -> None:
    arrays = make_folder(tmp_path / "folder", seed=1)
    write_idx(tmp_path / "folder" / "train-images.idx3-ubyte", arrays[IMAGES])
    (tmp_path / "folder" / "train-images-idx3-ubyte.gz").unlink()
    assert_holds(load_mnist(tmp_path / "folder"), arrays)


def test_a_folder_is_not_taken_for_a_file(tmp_path: Path) -> None:
    arrays = make_folder(tmp_path / "folder", seed=1)
    for name, array in arrays.items():
        plain = name.removesuffix(".gz")
        (tmp_path / "folder" / name).unlink()
        (tmp_path / "folder" / plain).mkdir()
        write_idx(tmp_path / "folder" / plain.replace("-idx", ".idx"), array)
    assert_holds(load_mnist(tmp_path / "folder"), arrays)


def test_name_of_the_original_files(originals: Path) -> None:
    assert load_mnist(originals).name == "MNIST"


@pytest.mark.parametrize("changed", [IMAGES, TEST_IMAGES])
def test_name_when_images_differ(originals: Path, changed: str) -> None:
    images = read_idx(originals / changed)
    write_idx(originals / changed, 255 - images)
    assert load_mnist(originals).name == "originals"


def test_name_when_not_compressed(originals: Path) -> None:
    for name in FILES:
        content = gzip.decompress((originals / name).read_bytes())
        (originals / name).unlink()
        (originals / name.removesuffix(".gz")).write_bytes(content)
    assert load_mnist(originals).name == "originals"


def test_name_of_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_folder(tmp_path / "folder", seed=1)
    monkeypatch.chdir(tmp_path / "folder")
    assert load_mnist(".").name == "folder"


@pytest.mark.parametrize("part", [LABELS, TEST_LABELS])
def test_number_of_classes(tmp_path: Path, part: str) -> None:
    arrays = make_folder(tmp_path / "folder", seed=1)
    arrays[part][0] = 25
    write_idx(tmp_path / "folder" / part, arrays[part])
    assert load_mnist(tmp_path / "folder").classes == 26


# Folders whose files do not fit


@pytest.mark.parametrize(
    ("changed", "array", "message"),
    [
        (IMAGES, np.zeros((30, 20), np.uint8), "2-d array of uint8, expected a 3-d array of uint8"),
        (TEST_IMAGES, np.zeros((20, 4, 5, 1), np.uint8), "4-d array of uint8, expected a 3-d"),
        (IMAGES, np.zeros((30, 4, 5), np.float32), "3-d array of float32, expected a 3-d array of uint8"),
        (LABELS, np.zeros((30, 1), np.uint8), "2-d array of uint8, expected a 1-d array of uint8"),
        (TEST_LABELS, np.zeros(20, np.int32), "1-d array of int32, expected a 1-d array of uint8"),
        (LABELS, np.zeros(29, np.uint8), "29 labels, expected 30"),
        (TEST_LABELS, np.zeros(21, np.uint8), "21 labels, expected 20"),
        (TEST_IMAGES, np.zeros((20, 5, 4), np.uint8), r"images of shape \(5, 4\), expected \(4, 5\)"),
        (IMAGES, np.zeros((0, 4, 5), np.uint8), "no images"),
        (TEST_IMAGES, np.zeros((20, 4, 0), np.uint8), "no images"),
    ],
)
def test_wrong_content(tmp_path: Path, changed: str, array: npt.NDArray[Any], message: str) -> None:
    make_folder(tmp_path / "folder", seed=1)
    path = tmp_path / "folder" / changed
    write_idx(path, array)
    with pytest.raises(ValueError, match=re.escape(str(path)) + ": .*" + message):
        load_mnist(tmp_path / "folder")


@pytest.mark.parametrize("name", FILES)
def test_damaged_file(tmp_path: Path, name: str) -> None:
    make_folder(tmp_path / "folder", seed=1)
    path = tmp_path / "folder" / name
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match=re.escape(str(path)) + ": damaged gzip stream"):
        load_mnist(tmp_path / "folder")


# Arguments


@pytest.mark.parametrize("data", [3, b"folder", ["folder"]])
def test_data_of_wrong_type(data: Any) -> None:
    with pytest.raises(TypeError, match=r"data must be a str, an os\.PathLike or None, got"):
        load_mnist(data)


@pytest.mark.parametrize("argument", ["download", "progress"])
@pytest.mark.parametrize("value", [1, None, "no"])
def test_flag_of_wrong_type(tmp_path: Path, argument: str, value: Any) -> None:
    make_folder(tmp_path / "folder", seed=1)
    with pytest.raises(TypeError, match=f"{argument} must be a bool, got"):
        load_mnist(tmp_path / "folder", **{argument: value})


# Cache and download


def test_download_fills_the_cache_once(cache: Path, mirrors: tuple[Mirror, Mirror], originals: Path) -> None:
    for _ in range(2):
        dataset = load_mnist(progress=False)
        assert_holds(dataset, small_arrays(0))
        assert dataset.name == "MNIST"
    assert mirrors[0].requests == list(FILES)
    assert mirrors[1].requests == []
    assert sorted(path.name for path in cache.iterdir()) == sorted(FILES)
    for name in FILES:
        assert (cache / name).read_bytes() == (originals / name).read_bytes()


def test_cache_without_download(originals: Path, cache: Path) -> None:
    shutil.copytree(originals, cache)
    dataset = load_mnist(download=False)
    assert_holds(dataset, small_arrays(0))
    assert dataset.name == "MNIST"


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["flipped", "truncated", "longer", "missing"])
def test_broken_file_in_the_cache_is_downloaded_again(
    cache: Path, mirrors: tuple[Mirror, Mirror], originals: Path, name: str, damage: str
) -> None:
    shutil.copytree(originals, cache)
    content = bytearray((cache / name).read_bytes())
    if damage == "flipped":
        content[5] ^= 1  # a byte of the gzip header, which only the checksum reveals
    elif damage == "truncated":
        del content[-1]
    elif damage == "longer":
        content.append(0)
    (cache / name).write_bytes(content)
    if damage == "missing":
        (cache / name).unlink()

    assert_holds(load_mnist(progress=False), small_arrays(0))
    assert mirrors[0].requests == [name]
    assert (cache / name).read_bytes() == (originals / name).read_bytes()


@pytest.mark.parametrize("damage", [True, False])
def test_no_download(cache: Path, mirrors: tuple[Mirror, Mirror], originals: Path, damage: bool) -> None:
    shutil.copytree(originals, cache)
    if damage:
        (cache / LABELS).write_bytes(b"damaged")
    else:
        (cache / LABELS).unlink()
    with pytest.raises(MnistUnavailable) as error:
        load_mnist(download=False)
    for part in (str(cache), f"missing or with a wrong checksum: {LABELS})", "data=", "FASTMLP_DATA"):
        assert part in str(error.value)
    assert mirrors[0].requests == []


def test_no_download_creates_nothing(tmp_path: Path) -> None:
    with pytest.raises(MnistUnavailable):
        load_mnist(download=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("status", [403, 404, 500])
def test_second_mirror_after_an_error(mirrors: tuple[Mirror, Mirror], status: int) -> None:
    mirrors[0].answers[TEST_IMAGES] = status
    assert_holds(load_mnist(progress=False), small_arrays(0))
    assert mirrors[0].requests == list(FILES)
    assert mirrors[1].requests == [TEST_IMAGES]


def test_second_mirror_when_the_first_is_down(
    mirrors: tuple[Mirror, Mirror], monkeypatch: pytest.MonkeyPatch
) -> None:
    with_nobody = "http://127.0.0.1:1/mnist/"
    monkeypatch.setattr(mnist, "_MIRRORS", (with_nobody, mirrors[1].url))
    assert_holds(load_mnist(progress=False), small_arrays(0))
    assert mirrors[1].requests == list(FILES)


@pytest.mark.parametrize("wrong", ["flipped", "truncated", "longer", "page", "empty"])
def test_wrong_bytes_are_reported_and_the_second_mirror_tried(
    cache: Path, mirrors: tuple[Mirror, Mirror], originals: Path, wrong: str
) -> None:
    right = (originals / LABELS).read_bytes()
    mirrors[0].answers[LABELS] = {
        "flipped": right[:5] + bytes([right[5] ^ 1]) + right[6:],
        "truncated": right[:-1],
        "longer": right + b"\0",
        "page": b"<html>Please log in</html>",
        "empty": b"",
    }[wrong]
    with pytest.warns(RuntimeWarning) as warned:
        dataset = load_mnist(progress=False)
    assert_holds(dataset, small_arrays(0))
    assert len(warned) == 1
    assert str(warned[0].message).startswith(f"{mirrors[0].url}{LABELS}: wrong content")
    assert warned[0].filename == __file__
    assert mirrors[1].requests == [LABELS]
    assert (cache / LABELS).read_bytes() == right


def test_no_more_is_read_than_needed(mirrors: tuple[Mirror, Mirror], originals: Path) -> None:
    size = len((originals / IMAGES).read_bytes())
    mirrors[0].answers[IMAGES] = bytes(10_000_000)
    with pytest.warns(RuntimeWarning, match=f"wrong content, {size + 1} bytes"):
        load_mnist(progress=False)


class Broken:
    """A connection that breaks off."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.closed = False

    def __enter__(self) -> Broken:
        return self

    def __exit__(self, *args: object) -> None:
        self.closed = True

    def read(self, size: int) -> bytes:
        raise self.error


@pytest.mark.parametrize(
    "error", [TimeoutError("timed out"), ConnectionResetError("reset"), http.client.IncompleteRead(b"")]
)
def test_broken_connection(
    cache: Path, originals: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    connections = []

    def open_broken(url: str) -> Broken:
        connections.append(Broken(error))
        return connections[-1]

    monkeypatch.setattr(mnist, "_MIRRORS", ("http://one/", "http://two/"))
    monkeypatch.setattr(mnist, "_open", open_broken)
    with pytest.raises(MnistUnavailable) as raised:
        load_mnist(progress=False)
    for part in (f"http://one/{IMAGES}", f"http://two/{IMAGES}", type(error).__name__, str(error)):
        assert part in str(raised.value)
    assert len(connections) == 2
    assert all(connection.closed for connection in connections)
    assert list(cache.iterdir()) == []


def test_http_errors_are_closed(originals: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = io.BytesIO(b"Not found")
    http_error = urllib.error.HTTPError("http://one/", 404, "Not Found", Message(), body)

    def open_absent(url: str) -> Any:
        raise http_error

    monkeypatch.setattr(mnist, "_MIRRORS", ("http://one/",))
    monkeypatch.setattr(mnist, "_open", open_absent)
    with pytest.raises(MnistUnavailable, match="HTTP Error 404"):
        load_mnist(progress=False)
    assert body.closed


def test_unavailable(cache: Path, mirrors: tuple[Mirror, Mirror]) -> None:
    mirrors[0].answers[LABELS] = 404
    mirrors[1].answers[LABELS] = b"wrong"
    with pytest.raises(MnistUnavailable) as error, pytest.warns(RuntimeWarning, match="wrong content"):
        load_mnist(progress=False)
    assert isinstance(error.value, OSError)
    message = str(error.value)
    for part in (
        f"{mirrors[0].url}{LABELS}: HTTPError: HTTP Error 404",
        f"{mirrors[1].url}{LABELS}: wrong content, 5 bytes",
        *FILES,
        "data=",
        "FASTMLP_DATA",
    ):
        assert part in message
    assert [path.name for path in cache.iterdir()] == [IMAGES]


def test_failed_write_into_the_cache(
    cache: Path, mirrors: tuple[Mirror, Mirror], originals: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(originals, cache)
    (cache / LABELS).write_bytes(b"damaged")

    def full(descriptor: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="disk full"):
        load_mnist(progress=False)
    assert sorted(path.name for path in cache.iterdir()) == sorted(FILES)
    assert (cache / LABELS).read_bytes() == b"damaged"
    assert mirrors[1].requests == []


def test_several_at_once(cache: Path, mirrors: tuple[Mirror, Mirror]) -> None:
    results: list[Dataset] = []
    threads = [threading.Thread(target=lambda: results.append(load_mnist(progress=False))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    for dataset in results:
        assert_holds(dataset, small_arrays(0))
    assert sorted(path.name for path in cache.iterdir()) == sorted(FILES)


def test_progress(cache: Path, mirrors: tuple[Mirror, Mirror], capfd: pytest.CaptureFixture[str]) -> None:
    load_mnist(progress=False)
    assert capfd.readouterr() == ("", "")
    shutil.rmtree(cache)
    load_mnist()
    out, err = capfd.readouterr()
    assert out == ""
    for name in FILES:
        assert name in err
    load_mnist()
    assert capfd.readouterr() == ("", "")


def test_file_urls(cache: Path, originals: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mnist, "_MIRRORS", (originals.as_uri() + "/",))
    assert_holds(load_mnist(progress=False), small_arrays(0))


def test_timeout_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    monkeypatch.setattr("urllib.request.urlopen", lambda url, **options: calls.append((url, options)))
    mnist._open("http://127.0.0.1/a")
    assert calls == [("http://127.0.0.1/a", {"timeout": 10.0})]


# The cache folder


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {"XDG_CACHE_HOME": "{tmp}/xdg"}, "{tmp}/xdg/fastmlp"),
        ("linux", {}, "{tmp}/home/.cache/fastmlp"),
        ("linux", {"XDG_CACHE_HOME": ""}, "{tmp}/home/.cache/fastmlp"),
        ("linux", {"XDG_CACHE_HOME": "relative"}, "{tmp}/home/.cache/fastmlp"),
        ("darwin", {"XDG_CACHE_HOME": "{tmp}/xdg"}, "{tmp}/home/Library/Caches/fastmlp"),
        ("win32", {"LOCALAPPDATA": "{tmp}/local"}, "{tmp}/local/fastmlp"),
        ("win32", {}, "{tmp}/home/AppData/Local/fastmlp"),
    ],
)
def test_cache_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, platform: str, variables: dict[str, str], expected: str
) -> None:
    monkeypatch.undo()  # the true function
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(tmp=tmp_path))
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    monkeypatch.setattr(sys, "platform", platform)
    assert mnist.cache_folder() == Path(expected.format(tmp=tmp_path))


# The real data


@pytest.mark.skipif(not REAL_FOLDER, reason="FASTMLP_DATA is not set")
def test_real_mnist() -> None:
    assert REAL_FOLDER is not None
    dataset = load_mnist(REAL_FOLDER)
    assert dataset.X_train.shape == (60000, 784)
    assert dataset.X_test.shape == (10000, 784)
    assert dataset.image_shape == (28, 28)
    assert dataset.classes == 10
    assert np.bincount(dataset.y_train).tolist() == [
        5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949
    ]  # fmt: skip
    assert np.bincount(dataset.y_test).tolist() == [
        980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009
    ]  # fmt: skip
    assert dataset.X_train.min() == 0
    assert dataset.X_train.max() == 255
    if all((Path(REAL_FOLDER) / name).is_file() for name in FILES):
        assert dataset.name == "MNIST"
        assert all(mnist.is_original(Path(REAL_FOLDER) / name, name) for name in FILES)
