"""Training on data that is read in windows: the order of the rows, what is trained, errors, threads and memory."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from comparing import bits
from hypothesis import given, settings
from hypothesis import strategies as st

import fastmlp
from fastmlp import MLP, Trainer, engine, streams
from fastmlp.streams import Stream, open_stream

Array = np.ndarray[Any, Any]

SETTINGS = settings(max_examples=40, deadline=None)


def make_data(rows: int, inputs: int = 5, classes: int = 3, seed: int = 0) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rows, inputs)).astype(np.float32), rng.integers(0, classes, rows)


def new_trainer(**options: Any) -> Trainer:
    return Trainer(MLP([5, 4, 3], seed=1), **{"batch_size": 8, "learning_rate": 0.01, **options})


def cut(sizes: list[int], *arrays: Array) -> list[tuple[Array, ...]]:
    """Cut arrays into chunks of the given sizes; the last holds the rest."""
    ends = np.cumsum(sizes)
    return list(zip(*(np.split(array, ends[ends < len(array)]) for array in arrays), strict=True))


class Dataset:
    """Single rows by their number, as PyTorch's data sets have them."""

    def __init__(self, *arrays: Array) -> None:
        self.arrays = arrays

    def __len__(self) -> int:
        return len(self.arrays[0])

    def __getitem__(self, i: int) -> tuple[Any, ...]:
        return tuple(array[i] for array in self.arrays)


class Slices:
    """An array that can only be sliced, as those of h5py; it takes note of what is read."""

    def __init__(self, array: Array) -> None:
        self.array = array
        self.shape = array.shape
        self.reads: list[tuple[int, int]] = []

    def __getitem__(self, rows: slice) -> Array:
        self.reads.append((rows.start, rows.stop))
        return self.array[rows]


def stream_of(trainer: Trainer, X: Any, y: Any = None, *, shuffle: bool = True, window: int | None = None,
              steps: int | None = None) -> Stream:
    stream = open_stream(trainer, X, y, None, None, 0.0, shuffle, window, steps)
    assert stream is not None
    return stream


def rows_of(stream: Stream, epoch: int = 0) -> list[Array]:
    """The inputs of each window in the order in which they are trained on."""
    return [window.source.array[window.order] for window in stream.windows(epoch)]


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    for thread in threading.enumerate():
        if thread.name == "fastmlp-reader":
            thread.join(10)  # one that was in the middle of a window
            assert not thread.is_alive()


# ---- what is trained


@SETTINGS
@given(data=st.data())
def test_without_shuffling_every_source_gives_the_bits_of_the_arrays(data: st.DataObject) -> None:
    rows = data.draw(st.integers(1, 70), "rows")
    batch = data.draw(st.integers(1, 20), "batch")
    window = data.draw(st.integers(batch, 90), "window")
    dtype = data.draw(st.sampled_from(["f4", "f8", "u1", "i4", ">f4"]), "dtype")
    options: dict[str, Any] = {"batch_size": batch, "optimizer": data.draw(st.sampled_from(["sgd", "adam"]))}
    X, y = make_data(rows)
    X = (X * 50 + 100).astype(dtype) if dtype == "u1" else (4 * X).astype(dtype)
    arrays: tuple[Array, ...] = (X, y)
    if data.draw(st.booleans(), "weighted"):
        arrays += (np.random.default_rng(1).uniform(0.1, 2.0, rows),)
    sizes = data.draw(st.lists(st.integers(0, 40), max_size=6), "sizes")
    chunks = cut(sizes, *arrays)
    sources: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
        "list": ((chunks,), {}),
        "function": ((lambda: iter(chunks),), {}),
        "data set": ((Dataset(*arrays),), {}),
        "slices": ((Slices(X), y), {"sample_weight": arrays[2] if len(arrays) > 2 else None}),
    }
    name = data.draw(st.sampled_from(sorted(sources)))
    (positional, named) = sources[name]
    plain, streamed = new_trainer(**options), new_trainer(**options)
    plain.fit(X, y, epochs=2, shuffle=False, progress=False, sample_weight=arrays[2] if len(arrays) > 2 else None)
    streamed.fit(*positional, epochs=2, shuffle=False, progress=False, window=window, **named)
    assert bits(streamed) == bits(plain)
    assert (streamed.steps, streamed.epochs) == (plain.steps, plain.epochs)
    np.testing.assert_allclose(streamed.history["loss"], plain.history["loss"], rtol=1e-14)


@pytest.mark.parametrize("options", [
    {"accumulation": 3}, {"clip_norm": 0.1}, {"input_dropout": 0.3, "input_noise": 0.1},
    {"schedule": "cosine"}, {"schedule": "one_cycle", "optimizer": "nadam", "weight_decay": 0.1},
], ids=str)
def test_training_options_apply_as_to_arrays(options: dict[str, Any]) -> None:
    X, y = make_data(100)
    plain, streamed = new_trainer(**options), new_trainer(**options)
    plain.fit(X, y, epochs=3, shuffle=False, progress=False)
    streamed.fit(X, y, epochs=3, shuffle=False, progress=False, window=30)
    assert bits(streamed) == bits(plain)
    assert streamed.history["learning_rate"] == plain.history["learning_rate"]


@pytest.mark.parametrize("batch", [256, 1000])
def test_large_batches_are_cut_into_groups_as_those_of_arrays(batch: int) -> None:
    X, y = make_data(600)
    plain, streamed = new_trainer(batch_size=batch), new_trainer(batch_size=batch)
    plain.fit(X, y, epochs=2, shuffle=False, progress=False)
    streamed.fit(cut([90, 400], X, y), epochs=2, shuffle=False, progress=False)
    assert bits(streamed) == bits(plain)


@pytest.mark.parametrize(("loss", "output", "y"), [
    ("cross_entropy", "softmax", np.random.default_rng(0).dirichlet([1, 1, 1], 50)),
    ("mean_squared_error", "identity", np.random.default_rng(0).normal(size=(50, 3))),
    ("mean_squared_error", "identity", np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)),
    ("binary_cross_entropy", "sigmoid", np.random.default_rng(0).integers(0, 2, (50, 3)).astype(np.uint8)),
], ids=["probabilities", "float64", "float32", "uint8"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_targets_of_every_kind(loss: str, output: str, y: Array, dtype: str) -> None:
    X, _ = make_data(50)
    models = [MLP([5, 4, 3], output=output, dtype=dtype, seed=0) for _ in range(2)]
    plain, streamed = (Trainer(model, loss, batch_size=8) for model in models)
    plain.fit(X, y, epochs=2, shuffle=False, progress=False)
    streamed.fit(cut([11, 2, 20], X, y), epochs=2, shuffle=False, progress=False, window=20)
    assert bits(streamed) == bits(plain)


def test_chunks_of_several_dtypes_are_trained_as_the_widest() -> None:
    X, y = make_data(60)
    X[:20] = np.abs(np.round(X[:20]))
    X[40:] += np.float32(2**-12)
    first, second, third = cut([20, 20], X, y)
    chunks = [(first[0].astype(np.uint8), first[1]), second, (third[0].astype(np.float64), third[1])]
    plain, streamed = new_trainer(), new_trainer()
    plain.fit(X, y, epochs=1, shuffle=False, progress=False)
    streamed.fit(chunks, epochs=1, shuffle=False, progress=False, window=50)
    assert bits(streamed) == bits(plain)


def test_rows_without_a_weight_count_as_one() -> None:
    X, y = make_data(40)
    weights = np.where(np.arange(40) < 20, 1.0, 3.0)
    plain, streamed = new_trainer(), new_trainer()
    plain.fit(X, y, epochs=1, shuffle=False, progress=False, sample_weight=weights)
    streamed.fit([(X[:20], y[:20]), (X[20:], y[20:], weights[20:])], epochs=1, shuffle=False, progress=False, window=30)
    assert bits(streamed) == bits(plain)


def test_weights_of_classes_multiply_those_of_samples() -> None:
    X, y = make_data(60)
    y.sort()  # so that there are chunks of one class, whose weights are all 0
    weights = np.random.default_rng(0).uniform(0.5, 2, 60)
    plain, streamed = new_trainer(), new_trainer()
    plain.fit(X, y, epochs=2, shuffle=False, progress=False, sample_weight=weights, class_weight={0: 0.0, 2: 3.0})
    streamed.fit(cut([8, 8, 8], X, y, weights), epochs=2, shuffle=False, progress=False, class_weight={0: 0.0, 2: 3.0},
                 window=8)
    assert bits(streamed) == bits(plain)
    np.testing.assert_allclose(streamed.history["loss"], plain.history["loss"], rtol=1e-14)


def test_data_sets_and_loaders_of_pytorch() -> None:
    torch = pytest.importorskip("torch")
    X, y = make_data(50)
    dataset = torch.utils.data.TensorDataset(torch.from_numpy(X), torch.from_numpy(y))
    plain = new_trainer()
    plain.fit(X, y, epochs=2, shuffle=False, progress=False)
    for source in (dataset, torch.utils.data.DataLoader(dataset, batch_size=7)):
        streamed = new_trainer()
        streamed.fit(source, epochs=2, shuffle=False, progress=False)
        assert bits(streamed) == bits(plain)


# ---- the order of the rows


@SETTINGS
@given(data=st.data())
def test_every_row_is_trained_on_once_in_full_batches_of_its_window(data: st.DataObject) -> None:
    rows = data.draw(st.integers(1, 300), "rows")
    batch = data.draw(st.integers(1, 30), "batch")
    window = data.draw(st.integers(batch, 100), "window")
    X = np.zeros((rows, 5), np.float32)
    X[:, 0] = np.arange(rows)
    y = np.zeros(rows, int)
    source = data.draw(st.sampled_from(["chunks", "items", "blocks"]))
    trainer = new_trainer(batch_size=batch, seed=data.draw(st.integers(0, 5), "seed"))
    arguments: tuple[Any, ...] = {
        "chunks": (cut(data.draw(st.lists(st.integers(1, 120), max_size=5)), X, y),),
        "items": (Dataset(X, y),),
        "blocks": (X, y),
    }[source]
    windows = rows_of(stream_of(trainer, *arguments, window=window))
    assert sorted(np.concatenate(windows)[:, 0]) == list(range(rows))
    assert all(len(one) % batch == 0 for one in windows[:-1])
    assert len(windows) == -(-rows // window)
    assert all(window - batch < len(one) < window + batch for one in windows[:-1])
    if source == "chunks":  # windows of chunks are filled in order: nothing is used before it was read
        read = np.minimum(np.arange(1, len(windows) + 1) * window, rows)
        assert all(one[:, 0].max(initial=0) < end for one, end in zip(windows, read, strict=True))
        for one, new_from in zip(windows[1:], read, strict=False):  # what the window before left over comes first
            assert (np.diff((one[:, 0] >= new_from).astype(int)) >= 0).all()
    again = rows_of(stream_of(trainer, *arguments, window=window))
    assert all((one == other).all() for one, other in zip(windows, again, strict=True))


@pytest.mark.parametrize("source", ["chunks", "items", "blocks"])
def test_the_order_is_drawn_from_seed_and_epoch(source: str) -> None:
    X, y = make_data(200)
    arguments: tuple[Any, ...] = {"chunks": (cut([90], X, y),), "items": (Dataset(X, y),), "blocks": (X, y)}[source]
    orders = [np.concatenate(rows_of(stream_of(new_trainer(seed=seed), *arguments, window=64), epoch)).tobytes()
              for seed, epoch in ((0, 0), (0, 1), (1, 0), (1, 1))]
    assert len(set(orders)) == 4


def test_shuffled_training_is_training_on_the_rows_in_the_order_of_the_windows() -> None:
    X, y = make_data(150)
    streamed, plain = new_trainer(), new_trainer()
    stream = stream_of(new_trainer(), X, y, window=40)
    for epoch in range(3):
        inputs, labels = zip(*((window.source.array[window.order], window.targets.source.array[window.order])
                               for window in stream.windows(epoch)), strict=True)
        plain.fit(np.concatenate(inputs), np.concatenate(labels), epochs=1, shuffle=False, progress=False)
    streamed.fit(X, y, epochs=2, progress=False, window=40)
    streamed.fit(X, y, epochs=1, progress=False, window=40)  # goes on with the third epoch's order
    assert bits(streamed) == bits(plain)


def test_an_array_is_read_in_long_runs_whose_order_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "BLOCKS_PER_WINDOW", 4)
    X, y = make_data(1000)
    source = Slices(X)
    stream = stream_of(new_trainer(), source, y, window=200)
    source.reads.clear()
    windows = list(stream.windows(0))
    assert sorted(source.reads) == [(begin, begin + 50) for begin in range(0, 1000, 50)]
    assert source.reads != sorted(source.reads)
    assert len(windows) == 5
    first, source.reads = source.reads, []
    list(stream.windows(1))
    assert source.reads != first
    source.reads = []
    list(stream_of(new_trainer(), source, y, window=200, shuffle=False).windows(0))
    assert source.reads[1:] == [(begin, begin + 50) for begin in range(0, 1000, 50)]  # after a look at the first row


def test_sorted_labels_are_mixed() -> None:
    """Each window has about as many rows of each class as the whole set."""
    X, _ = make_data(6400)
    y = np.repeat([0, 1], 3200)
    shares = [window.targets.source.array[window.order].mean()
              for window in stream_of(new_trainer(), X, y, window=640).windows(0)]
    assert len(shares) == 10
    assert max(abs(share - 0.5) for share in shares) < 0.35  # the standard deviation is 0.5 / sqrt(32) = 0.09


def test_default_windows_hold_64_megabytes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert streams.WINDOW_BYTES == 64 << 20
    monkeypatch.setattr(streams, "WINDOW_BYTES", 2800)  # rows of 5 float32 and a label: 28 bytes
    X, y = make_data(250)
    chunks = cut([90, 70], X, y)
    assert [len(rows) for rows in rows_of(stream_of(new_trainer(batch_size=10), chunks))] == [100, 100, 50]
    assert [len(rows) for rows in rows_of(stream_of(new_trainer(batch_size=120), chunks))] == [120, 120, 10]


@pytest.mark.parametrize("window", [16, 64, 1000])
def test_threads_and_slow_reading_change_nothing(threads: Callable[[int], None], window: int) -> None:
    X, y = make_data(300, inputs=64)
    chunks = cut([50, 1, 30, 100, 19], X, y)
    rng = np.random.default_rng()

    def slowly() -> Iterator[tuple[Array, ...]]:
        for chunk in chunks:
            time.sleep(rng.uniform(0, 0.01))
            yield chunk

    results = []
    for number in (1, 2):
        threads(number)
        for source in (chunks, slowly):
            trainer = Trainer(MLP([64, 300, 3], seed=0), batch_size=16)
            trainer.fit(source, epochs=2, progress=False, window=window)
            results.append(bits(trainer))
    assert all(result == results[0] for result in results)


# ---- reading ahead


def test_the_next_window_is_read_while_this_one_is_trained_on_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = make_data(80)
    given_chunks: list[int] = []
    ahead = threading.Event()

    def chunks() -> Iterator[tuple[Array, Array]]:
        for i in range(10):
            given_chunks.append(i)
            if i == 4:  # that the second window, chunks 2 and 3, is full is seen when there is more
                ahead.set()
            yield X[8 * i : 8 * i + 8], y[8 * i : 8 * i + 8]
        assert threading.current_thread() is not threading.main_thread()

    original = engine.Call.train
    seen = []

    def train(call: engine.Call, number: int) -> None:
        if not seen:
            assert ahead.wait(20)
            time.sleep(0.05)
            seen.extend(given_chunks)
        original(call, number)

    monkeypatch.setattr(engine.Call, "train", train)
    new_trainer().fit(chunks, epochs=1, progress=False, window=16)
    assert seen == [0, 1, 2, 3, 4]
    assert given_chunks == list(range(10))


# ---- memory-mapped files


def mapped(path: Path, array: Array, mode: Any = "r") -> Any:
    array.tofile(path)
    return np.memmap(path, array.dtype, mode, shape=array.shape)


def test_a_large_file_is_read_in_windows_and_a_small_one_is_an_array(tmp_path: Path,
                                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = make_data(200)
    file = mapped(tmp_path / "X", X)
    trainers = [new_trainer() for _ in range(4)]
    trainers[0].fit(X, y, epochs=2, progress=False)
    trainers[1].fit(file, y, epochs=2, progress=False)
    assert bits(trainers[1]) == bits(trainers[0])
    monkeypatch.setattr(streams, "WINDOW_BYTES", X.nbytes - 1)
    trainers[2].fit(file, y, epochs=2, progress=False)
    assert bits(trainers[2]) != bits(trainers[0])
    trainers[3].fit(np.asarray(file), y, epochs=2, progress=False)
    assert bits(trainers[3]) == bits(trainers[0])


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_mapped_arrays_stay_as_they_are(tmp_path: Path, mode: str) -> None:
    """Also what is changed in memory only, and views of any kind."""
    X, _ = make_data(3000)
    file = mapped(tmp_path / "X", X, mode)
    targets = mapped(tmp_path / "y", X[:, :3].copy(), mode)
    if mode != "r":
        file += 1.0
        X += 1.0
    for rows in (slice(None), slice(100, 2001), slice(None, None, 3), slice(None, None, -1)):
        plain, streamed = (Trainer(MLP([5, 3], output="identity", seed=0), "mean_squared_error") for _ in range(2))
        plain.fit(X[rows], np.array(targets)[rows], epochs=2, shuffle=False, progress=False)
        streamed.fit(file[rows], targets[rows], epochs=2, shuffle=False, progress=False, window=700)
        assert bits(streamed) == bits(plain)
        np.testing.assert_array_equal(file, X)


MEMORY = """
import resource, sys
import numpy as np
from fastmlp import MLP, Trainer

MB = 1 << 20

def status(name):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith(name + ":"))

rows, inputs = 100_000, 1024
X = np.memmap(sys.argv[1], np.float32, "r", shape=(rows, inputs))
y = np.arange(rows) % 2
Trainer(MLP([inputs, 4, 2])).fit(np.zeros((64, inputs), np.float32), y[:64], epochs=1, progress=False)  # compiles
trainer = Trainer(MLP([inputs, 4, 2]), batch_size=100)
before = status("VmRSS")
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # begins a new peak
resource.setrlimit(resource.RLIMIT_DATA, (status("VmData") + 100 * MB,) * 2)
try:
    np.ones(101 * MB, np.uint8)
    sys.exit("there is no limit")
except MemoryError:
    pass
trainer.fit(X, y, epochs=1, progress=False, window=4000)
assert trainer.steps == 1000
print((status("VmHWM") - before) / MB)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_set_four_times_as_large_as_the_memory_is_trained_on(tmp_path: Path) -> None:
    path = tmp_path / "X"
    with path.open("wb") as file:
        file.truncate(4 * 1024 * 100_000)  # zeros that take up no space
    environment = {**os.environ, "PYTHONPATH": str(Path(fastmlp.__file__).parents[1])}
    result = subprocess.run([sys.executable, "-c", MEMORY, str(path)], capture_output=True, text=True, timeout=240,
                            env=environment)
    assert result.returncode == 0, result.stderr
    assert float(result.stdout) < 100  # of which two windows take up 31


# ---- epochs


def test_a_generator_is_used_up_by_one_epoch() -> None:
    X, y = make_data(60)
    chunks = cut([25, 25], X, y)
    plain, trainer = new_trainer(), new_trainer()
    plain.fit(chunks, epochs=1, progress=False)
    trainer.fit((chunk for chunk in chunks), epochs=1, progress=False)
    assert bits(trainer) == bits(plain)
    with pytest.raises(ValueError, match="X must give rows in every epoch, got none in epoch 2"):
        trainer.fit((chunk for chunk in chunks), epochs=2, progress=False)
    plain.fit(chunks, epochs=1, progress=False)
    assert bits(trainer) == bits(plain)
    assert (trainer.epochs, len(trainer.history)) == (2, 2)


def test_a_function_is_called_for_every_epoch_and_an_epoch_may_differ() -> None:
    X, y = make_data(200)
    calls = []

    def chunks() -> Iterator[tuple[Array, Array]]:
        begin = 100 * len(calls)
        calls.append(begin)
        yield X[begin : begin + 60], y[begin : begin + 60]
        yield X[begin + 60 : begin + 100], y[begin + 60 : begin + 100]

    plain, trainer = new_trainer(), new_trainer()
    trainer.fit(chunks, epochs=2, progress=False, shuffle=False, window=50)
    plain.fit(X[:100], y[:100], epochs=1, progress=False, shuffle=False)
    plain.fit(X[100:], y[100:], epochs=1, progress=False, shuffle=False)
    assert calls == [0, 100]
    assert bits(trainer) == bits(plain)


def test_an_endless_iterator_with_steps_per_epoch() -> None:
    X, y = make_data(1000)
    given_chunks = []

    def forever() -> Iterator[tuple[Array, Array]]:
        for begin in range(0, 1000, 20):
            given_chunks.append(begin)
            yield X[begin : begin + 20], y[begin : begin + 20]
        raise AssertionError("read too far")

    trainer, plain = new_trainer(schedule="cosine"), new_trainer(schedule="cosine")
    trainer.fit(forever(), epochs=2, steps_per_epoch=5, window=16, shuffle=False, progress=False)
    assert (trainer.steps, trainer.epochs) == (10, 2)
    assert given_chunks == [0, 20, 40, 60]  # 40 rows an epoch
    plain.fit(X[:80], y[:80], epochs=1, shuffle=False, progress=False)
    assert bits(trainer) == bits(plain)  # with the same learning rates, as it has ten steps, too


@pytest.mark.parametrize("source", ["chunks", "items", "blocks"])
def test_steps_per_epoch_uses_some_of_the_rows(source: str) -> None:
    X, y = make_data(100)
    arguments: tuple[Any, ...] = {"chunks": (cut([30], X, y),), "items": (Dataset(X, y),), "blocks": (X, y)}[source]
    trainer, plain = new_trainer(), new_trainer()
    trainer.fit(*arguments, epochs=2, steps_per_epoch=7, window=20, shuffle=False, progress=False)
    plain.fit(X[:56], y[:56], epochs=2, shuffle=False, progress=False)
    assert bits(trainer) == bits(plain)


@pytest.mark.parametrize(("lengths", "found"), [((100, 60), "8"), ((100, 140), "more"), ((60, 100), "more"),
                                                  ((80, 100), "more")])
def test_epochs_of_different_lengths_are_refused(lengths: tuple[int, int], found: str) -> None:
    X, y = make_data(200)
    epochs = iter(lengths)
    trainer = new_trainer()
    steps = -(-lengths[0] // 8)

    def chunks() -> list[tuple[Array, ...]]:
        rows = next(epochs)
        return cut([30, 30, 30], X[:rows], y[:rows])

    with pytest.raises(ValueError, match=f"must give {steps} batches of 8 rows in every epoch, got {found} in epoch 1"):
        trainer.fit(chunks, epochs=3, progress=False, window=40)
    assert trainer.epochs == 1
    with pytest.raises(ValueError, match="must give 13 batches of 8 rows in every epoch, got 12 in epoch 1"):
        trainer.fit(cut([30], X[:96], y[:96]), epochs=1, steps_per_epoch=13, progress=False)


def test_a_few_rows_more_or_less_in_the_last_batch_are_no_matter() -> None:
    X, y = make_data(100)
    lengths = iter([98, 100])
    trainer = new_trainer()

    def chunks() -> list[tuple[Array, Array]]:
        rows = next(lengths)
        return [(X[:rows], y[:rows])]

    trainer.fit(chunks, epochs=2, progress=False)
    assert trainer.steps == 26


@pytest.mark.parametrize("source", ["chunks", "blocks"])
@pytest.mark.parametrize("window", [24, 500])
def test_resumed_training_ends_with_the_same_bits(source: str, window: int) -> None:
    X, y = make_data(100)
    arguments: tuple[Any, ...] = (cut([30], X, y),) if source == "chunks" else (X, y)
    options = {"epochs": 5, "window": window, "progress": False}
    saved = []

    def save(trainer: Trainer, logs: dict[str, Any]) -> None:
        saved.append(pickle.dumps(trainer))

    straight = new_trainer()
    straight.fit(*arguments, callbacks=[save], **options)
    resumed = pickle.loads(saved[1])
    resumed.fit(*arguments, resume=True, **options)
    assert bits(resumed) == bits(straight)
    assert (resumed.steps, resumed.epochs) == (straight.steps, straight.epochs)
    assert resumed.history["loss"] == straight.history["loss"]
    assert resumed.history["epoch"] == [0, 1, 2, 3, 4]
    assert resumed.unfinished is None


def test_a_batch_larger_than_any_memory_is_that_of_the_rows_there_are() -> None:
    X, y = make_data(100)
    plain, trainer = (new_trainer(batch_size=1 << 31) for _ in range(2))
    plain.fit(X, y, epochs=2, shuffle=False, progress=False)
    trainer.fit(cut([30], X, y), epochs=2, shuffle=False, progress=False)
    assert bits(trainer) == bits(plain)
    trainer.fit(cut([30], X, y), epochs=2, window=1 << 40, shuffle=False, progress=False)
    assert trainer.steps == 4


@pytest.mark.parametrize("window", [100, 64, 50])
def test_a_window_grows_with_the_rows_that_come(window: int, monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = make_data(150)
    weights = np.random.default_rng(1).uniform(0.1, 2.0, 150)
    chunks = cut([1, 20, 3], X, y, weights)
    trainer = new_trainer()
    expected = rows_of(stream_of(trainer, chunks, window=window))
    monkeypatch.setattr(streams, "WINDOW_BYTES", 28 * 7)  # of 7 rows
    found = rows_of(stream_of(trainer, chunks, window=window))
    assert [rows.tobytes() for rows in found] == [rows.tobytes() for rows in expected]
    plain = new_trainer()
    plain.fit(X, y, epochs=2, shuffle=False, sample_weight=weights, progress=False)
    trainer.fit(chunks, epochs=2, shuffle=False, window=window, progress=False)
    assert bits(trainer) == bits(plain)


# ---- what goes with training


class Bar:
    """Stands for tqdm's."""

    def __init__(self, total: int | None, initial: int, **options: Any) -> None:
        self.total, self.count, self.first_total = total, initial, total

    def update(self, count: int) -> None:
        self.count += count

    def set_postfix(self, *arguments: Any, **named: Any) -> None: ...

    def set_description(self, text: str) -> None: ...

    def close(self) -> None: ...


@pytest.mark.parametrize(("source", "window", "first_total"), [
    ("chunks", 40, None), ("chunks", 500, 300), ("items", 40, 300), ("blocks", 40, 300),
])
def test_the_progress_bar_knows_the_total_as_soon_as_there_is_one(monkeypatch: pytest.MonkeyPatch, source: str,
                                                                  window: int, first_total: int | None) -> None:
    bars: list[Bar] = []
    monkeypatch.setattr("tqdm.auto.tqdm", lambda **options: bars.append(Bar(**options)) or bars[-1])
    X, y = make_data(100)
    arguments: tuple[Any, ...] = {"chunks": (cut([30], X, y),), "items": (Dataset(X, y),), "blocks": (X, y)}[source]
    new_trainer().fit(*arguments, epochs=3, window=window)
    assert (bars[0].first_total, bars[0].total, bars[0].count) == (first_total, 300, 300)


def test_validation_callbacks_and_metrics() -> None:
    X, y = make_data(100)
    events: list[Any] = []

    class Recorder:
        def on_train_begin(self, trainer: Trainer, logs: dict[str, Any]) -> None:
            events.append("begin")

        def on_epoch_begin(self, trainer: Trainer, logs: dict[str, Any]) -> None:
            events.append(logs["epoch"])

        def on_epoch_end(self, trainer: Trainer, logs: dict[str, Any]) -> None:
            events.append(sorted(logs))
            trainer.stop_training = logs["epoch"] == 1

        def on_train_end(self, trainer: Trainer, logs: dict[str, Any]) -> None:
            events.append("end")

    trainer, plain = new_trainer(metrics=["accuracy", "f1"]), new_trainer(metrics=["accuracy", "f1"])
    arguments: dict[str, Any] = {"epochs": 9, "validation_data": (X[:30], y[:30]), "progress": False, "shuffle": False}
    trainer.fit(cut([30, 30], X, y), callbacks=[Recorder()], window=40, **arguments)
    names = ["epoch", "learning_rate", "loss", "samples_per_second", "val_accuracy", "val_f1", "val_loss"]
    assert events == ["begin", 0, names, 1, names, "end"]
    plain.fit(X, y, callbacks=[Recorder()], **arguments)
    for name in ("loss", "val_loss", "val_f1"):
        assert trainer.history[name] == plain.history[name]
    assert all(speed > 0 for speed in trainer.history["samples_per_second"])


def test_a_schedule_that_goes_by_the_loss() -> None:
    X, y = make_data(100)
    rates = []
    for arguments in ((X, y), (cut([30], X, y),)):
        trainer = new_trainer(schedule=fastmlp.schedules.ReduceOnPlateau("loss", patience=1, min_delta=10.0))
        trainer.fit(*arguments, epochs=4, window=40, steps_per_epoch=13, progress=False)
        rates.append(trainer.history["learning_rate"])
    np.testing.assert_allclose(rates, [[0.01, 0.01, 1e-3, 1e-4]] * 2)


def test_divergence_is_told_with_the_step() -> None:
    X, y = make_data(100)
    model = MLP([5, 4, 1], output="identity", seed=0)
    trainer = Trainer(model, "mean_squared_error", "sgd", learning_rate=1e20, batch_size=10)
    chunks = cut([10] * 9, X, y.astype(float))
    with pytest.warns(fastmlp.DivergenceWarning, match=r"in epoch 0, step \d\. Try a smaller") as caught:
        trainer.fit(chunks, epochs=3, window=10, progress=False)
    assert Path(caught[0].filename).name == Path(__file__).name
    assert trainer.unfinished is None
    step = trainer.steps
    assert f"step {step - 1}." in str(caught[0].message)


def test_after_an_interrupt_training_can_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = make_data(100)
    trainer, plain = new_trainer(), new_trainer()
    original, calls = engine.Call.train, []

    def train(call: engine.Call, number: int) -> None:
        original(call, number)
        calls.append(number)
        if len(calls) == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(engine.Call, "train", train)
        with pytest.raises(KeyboardInterrupt):
            trainer.fit(cut([8] * 12, X, y), epochs=3, window=8, shuffle=False, progress=False)
    assert trainer.steps == 3  # windows of one batch
    plain.fit(X[:24], y[:24], epochs=1, shuffle=False, progress=False)
    assert bits(trainer) == bits(plain)
    trainer.fit(cut([30], X, y), epochs=1, progress=False)
    assert trainer.steps == 16


INTERRUPTED = """
import signal, sys, threading, time
import numpy as np
from fastmlp import MLP, Trainer
signal.signal(signal.SIGINT, signal.default_int_handler)
trainer = Trainer(MLP([5, 3]))
X, y = np.zeros((32, 5), np.float32), np.zeros(32, int)
trainer.fit(X, y, epochs=1, progress=False)

def slowly():
    for _ in range(1000):  # a hundred seconds, should nobody interrupt
        if trainer.steps >= 3:
            print("ready", flush=True)
        time.sleep(0.1)
        yield X, y

def never():
    yield X, y
    yield X, y
    print("ready", flush=True)
    threading.Event().wait()

try:
    trainer.fit({data}, epochs=1, window={window}, progress=False)
except KeyboardInterrupt:
    print("caught", time.time(), flush=True)
if {data} is slowly:
    time.sleep(1)
    print(threading.active_count())
trainer.fit(X, y, epochs=1, progress=False)
"""


@pytest.mark.skipif(os.name != "posix", reason="sends a POSIX signal")
@pytest.mark.parametrize(("data", "window"), [("slowly", 32), ("slowly", 64), ("never", 32), ("never", 10**6)])
def test_ctrl_c_is_answered_while_waiting_for_data(data: str, window: int) -> None:
    """Also if they never come. The thread that reads ends as soon as the iterable gives something."""
    environment = {**os.environ, "PYTHONPATH": str(Path(fastmlp.__file__).parents[1])}
    process = subprocess.Popen([sys.executable, "-c", INTERRUPTED.format(data=data, window=window)],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.3)
        sent = time.time()
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, errors
    [caught, *threads] = [line for line in output.splitlines() if line != "ready"]
    assert float(caught.split()[1]) - sent < 1.0  # generous
    assert threads == (["1"] if data == "slowly" else [])


# ---- errors


def broken(what: str) -> tuple[Any, ...]:
    X, y = make_data(20)
    if what == "width":
        return X[:, :4], y
    if what == "label":
        y[3] = 3
    elif what == "NaN":
        X[5, 2] = np.nan
    elif what == "length":
        y = y[1:]
    elif what == "weight":
        return X, y, -np.ones(20)
    elif what == "kind":
        return X, np.eye(3)[y]
    elif what == "text":
        return X.astype(str), y
    return X, y


BROKEN = {
    "width": (ValueError, r"X must be .* of shape \(rows, 5\), got shape"),
    "label": (ValueError, "y must be whole numbers from 0 to 2 .*, got 3 at position"),
    "NaN": (ValueError, "X must be finite as float32, got nan in row"),
    "length": (ValueError, "y must be"),
    "weight": (ValueError, "sample_weight must be finite numbers of at least 0"),
    "kind": (ValueError, "y must be labels everywhere or nowhere"),
    "text": (TypeError, "X must be an array of real numbers"),
}


@pytest.mark.parametrize("what", sorted(BROKEN))
@pytest.mark.parametrize("window", [20, 500])
def test_an_error_names_the_chunk_and_the_model_is_as_the_last_step_left_it(what: str, window: int) -> None:
    X, y = make_data(200)
    good = cut([20] * 9, X, y)
    trainer, plain = new_trainer(batch_size=5), new_trainer(batch_size=5)
    error, message = BROKEN[what]
    with pytest.raises(error, match=f"^chunk 7: {message}"):
        trainer.fit([*good[:7], broken(what), *good[8:]], epochs=2, window=window, shuffle=False, progress=False)
    assert trainer.steps == (24 if window == 20 else 0)  # the first six windows, or none
    if trainer.steps:
        plain.fit(X[:120], y[:120], epochs=1, shuffle=False, progress=False)
    assert bits(trainer) == bits(plain)


@pytest.mark.parametrize("what", ["width", "label", "NaN", "weight", "text"])
def test_an_error_names_the_item(what: str) -> None:
    X, y = make_data(100)
    rows: list[tuple[Any, ...]] = list(zip(X, y, np.ones(100), strict=True))
    weights = broken(what)[2] if what == "weight" else np.ones(20)
    numbers = {"label": 3, "NaN": 5}
    number = numbers.get(what, 7)
    rows[40 + number] = (broken(what)[0][number], broken(what)[1][number], weights[number])

    class Rows:
        def __len__(self) -> int:
            return len(rows)

        def __getitem__(self, i: int) -> tuple[Any, ...]:
            return rows[i]

    trainer = new_trainer()
    before = bits(trainer)
    with pytest.raises(BROKEN[what][0], match=f"^item {40 + number}: "):
        trainer.fit(Rows(), epochs=1, progress=False)
    assert bits(trainer) == before


@pytest.mark.parametrize(("what", "message"), [("label", "got 3 at position 3"), ("NaN", "got nan in row 5, column 2")])
def test_an_error_in_an_array_tells_where_its_rows_are(what: str, message: str) -> None:
    X, y = make_data(640)
    X[60:80], y[60:80] = broken(what)
    with pytest.raises(ValueError, match=f"^in the 20 rows from row 60 on: .*{message}"):
        new_trainer().fit(X, y, epochs=1, window=640, progress=False)


def test_what_is_wrong_with_the_first_window_is_found_before_anything_is_done() -> None:
    X, y = make_data(100)
    trainer, events = new_trainer(), []

    class Recorder:
        def on_train_begin(self, trainer: Trainer, logs: dict[str, Any]) -> None:
            events.append("begin")

    before = bits(trainer)
    for chunks in ([(X, y), broken("label")], [], [(X[:0], y[:0])], [X], [{"X": X}], [(X, y, y, y)], lambda: 5):
        with pytest.raises((TypeError, ValueError), match=r"^chunk \d|^X must"):
            trainer.fit(chunks, epochs=1, callbacks=[Recorder()], progress=False)
    assert (bits(trainer), events, trainer.unfinished, trainer.steps) == (before, [], None, 0)


@pytest.mark.parametrize("at", [0, 3, 7])
@pytest.mark.parametrize("error", [OSError("the disk is gone"), ValueError("mine"), StopAsyncIteration()], ids=repr)
def test_an_exception_of_the_iterable_is_raised_as_it_is(at: int, error: Exception) -> None:
    X, y = make_data(20)
    closed = []

    def chunks() -> Iterator[tuple[Array, Array]]:
        try:
            for i in range(10):
                if i == at:
                    raise error
                yield X, y
        finally:
            closed.append(True)

    with pytest.raises(type(error)) as caught:
        new_trainer().fit(chunks, epochs=2, window=20, progress=False)
    assert caught.value is error
    assert closed == [True]


def test_an_exception_of_a_data_set_is_raised_as_it_is() -> None:
    error = ValueError("no such file")

    class Files:
        def __len__(self) -> int:
            return 100

        def __getitem__(self, i: int) -> tuple[Array, int]:
            if i == 70:
                raise error
            return np.zeros(5), 0

    with pytest.raises(ValueError, match="no such file") as caught:
        new_trainer().fit(Files(), epochs=1, progress=False)
    assert caught.value is error


def test_an_exception_of_a_callback_ends_the_thread() -> None:
    X, y = make_data(100)

    def fail(trainer: Trainer, logs: dict[str, Any]) -> None:
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        new_trainer().fit(cut([10] * 9, X, y), epochs=3, window=10, callbacks=[fail], progress=False)


def test_an_epoch_in_which_no_row_counts_is_refused() -> None:
    X, y = make_data(40)
    with pytest.raises(ValueError, match="sample_weight and class_weight must leave rows with a weight above 0"):
        new_trainer().fit([(X, y, np.zeros(40))], epochs=1, progress=False)


X, Y = make_data(40)
CHUNKS = [(X, Y)]


@pytest.mark.parametrize(("arguments", "options", "error", "message"), [
    ({"X": CHUNKS, "window": 7}, {}, ValueError, "window must be an integer of at least 8, got 7"),
    ({"X": CHUNKS, "window": 20}, {"accumulation": 3}, ValueError, "window must be an integer of at least 24, got 20"),
    ({"X": CHUNKS, "window": 64.0}, {}, TypeError, "window must be"),
    ({"X": CHUNKS, "steps_per_epoch": 0}, {}, ValueError, "steps_per_epoch must be an integer of at least 1, got 0"),
    ({"X": CHUNKS, "steps_per_epoch": "all"}, {}, TypeError, "steps_per_epoch must be"),
    ({"X": X, "y": Y, "steps_per_epoch": 2}, {}, ValueError, "steps_per_epoch must be None for an X that is not read"),
    ({"X": X, "y": Y, "steps_per_epoch": 6, "window": 8}, {}, ValueError, "steps_per_epoch must be .* 1 to 5, got 6"),
    ({"X": Dataset(X, Y), "steps_per_epoch": 6}, {}, ValueError, "steps_per_epoch must be .* 1 to 5, got 6"),
    ({"X": CHUNKS}, {"schedule": "cosine"}, ValueError, "steps_per_epoch must be given for the schedule"),
    ({"X": CHUNKS, "sample_weight": np.ones(40)}, {}, ValueError, "sample_weight must be None where X gives"),
    ({"X": CHUNKS, "validation_split": 0.2}, {}, ValueError, "validation_split must be 0 .* got 0.2"),
    ({"X": CHUNKS, "class_weight": "balanced"}, {}, ValueError, "class_weight must be None or a dict .*'balanced'"),
    ({"X": CHUNKS, "class_weight": {3: 1.0}}, {}, ValueError, "class_weight must be .*, got the class 3"),
    ({"X": CHUNKS, "class_weight": [1, 2, 3]}, {}, TypeError, "class_weight must be"),
    ({"X": X, "y": Y[:39], "window": 8}, {}, ValueError, "y must have one row for each of the 40 rows of X, got shape"),
    ({"X": X, "y": None, "window": 8}, {}, ValueError, "y must have one row for each"),
    ({"X": X, "y": Y, "sample_weight": np.ones(39), "window": 8}, {}, ValueError, "sample_weight must have one row"),
    ({"X": X[:, :4], "y": Y, "window": 8}, {}, ValueError, r"X must be .* \(rows, 5\), got shape"),
    ({"X": X[0], "y": Y, "window": 8}, {}, ValueError, r"X must be .* \(rows, 5\), got shape \(5,\)"),
    ({"X": X[:0], "y": Y[:0], "window": 8}, {}, ValueError, "X must have at least one row, got none"),
    ({"X": X}, {}, TypeError, "y must be"),
    ({"X": None}, {}, TypeError, "X must be an array"),
    ({"X": CHUNKS, "epochs": 0}, {}, ValueError, "epochs must be"),
])
def test_bad_arguments_are_named_and_change_nothing(arguments: dict[str, Any], options: dict[str, Any],
                                                    error: type[Exception], message: str) -> None:
    trainer = new_trainer(**options)
    before = bits(trainer)
    with pytest.raises(error, match=message):
        trainer.fit(progress=False, **arguments)
    assert (bits(trainer), trainer.steps, trainer.unfinished) == (before, 0, None)
