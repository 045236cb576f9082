"""Threads: how many, under every threading layer of Numba, from several Python threads, and after a fork."""

from __future__ import annotations

import concurrent.futures
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastmlp
from fastmlp import MLP, Trainer, engine, get_num_threads, set_num_threads
from fastmlp.kernels import layout, standalone, team
from fastmlp.threads import available_threads, limited_to, threading_layer

SECONDS = 240  # that a process may take, compiling included


@pytest.fixture(autouse=True)
def same_threads_afterwards() -> Iterator[None]:
    before = get_num_threads()
    yield
    set_num_threads(before)


def run_code(code: str, **environment: str) -> str:
    """Run Python code in a process of its own; fail if it fails, hangs or crashes; return what it prints."""
    paths = [str(Path(fastmlp.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = {"PYTHONPATH": os.pathsep.join(filter(None, paths)), **environment}
    done = subprocess.run([sys.executable, "-W", "ignore::DeprecationWarning", "-c", code], capture_output=True,
                          text=True, timeout=SECONDS, env={**os.environ, **environment})
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


# ---- how many


def test_a_limit_holds_for_its_own_python_thread_and_ends_with_the_body() -> None:
    if available_threads() < 2:
        pytest.skip("there is only one thread")
    before = get_num_threads()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        with limited_to(2), limited_to(1):
            assert get_num_threads() == 1
            assert pool.submit(get_num_threads).result() == before
        with pytest.raises(KeyError), limited_to(1):
            raise KeyError
        assert get_num_threads() == before


def test_all_threads_unless_told_otherwise() -> None:
    printed = run_code("import fastmlp, numba; print(fastmlp.get_num_threads(), numba.config.NUMBA_NUM_THREADS)")
    used, there_are = printed.split()
    assert used == there_are


def test_set_and_get() -> None:
    for number in range(1, available_threads() + 1):
        assert set_num_threads(number) is None
        assert get_num_threads() == number
    set_num_threads(np.int64(1))
    assert get_num_threads() == 1
    assert type(get_num_threads()) is int


@pytest.mark.parametrize(("threads", "error"), [
    (0, ValueError), (-1, ValueError), (10**6, ValueError), (1.0, TypeError), ("2", TypeError), (None, TypeError),
    (True, TypeError),
])
def test_bad_numbers_are_refused_and_change_nothing(threads: Any, error: type[Exception]) -> None:
    set_num_threads(1)
    with pytest.raises(error, match=f"^threads must be an integer from 1 to {available_threads()}, got "):
        set_num_threads(threads)
    assert get_num_threads() == 1


def test_the_number_of_numba_itself_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    import numba

    if available_threads() < 2:
        pytest.skip("needs two threads")
    states = []
    run = engine.Call._run

    def run_and_note(call: engine.Call, program: int, threads: int) -> None:
        run(call, program, threads)
        states.append(call.kept(layout.TEAM)[team.STATE])

    monkeypatch.setattr(engine.Call, "_run", run_and_note)
    rng = np.random.default_rng(0)
    X, weights = rng.normal(size=(3000, 100)), rng.normal(size=(100, 50))
    numba.set_num_threads(1)
    try:
        set_num_threads(2)
        Trainer(MLP([100, 50, 3]), batch_size=512).fit(X, np.zeros(3000, int), epochs=1, progress=False)
        assert states[0] == team.TOGETHER  # two threads there were nevertheless
        standalone.dense_forward(X, weights, np.zeros(50), threads=2)
        standalone.weight_gradient(X, X @ weights, threads=2)
        assert numba.get_num_threads() == 1
    finally:
        numba.set_num_threads(available_threads())


def test_the_layer_has_a_name() -> None:
    assert threading_layer() in ("omp", "tbb", "workqueue")


# What the processes below share: some models, their training and what comes of it.
TRAINING = """
import os, sys, threading, time
import numpy as np
from fastmlp import MLP, Trainer, engine, get_num_threads, set_num_threads
from fastmlp.threads import available_threads
engine.LEAST_PARALLEL_WORK = 0  # so that any work is shared
SHAPES = [([50, 70, 5], "float32", 64), ([20, 30, 4], "float64", 32), ([6, 9, 3], "float32", 512),
          ([200, 300, 10], "float32", 128)]

def train(number, epochs=2):
    sizes, dtype, batch = SHAPES[number]
    rng = np.random.default_rng(number)
    X, y = rng.normal(size=(1100, sizes[0])).astype(dtype), rng.integers(0, sizes[-1], 1100)
    model = MLP(sizes, activation="tanh", dtype=dtype, seed=number)
    trainer = Trainer(model, batch_size=batch, learning_rate=0.01)
    trainer.fit(X, y, epochs=epochs, progress=False)
    result = [array.tobytes() for array in model.get_weights()] + [model.forward(X).tobytes()]
    return result + [repr(trainer.evaluate(X, y)), repr(trainer.history["loss"])]

def train_at_once(numbers, epochs):
    results = [None] * len(numbers)
    start = threading.Barrier(len(numbers))
    def work(place):
        start.wait()
        results[place] = train(numbers[place], epochs)
    workers = [threading.Thread(target=work, args=(place,), daemon=True) for place in range(len(numbers))]
    for worker in workers: worker.start()
    for worker in workers: worker.join()
    return results
"""


@pytest.mark.parametrize("layer", ["default", "omp", "workqueue"])
def test_models_trained_from_several_python_threads_at_once(layer: str) -> None:
    """Each as if it were alone, to the bit; under every threading layer, also the one that forbids it."""
    environment = {} if layer == "default" else {"NUMBA_THREADING_LAYER": layer}
    if layer == "omp" and threading_layer() != "omp":
        pytest.skip("the OpenMP layer does not work here")
    printed = run_code(TRAINING + """
set_num_threads(1)
expected = [train(number, epochs=12) for number in range(4)]
set_num_threads(min(2, available_threads()))
from fastmlp.threads import threading_layer
for turn in range(2):
    numbers = [3, 0, 1, 2, 3]
    for number, result in zip(numbers, train_at_once(numbers, epochs=12)):
        assert result == expected[number], (turn, number)
print(threading_layer())
""", **environment)
    assert layer in ("default", printed.strip())


def test_the_same_with_all_threads_in_this_process() -> None:
    set_num_threads(available_threads())
    X = np.random.default_rng(0).normal(size=(2000, 60)).astype(np.float32)
    y = (X[:, :7].argmax(axis=1)).astype(np.int64)

    def train(seed: int) -> list[bytes]:
        model = MLP([60, 120, 7], seed=seed)
        Trainer(model, batch_size=256, seed=seed).fit(X, y, epochs=3, progress=False)
        return [array.tobytes() for array in model.get_weights()]

    expected = [train(seed) for seed in range(4)]
    start = threading.Barrier(4)

    def work(seed: int) -> list[bytes]:
        start.wait(timeout=60)
        return train(seed)

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(4))) == expected


@pytest.mark.parametrize("layer", ["default", "workqueue"])
def test_one_thread_by_environment(layer: str) -> None:
    environment = {"NUMBA_NUM_THREADS": "1", **({} if layer == "default" else {"NUMBA_THREADING_LAYER": layer})}
    code = TRAINING + """
assert get_num_threads() == 1
try:
    set_num_threads(2)
except ValueError:
    pass
else:
    raise SystemExit("two threads of one")
"""
    report = "import hashlib; print(hashlib.sha256(repr([train(n) for n in range(4)]).encode()).hexdigest())"
    assert run_code(code + report, **environment) == run_code(TRAINING + report)


# ---- after a fork

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")

FORK = TRAINING + """
set_num_threads(min(2, get_num_threads()))

def in_child(work):
    '''Run `work` in a forked child and return its exit code; None if it hangs.'''
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    for _ in range(600):
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.1)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return None
"""


@forks
@pytest.mark.parametrize("layer", ["default", "workqueue"])
def test_a_child_forked_after_training_trains_and_predicts(layer: str) -> None:
    environment = {} if layer == "default" else {"NUMBA_THREADING_LAYER": layer}
    run_code(FORK + """
expected = [train(number) for number in range(4)]

def work():
    for number in range(4):
        assert train(number) == expected[number], number

assert in_child(work) == 0
assert in_child(work) == 0  # a second child
assert in_child(lambda: os._exit(in_child(work) or 0)) == 0  # and a child's child
work()  # the parent goes on
""", **environment)


@forks
def test_a_child_forked_before_anything_ran_uses_its_own_threads() -> None:
    run_code(FORK + """
def work():
    for number in range(4):
        train(number)

assert in_child(work) == 0
expected = [train(number) for number in range(4)]
""")


@forks
def test_a_child_forked_while_another_thread_trains() -> None:
    run_code(FORK + """
expected = train(0)
train(3)
stop = False

def keep_training():
    while not stop:
        train(3, epochs=1)

worker = threading.Thread(target=keep_training, daemon=True)
worker.start()

def work():
    assert train(0) == expected

codes = []
for _ in range(5):
    time.sleep(0.02)
    codes.append(in_child(work))
stop = True
worker.join()
assert codes == [0] * 5, codes
""", NUMBA_THREADING_LAYER="workqueue")


@forks
@pytest.mark.parametrize("layer", ["default", "workqueue"])
def test_a_child_with_more_work_than_its_parent(layer: str) -> None:
    """The parent's work was too small to share, the child's is not."""
    environment = {} if layer == "default" else {"NUMBA_THREADING_LAYER": layer}
    run_code(FORK + """
engine.LEAST_PARALLEL_WORK = 10**12
expected = train(0)
engine.LEAST_PARALLEL_WORK = 0

def work():
    assert train(0) == expected

assert in_child(work) == 0
work()
""", **environment)


@forks
def test_a_child_of_a_process_whose_threads_another_library_started() -> None:
    """The parent never used fastmlp, but a parallel function of its own, so that its threads are running."""
    run_code(FORK + """
import numba

@numba.njit(parallel=True)
def total(numbers):
    result = 0.0
    for i in numba.prange(len(numbers)):
        result += numbers[i]
    return result

assert total(np.ones(1000)) == 1000
assert in_child(lambda: train(0)) == 0
""")


@forks
def test_a_pool_of_forked_processes() -> None:
    """As when a search over settings runs in parallel."""
    run_code(TRAINING + """
import multiprocessing
set_num_threads(min(2, get_num_threads()))
expected = [train(number) for number in range(4)]
with multiprocessing.get_context("fork").Pool(2) as pool:
    found = pool.map_async(train, [0, 1, 2, 3, 0]).get(timeout=120)
assert found == [*expected, expected[0]]
""")


FIRST_USE = """
import threading
import numpy as np
from fastmlp import MLP, Dense, Trainer
from fastmlp.kernels import standalone

def at_once(*calls):
    errors, start = [], threading.Barrier(len(calls))
    def work(call):
        start.wait()
        try:
            call()
        except BaseException as error:
            errors.append(error)
    threads = [threading.Thread(target=work, args=(call,)) for call in calls]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    assert not errors, errors

def train():
    X, y = np.ones((64, 5), np.float32), np.arange(64) % 3
    Trainer(MLP([5, Dense(8, dropout=0.2, max_norm=1.0), 3])).fit(X, y, epochs=1, progress=False)

def multiply(dtype):
    matrix = np.ones((8, 8), dtype)
    assert (standalone.dense_forward(matrix, matrix, np.ones(8, dtype)) == 9).all()

at_once(train, train, train)
at_once(lambda: multiply(np.float32), lambda: multiply(np.float64), lambda: multiply(np.float32))
"""


def test_several_threads_may_be_the_first_to_use_the_kernels() -> None:
    run_code(FIRST_USE)
