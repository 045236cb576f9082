"""Sets larger than memory: read in pieces, shuffled a window at a time, the next window read during training.

Pieces are blocks of rows of an array, chunks that an iterable gives, or items of a data set. They are checked and
copied, one after another, into a window of rows; its order is drawn, and whole batches are trained on in that order.
Rows that are left over go before the new rows of the next window, so that every batch but the last of an epoch is full.
Nothing depends on when something is read: the same seed gives the same batches.
"""

from __future__ import annotations

import mmap
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .arrays import KINDS, Source, Targets, check_inputs, check_weights
from .kernels.batches import LABELS
from .kernels.layout import address_of
from .losses import class_weights
from .validation import check_integer

if TYPE_CHECKING:
    from .trainer import Trainer

Array = NDArray[Any]

WINDOW_BYTES = 64 << 20  # inputs and targets of a window, by default; two windows are in memory at a time
BLOCKS_PER_WINDOW = 32  # of an array: with more of them it is better mixed, with fewer of them read in longer runs
ITEMS_PER_PIECE = 64
SECONDS_TO_END = 0.1  # that the thread which reads is waited for


class Piece(NamedTuple):
    """Rows that were checked: inputs (n, inputs), labels (n,) or targets (n, outputs), and weights (n,) or None."""

    X: Array
    y: Array
    weights: Array | None

    def take(self, rows: Any) -> Piece:
        """Return some of the rows, by a slice or an array of their numbers."""
        return Piece(self.X[rows], self.y[rows], None if self.weights is None else self.weights[rows])


@dataclass
class Window:
    """Rows in memory, and which of them to train on in which order."""

    source: Source
    targets: Targets
    order: NDArray[np.int64]  # whole batches; in the last window of an epoch also what is left
    is_last: bool


class _Buffer:
    """A window that is being filled: with rows that the window before left over, then with up to `new_rows` new ones.

    Memory is made for as many, or for `expected` of them if there may be fewer, and for more when they come.
    """

    def __init__(self, left_over: Piece, new_rows: int, expected: int | None = None) -> None:
        self.left_over = len(left_over.X)
        self.rows = self.left_over + new_rows
        capacity = self.rows if expected is None else self.left_over + min(new_rows, expected)
        self.X, self.y = (np.empty((capacity, *array.shape[1:]), array.dtype) for array in (left_over.X, left_over.y))
        self.weights = np.empty(capacity)
        self.weighted = False
        self.count = 0
        self.add(left_over)

    @property
    def room(self) -> int:
        return self.rows - self.count

    def add(self, piece: Piece) -> None:
        """Copy rows into the window."""
        # A chunk may have another dtype than those before.
        self.X = self.X.astype(np.promote_types(self.X.dtype, piece.X.dtype), copy=False)
        self.y = self.y.astype(np.promote_types(self.y.dtype, piece.y.dtype), copy=False)
        rows = slice(self.count, self.count + len(piece.X))
        if rows.stop > len(self.X):
            capacity = min(self.rows, max(rows.stop, 2 * len(self.X)))
            self.X, self.y, self.weights = (_enlarged(array, capacity) for array in (self.X, self.y, self.weights))
        self.X[rows], self.y[rows] = piece.X, piece.y
        self.weights[rows] = 1.0 if piece.weights is None else piece.weights
        self.weighted |= piece.weights is not None
        self.count = rows.stop

    def contents(self) -> Piece:
        rows = slice(self.count)
        return Piece(self.X[rows], self.y[rows], self.weights[rows] if self.weighted else None)


def _enlarged(array: Array, rows: int) -> Array:
    """Return an array of so many rows that begins with those of another."""
    larger = np.empty((rows, *array.shape[1:]), array.dtype)
    larger[: len(array)] = array
    return larger


class Stream(ABC):
    """Data that is read in pieces, in every epoch anew.

    Attributes
    ----------
    batch : int
        Rows of an update.
    steps : int or None
        Updates of an epoch; None until the end of the first, if they are not known beforehand.
    rows : int or None
        Rows of an epoch, if they are known beforehand.
    closed : bool
        Set it, and the pieces that are still to come are not read any more.
    """

    def __init__(self, trainer: Trainer, shuffle: bool, class_weight: Any, window: int | None,
                 steps: int | None) -> None:
        self.model, self.loss, self.seed = trainer.model, trainer.loss, trainer.seed
        self.batch = trainer.batch_size * trainer.accumulation
        self.window = None if window is None else check_integer("window", window, low=self.batch)
        self.steps = None if steps is None else check_integer("steps_per_epoch", steps, low=1)
        self.rows: int | None = None
        self.closed = False
        self._most_rows = None if self.steps is None else self.steps * self.batch
        self.shuffle = shuffle
        if isinstance(class_weight, str):
            raise ValueError("class_weight must be None or a dict for an X that is read in windows, got "
                             f"{class_weight!r}")
        self.class_weight = class_weight
        if class_weight is not None:
            class_weights(class_weight, np.zeros(0, np.int64), self.model.outputs)
        self._has_labels: bool | None = None

    @abstractmethod
    def pieces(self, rng: np.random.Generator) -> Iterator[Piece]:
        """Yield the pieces of an epoch; where `shuffle` is set, `rng` may draw their order."""

    def windows(self, epoch: int) -> Generator[Window, None, None]:
        """Yield the windows of an epoch.

        Raises
        ------
        TypeError, ValueError
            If a piece is not allowed, or there are more or fewer of them than in other epochs.
        """
        rng = np.random.default_rng([self.seed, epoch])
        buffer = None
        rows = 0  # of the windows so far
        for piece in self._limited(self.pieces(rng)):
            if buffer is None:
                new_rows = self._window_rows(piece)
                expected = self._default_rows(piece) if self.rows is None else None
                buffer = _Buffer(piece.take(slice(0)), new_rows, expected)
            begin = 0
            while begin < len(piece.X):
                if buffer.room == 0:
                    window, left_over = self._cut(buffer, rng, is_last=False)
                    rows += len(window.order)
                    if self.steps is not None and rows >= self.steps * self.batch:
                        raise self._wrong_length(epoch, "more")
                    yield window
                    buffer = _Buffer(left_over, new_rows)
                end = min(begin + buffer.room, len(piece.X))
                buffer.add(piece.take(slice(begin, end)))
                begin = end
        if buffer is None:
            raise ValueError(f"X must give rows in every epoch, got none in epoch {epoch}; an iterator is used up by "
                             "one epoch: for more give a list, or a function that returns a new iterator")
        steps = -(-(rows + buffer.count) // self.batch)
        if self.steps is not None and steps != self.steps:
            raise self._wrong_length(epoch, str(steps))
        self.steps = steps
        yield self._cut(buffer, rng, is_last=True)[0]

    def _wrong_length(self, epoch: int, found: str) -> ValueError:
        return ValueError(f"X must give {self.steps} batches of {self.batch} rows in every epoch, got {found} in epoch "
                          f"{epoch}; steps_per_epoch sets how many are used")

    def _limited(self, pieces: Iterator[Piece]) -> Iterator[Piece]:
        """Yield the pieces that hold rows, up to the number of steps that was asked for."""
        left = self._most_rows
        for piece in pieces:
            if self.closed:
                return
            if len(piece.X):
                yield piece.take(slice(left))
            if left is not None:
                left -= len(piece.X)
                if left <= 0:
                    return

    def _window_rows(self, piece: Piece) -> int:
        """Return the number of new rows in a window, for rows like these."""
        rows = max(self.batch, self._default_rows(piece)) if self.window is None else self.window
        return rows if self.rows is None else min(rows, self.rows)

    def _default_rows(self, piece: Piece) -> int:
        return WINDOW_BYTES // (piece.X[:1].nbytes + piece.y[:1].nbytes)

    def _cut(self, buffer: _Buffer, rng: np.random.Generator, *, is_last: bool) -> tuple[Window, Piece]:
        """Draw the order of a window; return it, and the rows that it leaves for the next one."""
        order = np.arange(buffer.count, dtype=np.int64)
        if self.shuffle:
            rng.shuffle(order[buffer.left_over :])
        used = buffer.count if is_last else buffer.count // self.batch * self.batch
        rows = buffer.contents()
        targets = Targets(_source(rows.y), self.loss.kernel_code(self.model.dtype), np.array([self.loss.parameter]),
                          rows.weights)
        return Window(_source(rows.X), targets, order[:used], is_last), rows.take(order[used:])

    def _check(self, place: str, X: Any, y: Any, sample_weight: Any = None) -> Piece:
        """Check the rows of a piece as `Trainer.fit` does those of arrays; errors begin with their place."""
        model = self.model
        try:
            inputs = check_inputs(X, model.inputs, model.dtype, empty=True)
            targets = self.loss.check_y(y, inputs.rows, model.outputs, model.dtype)
            weights = None if sample_weight is None else check_weights("sample_weight", sample_weight, inputs.rows)
            if self.class_weight is not None:
                by_class = class_weights(self.class_weight, self.loss.classes_of(targets), model.outputs)
                weights = by_class if weights is None else weights * by_class
            if self._has_labels is None:
                self._has_labels = targets.kind == LABELS
            elif self._has_labels != (targets.kind == LABELS):
                raise ValueError("y must be labels everywhere or nowhere, got both")
        except (TypeError, ValueError) as problem:
            raise type(problem)(f"{place}: {problem}") from None
        return Piece(inputs.array, targets.array, weights)

    def _set_rows(self, rows: int) -> None:
        """Take note of the rows of an epoch where they are known beforehand."""
        if rows == 0:
            raise ValueError("X must have at least one row, got none")
        steps = -(-rows // self.batch)
        if self.steps is not None:
            steps = check_integer("steps_per_epoch", self.steps, low=1, high=steps)
        self.steps, self.rows = steps, min(rows, steps * self.batch)


class Blocks(Stream):
    """An array, in memory or not, that is read in blocks of rows; their order is drawn for every epoch."""

    def __init__(self, X: Any, y: Any, sample_weight: Any, *settings: Any) -> None:
        super().__init__(*settings)
        self.X, self.y = (array if hasattr(array, "shape") else np.asarray(array) for array in (X, y))
        self.sample_weight = None if sample_weight is None else np.asarray(sample_weight)
        if len(self.X.shape) != 2:
            raise ValueError(f"X must be an array of real numbers of shape (rows, {self.model.inputs}), got shape "
                             f"{tuple(self.X.shape)}")
        rows = self.X.shape[0]
        for name, array in (("y", self.y), ("sample_weight", self.sample_weight)):
            if array is not None and tuple(array.shape[:1]) != (rows,):
                raise ValueError(f"{name} must have one row for each of the {rows} rows of X, got shape "
                                 f"{tuple(array.shape)}")
        self._set_rows(rows)
        self.block_rows = max(1, self._window_rows(self._block(0, 1)) // BLOCKS_PER_WINDOW)

    def pieces(self, rng: np.random.Generator) -> Iterator[Piece]:
        """Yield blocks of consecutive rows."""
        rows = self.X.shape[0]
        begins = np.arange(0, rows, self.block_rows)
        if self.shuffle:
            rng.shuffle(begins)
        for begin in begins.tolist():
            end = min(begin + self.block_rows, rows)
            yield self._block(begin, end)
            for array in (self.X, self.y):
                if isinstance(array, np.memmap):
                    _forget_pages(array[begin:end])

    def _block(self, begin: int, end: int) -> Piece:
        weights = None if self.sample_weight is None else self.sample_weight[begin:end]
        place = f"in the {end - begin} rows from row {begin} on"
        return self._check(place, self.X[begin:end], self.y[begin:end], weights)


class Chunks(Stream):
    """Chunks (X, y) or (X, y, sample_weight) that an iterable gives, or what a function returns, in their order."""

    def __init__(self, chunks: Iterable[Any] | Callable[[], Iterable[Any]], *settings: Any) -> None:
        super().__init__(*settings)
        self.chunks = chunks

    def pieces(self, rng: np.random.Generator) -> Iterator[Piece]:
        """Yield the chunks."""
        chunks = self.chunks if isinstance(self.chunks, Iterable) else self.chunks()
        if not isinstance(chunks, Iterable):
            raise TypeError(f"X must return an iterable of chunks, got {type(chunks).__name__}")
        for number, chunk in enumerate(chunks):
            yield self._check(f"chunk {number}", *_check_tuple(f"chunk {number}", chunk))


class Items(Stream):
    """A data set whose item i is a row (x, y) or (x, y, sample_weight); their order is drawn for every epoch."""

    def __init__(self, dataset: Any, *settings: Any) -> None:
        super().__init__(*settings)
        self.dataset = dataset
        self._set_rows(len(dataset))

    def pieces(self, rng: np.random.Generator) -> Iterator[Piece]:
        """Yield some items at a time."""
        order = np.arange(len(self.dataset))
        if self.shuffle:
            rng.shuffle(order)
        for begin in range(0, len(order), ITEMS_PER_PIECE):
            numbers = order[begin : begin + ITEMS_PER_PIECE].tolist()
            rows = [_check_tuple(f"item {number}", self.dataset[number]) for number in numbers]
            try:
                piece = self._stacked("items", rows)
            except (TypeError, ValueError):
                for number, row in zip(numbers, rows, strict=True):  # which of them is it?
                    self._stacked(f"item {number}", [row])
                raise
            yield piece

    def _stacked(self, place: str, rows: list[tuple[Any, ...]]) -> Piece:
        return self._check(place, *(np.stack([np.asarray(value) for value in column])
                                    for column in zip(*rows, strict=True)))


def _check_tuple(place: str, values: Any) -> tuple[Any, ...]:
    if not isinstance(values, (tuple, list)) or len(values) not in (2, 3):
        raise TypeError(f"{place} must be a tuple (X, y) or (X, y, sample_weight), got {type(values).__name__}")
    return tuple(values)


def _source(array: Array) -> Source:
    """Describe rows of a window: inputs or targets (n, columns), or labels (n,)."""
    if array.ndim == 1:
        return Source(array, LABELS, 1)
    return Source(array, KINDS[array.dtype], array.shape[1])


def _forget_pages(block: Any) -> None:
    """Take rows of a memory-mapped file that were read out of this process's memory; the file still has them."""
    owner = block
    while isinstance(owner, np.ndarray):
        owner = owner.base
    # Where the mode is "c", memory may hold what the file does not.
    if block.mode == "c" or not block.flags.c_contiguous or not isinstance(owner, mmap.mmap):
        return
    if not hasattr(mmap, "MADV_DONTNEED"):  # on Windows
        return
    offset = address_of(block) - address_of(np.frombuffer(owner, np.uint8))
    begin = offset // mmap.PAGESIZE * mmap.PAGESIZE
    owner.madvise(mmap.MADV_DONTNEED, begin, offset + block.nbytes - begin)


def read_ahead(windows: Generator[Window, None, None]) -> Generator[Window, None, None]:
    """Yield windows, each of which is made in another thread while the one before is in use.

    What goes wrong there is raised here. When this iterator is at its end, or closed, the thread closes `windows` and
    ends. It is not waited for longer than `SECONDS_TO_END`, since it may itself wait for data.
    """
    wanted: SimpleQueue[bool] = SimpleQueue()
    made: SimpleQueue[tuple[Window | None, BaseException | None]] = SimpleQueue()
    reader = Thread(target=_read, args=(windows, wanted, made), name="fastmlp-reader", daemon=True)
    reader.start()
    try:
        wanted.put(True)
        while True:
            window, problem = made.get()
            if problem is not None:
                try:
                    raise problem
                finally:
                    del problem  # whose traceback holds this frame
            if window is None:
                return
            wanted.put(True)
            yield window
    finally:
        wanted.put(False)
        reader.join(SECONDS_TO_END)


def _read(windows: Generator[Window, None, None], wanted: SimpleQueue[bool],
          made: SimpleQueue[tuple[Window | None, BaseException | None]]) -> None:
    """Make a window, or None after the last, whenever one is wanted; with False none is any more."""
    try:
        while wanted.get():
            made.put((next(windows, None), None))
    except BaseException as problem:
        made.put((None, problem))
    finally:
        windows.close()  # here, as only the thread that runs a generator can close it


def open_stream(trainer: Trainer, X: Any, y: Any, sample_weight: Any, class_weight: Any, validation_split: float,
                shuffle: bool, window: int | None, steps_per_epoch: int | None) -> Stream | None:
    """Return what reads the arguments of `Trainer.fit` in windows, or None if X is an array to train on as it is.

    Raises
    ------
    TypeError, ValueError
        If an argument is not allowed; of X and y no more than the first row is looked at.
    """
    settings = trainer, shuffle, class_weight, window, steps_per_epoch
    gives_targets = y is None and not hasattr(X, "shape")
    if gives_targets and sample_weight is not None:
        raise ValueError("sample_weight must be None where X gives the targets, and may give weights, got "
                         f"{type(sample_weight).__name__}")
    stream: Stream
    if gives_targets and (isinstance(X, Iterable) or callable(X)):
        stream = Chunks(X, *settings)
    elif gives_targets and hasattr(X, "__len__") and hasattr(X, "__getitem__"):
        stream = Items(X, *settings)
    elif window is not None or (isinstance(X, np.memmap) and X.nbytes > WINDOW_BYTES):
        stream = Blocks(X, y, sample_weight, *settings)
    elif steps_per_epoch is not None:
        raise ValueError(f"steps_per_epoch must be None for an X that is not read in windows, got {steps_per_epoch!r}")
    else:
        return None
    if validation_split:
        raise ValueError(f"validation_split must be 0 for an X that is read in windows, got {validation_split!r}; give "
                         "validation_data")
    if stream.steps is None and trainer.schedule.needs_horizon:
        raise ValueError("steps_per_epoch must be given for the schedule "
                         f"{trainer.schedule!r}, which goes by epochs, and an X of unknown length, got None")
    return stream
