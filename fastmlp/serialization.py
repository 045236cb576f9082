"""Model files: named tensors and a description of the model in one safetensors file.

The safetensors format (https://github.com/huggingface/safetensors) is a length, a JSON header and the raw
numbers; reading it runs no code from the file, unlike pickle. The header's metadata holds

    format          "fastmlp"
    format_version  "1"
    architecture    the description, as JSON
    training        in a checkpoint: the description of the state of training, as JSON

The tensors of the state of training have names that begin with "training.". Who wants the model only reads a
checkpoint as any other model file.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .validation import check_path

FORMAT = "fastmlp"
FORMAT_VERSION = "1"

Tensor = NDArray[Any]

# The name under which a safetensors header holds its metadata; no tensor can be called so.
_METADATA = "__metadata__"

# What the names of a checkpoint's tensors begin with that are not the model's.
TRAINING_PREFIX = "training."

# The longest header that the safetensors package reads.
MAX_HEADER_BYTES = 100_000_000


class ModelFileError(ValueError):
    """A file is not a model file that this version of fastmlp can read."""


@contextlib.contextmanager
def damage_reported(path: str | os.PathLike[str], kind: str) -> Iterator[None]:
    """Turn what goes wrong with the contents of a file, a "model" or a "checkpoint", into a ModelFileError."""
    try:
        yield
    except (KeyError, TypeError, ValueError, RecursionError) as problem:
        what = f"it lacks {problem}" if isinstance(problem, KeyError) else problem
        raise ModelFileError(f"{os.fspath(path)} is not a {kind} of fastmlp: {what}") from problem


def write_model_file(
    path: str | os.PathLike[str], tensors: Mapping[str, Tensor], description: Mapping[str, Any],
    training: Mapping[str, Any] | None = None,
) -> None:
    """Write a model file, all or nothing.

    The file is written under a temporary name in the same folder, flushed to the disk, and then put in the
    place of the old one in a single step. If anything fails before that step the old file is as it was, and
    the temporary one is removed. The same contents always give the same bytes.

    Parameters
    ----------
    path : str or os.PathLike
        The file to write. A file there is replaced and its permissions are kept; a new one gets those that
        `open` would give it. A symbolic link is followed.
    tensors : dict of str to ndarray
        The arrays by name: bool, int8 to int64, uint8 to uint64, float16, float32 or float64, of any shape
        and memory order.
    description : dict
        What else there is to know about the model: None, bool, int, finite float, str, and lists and dicts
        (with str keys) of these.
    training : dict, optional
        A description of the state of training, of the same values; its tensors are those whose names begin with
        "training.". By default the file is no checkpoint.

    Raises
    ------
    TypeError
        If an argument is not of its type.
    ValueError
        If `tensors` holds a name or a description a value that the file cannot hold.
    OSError
        If the file cannot be written: no such folder, no permission, no space, `path` is a folder.
    """
    target = os.path.realpath(check_path("path", path))
    metadata = {"architecture": _checked_description("description", description)}
    if training is not None:
        metadata["training"] = _checked_description("training", training)
    header, numbers = _encode(_checked_tensors(tensors), metadata)
    _replace_file(target, header, numbers)


def read_model_header(path: str | os.PathLike[str]) -> tuple[dict[str, tuple[int, ...]], dict[str, Any]]:
    """Read what a model file holds, but for its numbers, which may need any amount of memory.

    Parameters
    ----------
    path : str or os.PathLike
        A file written by `write_model_file`.

    Returns
    -------
    shapes : dict of str to tuple of int
        The shapes of the tensors that `read_model_file` would return, by name.
    description : dict
        The description as it was written (tuples come back as lists).

    Raises
    ------
    TypeError, ModelFileError, OSError
        As `read_model_file`.
    """
    name = check_path("path", path)
    with _opened(name) as (file, metadata):
        description = _read_description(name, metadata, "architecture")
        return {tensor: tuple(file.get_slice(tensor).get_shape()) for tensor in _names(file, metadata)}, description


def read_model_file(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a model file; of a checkpoint, what it holds of the model.

    That the tensors have the names, shapes and types that the description calls for is left to the caller
    to check; `read_model_header` tells names and shapes before memory is taken.

    Parameters
    ----------
    path : str or os.PathLike
        A file written by `write_model_file`.

    Returns
    -------
    tensors : dict of str to ndarray
        The arrays by name, writable and in C order.
    description : dict
        The description as it was written (tuples come back as lists).

    Raises
    ------
    TypeError
        If `path` is neither a str nor an os.PathLike.
    ModelFileError
        If the file is damaged or not a model file of a version known here.
    OSError
        If the file cannot be opened: FileNotFoundError, IsADirectoryError, PermissionError.
    MemoryError
        If there is not enough memory for a tensor.
    """
    name = check_path("path", path)
    with _opened(name) as (file, metadata):
        description = _read_description(name, metadata, "architecture")
        return {tensor: file.get_tensor(tensor) for tensor in _names(file, metadata)}, description


def read_checkpoint_file(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, Any], dict[str, Any]]:
    """Read a model file that is a checkpoint, all of it.

    Parameters
    ----------
    path : str or os.PathLike
        A file written by `write_model_file` with an argument `training`.

    Returns
    -------
    tensors, description, training
        As they were written (tuples come back as lists).

    Raises
    ------
    TypeError, ModelFileError, OSError, MemoryError
        As `read_model_file`; ModelFileError if the file holds a model only.
    """
    name = check_path("path", path)
    with _opened(name) as (file, metadata):
        if "training" not in metadata:
            raise ModelFileError(f"path={name!r} holds a model and no state of training; expected a file that "
                                 "Trainer.save wrote")
        description = _read_description(name, metadata, "architecture")
        training = _read_description(name, metadata, "training")
        names = file.keys()
        return {tensor: file.get_tensor(tensor) for tensor in names}, description, training


@contextlib.contextmanager
def _opened(name: str) -> Iterator[tuple[Any, dict[str, str]]]:
    """Open a model file of a version known here: the file and its metadata. What is wrong is a ModelFileError."""
    _check_readable(name)

    from safetensors import safe_open

    try:
        with safe_open(name, framework="numpy") as file:  # type: ignore[no-untyped-call, unused-ignore]
            yield file, _checked_metadata(name, file.metadata())
    except (ModelFileError, OSError, MemoryError):
        raise
    except Exception as error:  # a damaged header surfaces as one of many types, from Rust and from NumPy
        raise _not_a_model_file(name, f"it is damaged or of another format ({error})") from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # Rust's, and no Exception: what it makes of a lack of memory
            raise
        raise MemoryError(f"path={name!r} holds a tensor for which there is not enough memory") from error


def _names(file: Any, metadata: dict[str, str]) -> list[str]:
    """Names of the model's tensors."""
    return [tensor for tensor in file.keys()  # noqa: SIM118  (it is no dict)
            if "training" not in metadata or not tensor.startswith(TRAINING_PREFIX)]


def _checked_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    if not isinstance(tensors, Mapping):
        raise TypeError(f"tensors must be a dict of arrays by name, got {type(tensors).__name__}")
    for name, tensor in tensors.items():
        if not isinstance(name, str):
            raise TypeError(f"tensors must have names (str) as keys, got {name!r}")
        if name == _METADATA:
            raise ValueError(f"tensors must not use the name {name!r}: the file format reserves it")
        if not isinstance(tensor, np.ndarray):
            raise TypeError(f"tensors must hold NumPy arrays, got {type(tensor).__name__} for {name!r}")
        if tensor.dtype.kind not in "biuf" or tensor.dtype.itemsize > 8:
            raise TypeError(
                f"tensors must hold arrays of bool, integers or floats of up to 64 bits, "
                f"got {tensor.dtype} for {name!r}"
            )
    # The format knows only the C order, and the package below does not look at an array's strides.
    return {name: np.asarray(tensor, order="C") for name, tensor in tensors.items()}


def _checked_description(argument: str, description: Mapping[str, Any]) -> str:
    if not isinstance(description, Mapping):
        raise TypeError(f"{argument} must be a dict, got {type(description).__name__}")
    try:
        return json.dumps(dict(description), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{argument} must hold values that JSON knows: {error}") from error


def _encode(tensors: dict[str, Tensor], descriptions: dict[str, str]) -> tuple[bytes, memoryview]:
    """The header and the numbers of the file.

    The package would write the metadata in an order that changes from run to run. So it encodes the tensors
    alone, and the metadata are put into the header here.
    """
    import safetensors.numpy

    encoded = safetensors.numpy.save(tensors)
    start = 8 + int.from_bytes(encoded[:8], "little")
    metadata = {"format": FORMAT, "format_version": FORMAT_VERSION, **descriptions}
    header = json.dumps({_METADATA: metadata, **json.loads(encoded[8:start])}, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # so that the numbers are aligned
    if len(header) > MAX_HEADER_BYTES:
        raise ValueError(f"tensors and descriptions must need at most {MAX_HEADER_BYTES} bytes of JSON, got "
                         f"{len(header)}")
    return len(header).to_bytes(8, "little") + header, memoryview(encoded)[start:]


def _replace_file(target: str, *contents: bytes | memoryview) -> None:
    """Put a file with these contents in the place of `target`, in one step."""
    folder = os.path.dirname(target)
    if not os.path.isdir(folder):
        raise FileNotFoundError(errno.ENOENT, "No such folder to write the model file into", folder)
    permissions = _permissions(target)
    temporary = os.path.join(folder, f".fastmlp-{secrets.token_hex(8)}.tmp")

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags, 0o666 if permissions is None else permissions)

    try:
        with open(temporary, "xb", opener=opener) as file:
            if permissions is not None:
                os.chmod(temporary, permissions)  # the umask does not count for a file that was there
            for part in contents:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    _sync_folder(folder)


def _permissions(target: str) -> int | None:
    """The permissions of the file that will be replaced; None if there is none."""
    try:
        mode = os.stat(target).st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "A model file cannot take the place of a folder", target)
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "A model file can take the place of a regular file only", target)
    return mode & 0o777


def _sync_folder(folder: str) -> None:
    """Make the new name last through a power cut, where the system can: the file itself is safe by now."""
    if os.name == "posix":
        with contextlib.suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def _check_readable(name: str) -> None:
    """Refuse what is no regular file (opening a pipe would wait for ever), and what may not be read.

    safetensors reports every file that it cannot open as missing; `open` gives the true reason.
    """
    mode = os.stat(name).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "A model file is expected, this is a folder", name)
    if not stat.S_ISREG(mode):
        raise _not_a_model_file(name, "it is a device, a pipe or a socket")
    with open(name, "rb"):
        pass


def _checked_metadata(name: str, metadata: dict[str, str] | None) -> dict[str, str]:
    if metadata is None or metadata.get("format") != FORMAT:
        raise _not_a_model_file(name, "it is a safetensors file of another program")
    version = metadata.get("format_version")
    if version != FORMAT_VERSION:
        raise ModelFileError(
            f"path={name!r} is a fastmlp model file of format_version {version!r}; "
            f"this version of fastmlp reads {FORMAT_VERSION!r}"
        )
    return metadata


def _read_description(name: str, metadata: dict[str, str], key: str) -> dict[str, Any]:
    try:
        description = json.loads(metadata.get(key, ""))
    except (ValueError, RecursionError) as error:
        raise _not_a_model_file(name, f"its {key} is no valid JSON ({error})") from error
    if not isinstance(description, dict):
        raise _not_a_model_file(name, f"its {key} is no JSON object")
    return description


def _not_a_model_file(name: str, reason: str) -> ModelFileError:
    return ModelFileError(
        f"path={name!r} is not a fastmlp model file: {reason}; expected a safetensors file that fastmlp wrote"
    )
