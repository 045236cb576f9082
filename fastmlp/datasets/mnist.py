"""The MNIST data set: found on disk, or downloaded once into a cache folder."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from fastmlp.datasets.dataset import Dataset
from fastmlp.datasets.idx import open_atomically, read_idx

_MIRRORS: tuple[str, ...] = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
_TIMEOUT = 10.0  # seconds
# Size in bytes and sha256 of the original files: training images and labels, test images and labels.
ORIGINALS = {
    "train-images-idx3-ubyte.gz": (
        9912422,
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    ),
    "train-labels-idx1-ubyte.gz": (
        28881,
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    ),
    "t10k-images-idx3-ubyte.gz": (
        1648877,
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    ),
    "t10k-labels-idx1-ubyte.gz": (
        4542,
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    ),
}
_ADVICE = (
    f"Put the four files ({', '.join(ORIGINALS)}) in a folder and pass it as data=, "
    "or set the environment variable FASTMLP_DATA to it."
)


class MnistUnavailable(OSError):
    """MNIST is not on this computer and could not be, or was not to be, downloaded."""


def load_mnist(
    data: str | os.PathLike[str] | None = None, *, download: bool = True, progress: bool = True
) -> Dataset:
    """Load MNIST, or another data set in the format of MNIST.

    The four files are looked for in the folder `data` if given; else in the folder that the environment
    variable FASTMLP_DATA names, if set; else in the folder ``mnist`` of `cache_folder`, into which those
    that are missing or have a wrong checksum are downloaded first.

    Parameters
    ----------
    data : str or os.PathLike, optional
        Folder with the files ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte``,
        ``t10k-images-idx3-ubyte`` and ``t10k-labels-idx1-ubyte``, each with or without ``.gz``; the
        spelling ``train-images.idx3-ubyte`` is accepted too. They may hold any data set in this format,
        such as Fashion-MNIST. Nothing is looked for elsewhere.
    download : bool
        Whether files missing from the cache folder may be downloaded.
    progress : bool
        Whether a download shows a progress bar on standard error.

    Returns
    -------
    Dataset
        For MNIST: `X_train` uint8 of shape (60000, 784), `y_train` int64 of shape (60000,), `X_test`
        uint8 of shape (10000, 784), `y_test` int64 of shape (10000,), values 0 to 255, classes 0 to 9.
        Its name is "MNIST" if both files of images are the original ``.gz`` files, else the name of the
        folder; its number of classes is the greatest label plus one.

    Raises
    ------
    TypeError
        If `data` is no path, or `download` or `progress` no bool.
    FileNotFoundError
        If files are missing from the folder given by `data` or FASTMLP_DATA.
    ValueError
        If a file is no valid IDX file, or not of uint8 images (3-d) or labels (1-d), if images and labels
        differ in number, or training and test images in shape, or if there are no images.
    MnistUnavailable
        If the cache folder lacks files and `download` is false or no mirror delivers them.
    OSError
        If a file cannot be read, or the cache folder not be written.

    Warns
    -----
    RuntimeWarning
        If a mirror delivers something else than the original file; the next one is then tried.

    Notes
    -----
    Source: Y. LeCun, C. Cortes and C. J. C. Burges, The MNIST database of handwritten digits,
    http://yann.lecun.com/exdb/mnist/, CC BY-SA 3.0.
    """
    if data is not None and not isinstance(data, (str, os.PathLike)):
        raise TypeError(f"data must be a str, an os.PathLike or None, got {type(data).__name__}")
    for argument, value in (("download", download), ("progress", progress)):
        if not isinstance(value, bool):
            raise TypeError(f"{argument} must be a bool, got {type(value).__name__}")

    if data is not None:
        return _load_folder(Path(data), "data")
    if variable := os.environ.get("FASTMLP_DATA"):
        return _load_folder(Path(variable), "the environment variable FASTMLP_DATA")

    cache = cache_folder() / "mnist"
    missing = [name for name in ORIGINALS if not is_original(cache / name, name)]
    if missing and not download:
        raise MnistUnavailable(
            f"MNIST is not in the cache folder {cache} (missing or with a wrong checksum: "
            f"{', '.join(missing)}), and download is False. {_ADVICE}"
        )
    for name in missing:
        try:
            cache.mkdir(parents=True, exist_ok=True)
            content = _download(name, progress)
            with open_atomically(cache / name) as file:
                file.write(content)
        except MnistUnavailable:
            raise
        except OSError as problem:
            raise MnistUnavailable(f"{name} could not be written to the cache folder: {problem}. {_ADVICE}") from None
    return _load_files([cache / name for name in ORIGINALS], "MNIST")


def cache_folder() -> Path:
    """Return the folder in which downloaded data sets are kept (it need not exist).

    Returns
    -------
    pathlib.Path
        ``~/Library/Caches/fastmlp`` on macOS, ``%LOCALAPPDATA%\\fastmlp`` on Windows, elsewhere
        ``$XDG_CACHE_HOME/fastmlp``, or ``~/.cache/fastmlp`` if that variable is no absolute path.
    """
    if sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    elif sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME", ""))
        if not base.is_absolute():
            base = Path.home() / ".cache"
    return base / "fastmlp"


def _load_folder(folder: Path, origin: str) -> Dataset:
    paths = []
    missing = []
    for name in ORIGINALS:
        plain = name.removesuffix(".gz")
        dotted = plain.replace("-idx", ".idx")
        candidates = [folder / spelling for spelling in (name, plain, dotted + ".gz", dotted)]
        found = [path for path in candidates if path.is_file()]
        paths += found[:1]
        if not found:
            missing.append(name)
    if missing:
        raise FileNotFoundError(
            f"{origin} must be a folder with the four files of MNIST, got {folder}, which lacks "
            f"{', '.join(missing)} (also looked for without .gz, and with .idx instead of -idx)"
        )
    images = [(path, name) for path, name in zip(paths, ORIGINALS, strict=True) if "images" in name]
    original = all(is_original(path, name) for path, name in images)
    return _load_files(paths, "MNIST" if original else folder.resolve().name)


def _load_files(paths: Sequence[Path], name: str) -> Dataset:
    train_images, train_labels, test_images, test_labels = paths
    X_train, y_train = _load_part(train_images, train_labels)
    X_test, y_test = _load_part(test_images, test_labels)
    rows, columns = X_train.shape[1:]
    if X_test.shape[1:] != (rows, columns):
        raise ValueError(
            f"{test_images}: images of shape {X_test.shape[1:]}, "
            f"expected {(rows, columns)} as in {train_images}"
        )
    return Dataset(
        name=name,
        X_train=X_train.reshape(-1, rows * columns),
        y_train=y_train,
        X_test=X_test.reshape(-1, rows * columns),
        y_test=y_test,
        image_shape=(rows, columns),
        classes=int(max(y_train.max(), y_test.max())) + 1,
    )


def _load_part(images_path: Path, labels_path: Path) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    images = _read_bytes(images_path, dimensions=3)
    labels = _read_bytes(labels_path, dimensions=1)
    if images.size == 0:
        raise ValueError(f"{images_path}: no images, the shape is {images.shape}")
    if len(labels) != len(images):
        raise ValueError(f"{labels_path}: {len(labels)} labels, expected {len(images)} as in {images_path}")
    return images, labels.astype(np.int64)


def _read_bytes(path: Path, dimensions: int) -> npt.NDArray[Any]:
    array = read_idx(path)
    if array.dtype != np.uint8 or array.ndim != dimensions:
        raise ValueError(
            f"{path}: {array.ndim}-d array of {array.dtype}, expected a {dimensions}-d array of uint8"
        )
    return array


def is_original(path: Path, name: str) -> bool:
    size, sha256 = ORIGINALS[name]
    return path.is_file() and path.stat().st_size == size and _sha256(path.read_bytes()) == sha256


def _sha256(content: bytes) -> str:
    import hashlib

    return hashlib.sha256(content).hexdigest()


def _download(name: str, progress: bool) -> bytes:
    """Return the content of an original file, from the first mirror that delivers it."""
    import http.client
    import urllib.error

    size, sha256 = ORIGINALS[name]
    failures = []
    for mirror in _MIRRORS:
        url = mirror + name
        try:
            content = _fetch(url, size, progress)
        except (OSError, http.client.HTTPException) as error:
            failures.append(f"{url}: {type(error).__name__}: {error}")
            if isinstance(error, urllib.error.HTTPError):
                error.close()
            continue
        if _sha256(content) == sha256:
            return content
        failures.append(
            f"{url}: wrong content, {len(content)} bytes with sha256 {_sha256(content)}, "
            f"expected {size} bytes with sha256 {sha256}"
        )
        warnings.warn(failures[-1], RuntimeWarning, stacklevel=3)
    tried = "".join(f"\n  {failure}" for failure in failures)
    raise MnistUnavailable(f"{name} could not be downloaded. Tried:{tried}\n{_ADVICE}")


def _fetch(url: str, size: int, progress: bool) -> bytes:
    """Return what `url` delivers, but at most ``size + 1`` bytes."""
    from tqdm import tqdm  # type: ignore[import-untyped, unused-ignore]

    content = bytearray()
    description = url.rsplit("/", 1)[1]
    with (
        _open(url) as response,
        tqdm(total=size, unit="B", unit_scale=True, desc=description, disable=not progress) as bar,
    ):
        while chunk := response.read(min(1 << 16, size + 1 - len(content))):
            content += chunk
            bar.update(len(chunk))
    return bytes(content)


def _open(url: str) -> IO[bytes]:
    import urllib.request

    response: IO[bytes] = urllib.request.urlopen(url, timeout=_TIMEOUT)
    return response
