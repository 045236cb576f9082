"""The comparison with other libraries: all do the same work, and the report says what was measured."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import geometric_mean
from typing import Any

import numpy as np
import pytest

from bench import __main__ as bench_command
from bench.compare import cases, command, fresh_process, machine, mnist, options, peak, products, start, timing, wording
from bench.compare.cases import Case
from bench.compare.peers import PEERS, SIDES, FastMLP, NumPy, ScikitLearn
from bench.compare.report import format_report
from bench.compare.results import (
    AccuracyRun,
    Comparison,
    Memory,
    Peak,
    Products,
    Results,
    Scaling,
    Start,
    TimeToAccuracy,
    mean_ratio,
)
from bench.compare.timing import Effort
from bench.compare.training import measure_scaling, thread_counts
from fastmlp import get_num_threads
from fastmlp.datasets import Dataset
from fastmlp.kernels.simd import FUSED, IS_X86

ROOT = Path(__file__).parents[1]
SHORT = Effort(repeats=1, seconds=0.0)


# ---- cases


def test_flops_of_a_sample() -> None:
    # 3 x 4 and 4 x 2 weights: forward and gradient for all of them, the delta for the second layer only
    assert cases.flops_per_sample((3, 4, 2)) == 2 * 2 * (12 + 8) + 2 * 8
    case = Case("", (3, 4, 2), batch_size=10, samples=30)
    assert case.flops_per_step == 10 * 96
    assert case.steps_per_epoch == 3


def test_cases_can_be_measured_by_all_alike() -> None:
    names = [case.name for case in cases.HEADLINE + cases.FURTHER]
    assert len(set(names)) == len(names)
    assert set(cases.QUICK_TRAINING + cases.QUICK_THREADS + cases.SCALING_SHAPES) <= set(names)
    for case in cases.HEADLINE + cases.FURTHER:
        assert case.samples % case.batch_size == 0, case.name
        if case.epochs_per_call > 1:
            assert case.epochs_per_call * case.samples <= cases.SAMPLES_PER_CALL, case.name
            assert case.epochs_per_call * case.steps_per_epoch <= cases.STEPS_PER_CALL, case.name
    assert [case.target for case in cases.HEADLINE] == [8, 12, 5, 3, 2.5, 2, 1.3, 1.25]
    assert len(set(cases.PRODUCT_SHAPES)) == len(cases.PRODUCT_SHAPES) >= 20


@pytest.mark.parametrize(("sizes", "name"), [
    ((784, 128, 10), "784-128-10"), ((16,) * 9 + (4,), "16-8x16-4"), ((2, 8, 8, 8, 1), "2-8-8-8-1"),
])
def test_network_name(sizes: tuple[int, ...], name: str) -> None:
    assert cases.network_name(sizes) == name


@pytest.mark.parametrize(("output", "y_dtype", "values"), [
    ("softmax", "int64", {0, 1, 2}), ("sigmoid", "float32", {0.0, 1.0}), ("identity", "float32", None)])
def test_data_suits_the_output(output: str, y_dtype: str, values: set[float] | None) -> None:
    X, y = Case("", (5, 4, 3), 10, 100, output=output).data()
    assert (X.shape, X.dtype.name) == ((100, 5), "float32")
    assert (y.shape, y.dtype.name) == ((100,) if output == "softmax" else (100, 3), y_dtype)
    assert values is None or set(y.ravel().tolist()) == values


# ---- all sides do the same work

PROBLEMS = {  # and the epochs to train; where the data are one batch, the order of the samples does not matter
    "mini-batches": (Case("", (4, 16, 8, 3), 20, 600, learning_rate=1e-2), 4),
    "sigmoid": (Case("", (4, 16, 1), 600, 600, "tanh", "sigmoid", "nesterov", learning_rate=0.1), 60),
    "identity": (Case("", (4, 16, 1), 600, 600, "sigmoid", "identity", "momentum", learning_rate=0.05), 60),
    "elu": (Case("", (4, 16, 3), 600, 600, "elu", optimizer="sgd", learning_rate=0.5), 60),
}


def learnable(case: Case) -> tuple[Any, Any]:
    """Data with targets that depend on the inputs."""
    rng = np.random.default_rng(3)
    X = rng.standard_normal((case.samples, case.sizes[0])).astype(np.float32)
    signal = X @ rng.standard_normal((case.sizes[0], 3))
    if case.output == "softmax":
        return X, signal.argmax(1)
    y = signal[:, :1].astype(np.float32)
    return X, (y > 0).astype(np.float32) if case.output == "sigmoid" else y


def loss(case: Case, outputs: Any, y: Any) -> float:
    if case.output == "softmax":
        return float(-np.mean(np.log(outputs[np.arange(len(y)), y])))
    if case.output == "sigmoid":
        p = outputs[:, -1:]  # scikit-learn returns a column for each of the two classes
        return float(-np.mean(y * np.log(p) + (1 - y) * np.log(1 - p)))
    return float(np.mean((outputs.reshape(y.shape) - y) ** 2))


def losses(side: str) -> dict[str, float]:
    """The loss after training, for each problem that the side can solve."""
    found = {}
    for name, (case, epochs) in PROBLEMS.items():
        if SIDES[side].can_train(case):
            X, y = learnable(case)
            network = SIDES[side](case, X, y)
            network.fit(epochs)
            found[name] = loss(case, network.predict(X), y)
    return found


@pytest.fixture(scope="module")
def expected() -> dict[str, float]:
    found = losses("fastmlp")
    for name, (case, _) in PROBLEMS.items():
        X, y = learnable(case)
        assert found[name] < loss(case, FastMLP(case, X, y).predict(X), y) / 2
    return found


def findings(peer: str) -> dict[str, Any]:
    """All that is to be found out about a peer."""
    found: dict[str, Any] = {"losses": losses(peer)}
    if peer in products.PEERS:
        found["products"] = {form: flat(products.product_calls(form, PRODUCT, 1, [peer])[peer]())
                             for form in products.FORMS}
    if peer in mnist.PEERS:
        measured = mnist.measure_time_to_accuracy(blobs(), [peer], goal=0.95, epochs=3, seeds=(1,))
        found["runs"] = [dataclasses.asdict(run) for run in measured.runs]
    return found


@functools.cache
def findings_in_a_process(peer: str) -> dict[str, Any]:
    """The findings of a process of its own: the libraries' threads would get into the way of other tests."""
    if not PEERS[peer].is_installed():
        pytest.skip(f"{PEERS[peer].label} is not installed")
    code = f"import json; from tests.test_bench_compare import findings; print(json.dumps(findings({peer!r})))"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=ROOT,
                          env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False,
                          timeout=240)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("peer", list(PEERS))
def test_a_peer_trains_as_fastmlp_does(peer: str, expected: dict[str, float]) -> None:
    found = findings_in_a_process(peer)["losses"]
    assert found.keys() == expected.keys() - ({"elu"} if peer == "sklearn" else set())
    for name, value in found.items():
        # scikit-learn draws its own weights, and halves the squared error; the order of samples is each one's own.
        tolerance = 0.4 if peer == "sklearn" or name == "mini-batches" else 1e-3
        assert value == pytest.approx(expected[name], rel=tolerance), name


def test_what_a_library_lacks_is_left_out() -> None:
    assert ScikitLearn.can_train(Case("", (4, 3), 10, 20, "tanh"))
    assert not ScikitLearn.can_train(Case("", (4, 3), 10, 20, "elu"))


PRODUCT = (17, 23, 9)


def flat(result: Any) -> list[float]:
    """All numbers of a product, which is an array or a tuple of them."""
    arrays = result if isinstance(result, tuple) else (result,)
    return [number for array in arrays for number in np.asarray(array).ravel().tolist()]


@pytest.mark.parametrize("threads", sorted({1, get_num_threads()}))
@pytest.mark.parametrize(("form", "length"), [("forward", 17 * 9), ("transposed", 17 * 23), ("gradient", 23 * 9 + 9)])
def test_the_sides_of_a_product_agree(form: str, length: int, threads: int) -> None:
    calls = products.product_calls(form, PRODUCT, threads, ["numpy"])
    wanted = flat(calls["numpy"]())
    assert len(wanted) == length
    np.testing.assert_allclose(flat(calls["fastmlp"]()), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("form", list(products.FORMS))
def test_torch_computes_the_same_product(form: str) -> None:
    wanted = flat(products.product_calls(form, PRODUCT, 1, ["numpy"])["numpy"]())
    np.testing.assert_allclose(findings_in_a_process("torch")["products"][form], wanted, rtol=1e-4, atol=1e-4)


def test_torch_reaches_the_accuracy() -> None:
    runs = findings_in_a_process("torch")["runs"]
    assert [(run["side"], run["seed"]) for run in runs] == [("fastmlp", 1), ("torch", 1)]
    for run in runs:
        assert run["seconds"] > 0
        assert run["final_accuracy"] >= 0.95


def test_numpy_is_held_to_a_number_of_threads() -> None:
    threadpoolctl = pytest.importorskip("threadpoolctl")
    with products.peer_threads(1, ["numpy"]):
        pools = [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
        assert pools and all(pool["num_threads"] == 1 for pool in pools)


# ---- timing


def test_measure_takes_the_median_of_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    durations = {"fast": [9.0, 1.0, 3.0, 2.0], "slow": [9.0, 5.0, 50.0, 6.0]}  # the first call is to warm up
    clock, order = 0.0, []

    def call(side: str) -> Callable[[], None]:
        remaining = [durations[side][0], *durations[side]]

        def run() -> None:
            nonlocal clock
            order.append(side)
            clock += remaining.pop(0)

        return run

    monkeypatch.setattr(timing, "SECONDS_TO_SETTLE", 0)
    monkeypatch.setattr(timing, "Timer", lambda call: FakeTimer(call, lambda: clock))
    found = timing.measure({side: call(side) for side in durations}, Effort(repeats=3, seconds=1.0))
    assert found == {"fast": 2.0, "slow": 6.0}
    assert order[4:] == ["fast", "slow"] * 3


class FakeTimer:
    def __init__(self, call: Callable[[], None], now: Callable[[], float]) -> None:
        self.call = call
        self.now = now

    def timeit(self, number: int) -> float:
        before = self.now()
        for _ in range(number):
            self.call()
        return self.now() - before


def test_measure_repeats_short_calls() -> None:
    calls = 0

    def call() -> None:
        nonlocal calls
        calls += 1

    seconds = timing.measure({"": call}, Effort(repeats=2, seconds=0.001))[""]
    assert calls > 100
    assert 0 < seconds < 0.001


@pytest.mark.parametrize(("available", "counts"), [(1, [1]), (2, [1, 2]), (4, [1, 2, 4]), (6, [1, 2, 4, 6])])
def test_thread_counts(available: int, counts: list[int]) -> None:
    assert thread_counts(available) == counts


def test_scaling_leaves_the_number_of_threads_as_it_was() -> None:
    before = get_num_threads()
    case = dataclasses.replace(cases.HEADLINE[0], samples=100)
    scaling = measure_scaling(case, thread_counts(before), SHORT, epochs=1)
    assert get_num_threads() == before
    assert list(scaling.seconds) == thread_counts(before)
    assert all(seconds > 0 for seconds in scaling.seconds.values())


# ---- the limit of the machine


def test_peak_counts_its_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peak, "STEPS", 100_000)
    measured = peak.measure_peak(2, repeats=2)
    assert 1e8 < measured.one < 1e12
    assert measured.all > 0
    # Each sum goes x <- 0.999 x + 0.999 to the fixed point 999.
    assert peak.multiply_add(100_000) == pytest.approx(999 * peak.ACCUMULATORS, rel=1e-2)
    assert Peak(1.0, 4.0).best_of(Peak(2.0, 3.0)) == Peak(2.0, 4.0)


@pytest.mark.skipif(not (IS_X86 and FUSED), reason="reads the machine code of x86 with fused multiply-add")
def test_peak_loop_is_nothing_but_multiply_adds_on_registers() -> None:
    peak.multiply_add(1)
    (code,) = peak.multiply_add.inspect_asm().values()
    lines = [line.split("#")[0].strip() for line in code.splitlines()]
    first, last = (at for at, line in enumerate(lines) if line.startswith("vfmadd")), len(lines)
    begin = next(first)
    end = next(at for at in range(begin, last) if lines[at].startswith("j"))
    loop = [line for line in lines[begin:end] if line.startswith("v")]
    assert len(loop) % peak.ACCUMULATORS == 0
    register = "zmm" if peak.VECTOR.lanes == 16 else "ymm"
    for line in loop:
        assert re.fullmatch(rf"vfmadd\w+ps\s+(%{register}\d+, ){{2}}%{register}\d+", line), line


# ---- what the report says


def comparison(name: str, target: float | None = None, **seconds: float) -> Comparison:
    return Comparison(name, "a network", seconds, flops=2e3, target=target)


def test_ratios_and_their_mean() -> None:
    one = comparison("one", fastmlp=2.0, numpy=8.0, torch=3.0)
    two = comparison("two", fastmlp=1.0, numpy=9.0)
    assert one.ratio("numpy") == 4 and one.ratio("jax") is None
    assert (one.best_peer, one.best_ratio) == ("torch", 1.5)
    assert one.flops_per_second == 1e3
    assert mean_ratio([one, two]) == pytest.approx(geometric_mean([1.5, 9]))
    assert mean_ratio([one, two], "numpy") == pytest.approx(6)
    assert mean_ratio([one, two], "torch") == pytest.approx(1.5)
    alone = comparison("alone", fastmlp=1.0)
    assert alone.best_peer is None and alone.best_ratio is None and mean_ratio([alone]) is None


@pytest.mark.parametrize(("ratio", "text"), [
    (0.93, "0.93 (slower)"), (0.9949, "0.99 (slower)"), (0.996, "1.00"), (1.0, "1.00"), (3.14159, "3.14"),
    (9.996, "10.0"), (152.06, "152.1"), (None, "-")])
def test_a_slower_fastmlp_is_called_so(ratio: float | None, text: str) -> None:
    assert wording.ratio_text(ratio) == text


@pytest.mark.parametrize(("ratio", "target", "text"), [
    (3.1, 3, "3.10 of 3: reached"), (2.2, 2.5, "2.20 of 2.5: not reached"), (2.499, 2.5, "2.50 of 2.5: reached"),
    (None, 3, "-"), (3.1, None, "-")])
def test_targets_are_reached_or_not(ratio: float | None, target: float | None, text: str) -> None:
    assert wording.target_text(ratio, target) == text


def test_targets_of_time() -> None:
    assert wording.time_target_text(3.2e-6, 4e-6) == "3.20 us of at most 4 us: reached"
    assert wording.time_target_text(9e-6, 8e-6) == "9.00 us of at most 8 us: not reached"


def synthetic_results() -> Results:
    headline = [comparison(case.name, case.target, fastmlp=1e-6, numpy=9e-6, torch=0.5e-6)
                for case in cases.HEADLINE]
    return Results(
        date="2026-01-02", command="python -m bench compare", quick=False,
        machine={"processor": "A processor", "cores": "4"}, versions={"Python": "3.12.1", "NumPy": "2.0"},
        missing=["JAX"], peers={"numpy": "NumPy", "torch": "PyTorch"}, peak=Peak(5e9, 2e10),
        headline=headline, further=[comparison("odd", fastmlp=2e-6, torch=8e-6)],
        prediction=[Comparison("4-32-2", "1 row", {"fastmlp": 5e-6, "numpy": 1e-5}, target_seconds=4e-6),
                    Comparison("4-32-2", "10,000 rows", {"fastmlp": 1e-5, "numpy": 5e-5}, target=4)],
        products=[Products("forward", 1, [comparison("1 x 2 x 3", fastmlp=1.0, numpy=2.0),
                                          comparison("4 x 5 x 6", fastmlp=1.0, numpy=0.5)])],
        threads=[Scaling("mnist", "a network", {1: 3e-3, 2: 2e-3, 4: 1.5e-3}, target=1.8)],
        start=Start({"fastmlp": 0.25, "numpy": 0.1}, 12.5, 0.5,
                    Memory(100_000_000, 200_000_000, 400_000, 800_000, 30_000_000, 341_200_000)),
        mnist=TimeToAccuracy("MNIST", 0.98, [
            AccuracyRun("fastmlp", 1, 1.5, 0.9812), AccuracyRun("torch", 1, 3.0, 0.9805),
            AccuracyRun("fastmlp", 2, 1.7, 0.982), AccuracyRun("torch", 2, None, 0.979)]))


def line_with(report: str, start: str) -> str:
    (line,) = (line for line in report.splitlines() if line.startswith(start))
    return line


def test_report_on_the_machine_and_how_to_repeat() -> None:
    report = format_report(synthetic_results(), "picture.svg")
    assert "- Date: 2026-01-02" in report
    assert "- Machine: processor A processor, cores 4" in report
    assert "5.0 GF/s on one core, 20.0 GF/s on all" in report
    assert "- Versions: Python 3.12.1, NumPy 2.0" in report
    assert "- Peers: NumPy, PyTorch\n- JAX: not installed" in report
    assert "    python -m bench compare\n" in report
    assert "](picture.svg)" in report
    assert "quick run" not in report
    assert "quick run" in format_report(dataclasses.replace(synthetic_results(), quick=True))


def test_report_on_training() -> None:
    report = format_report(synthetic_results())
    assert line_with(report, "| tiny ") == (
        "| tiny | a network | 1.00 us | 2.0 | 10% | 9.00 | 0.50 (slower) | PyTorch 0.50 (slower) | "
        "0.50 of 8: not reached |")
    assert line_with(report, "| odd ") == "| odd | a network | 2.00 us | 1.0 | 5% | 4.00 | PyTorch 4.00 |"
    assert "best peer of each network: 0.50 of 3: not reached." in report
    few = dataclasses.replace(synthetic_results(), headline=synthetic_results().headline[:3])
    assert "best peer of each network" not in format_report(few)


def test_report_on_prediction() -> None:
    report = format_report(synthetic_results())
    assert line_with(report, "| 4-32-2 | 1 row ").endswith(
        "| 2.00 | NumPy 2.00 | 5.00 us of at most 4 us: not reached |")
    assert line_with(report, "| 4-32-2 | 10,000 rows ").endswith("| 5.00 | NumPy 5.00 | 5.00 of 4: reached |")


def test_report_on_products() -> None:
    report = format_report(synthetic_results())
    assert line_with(report, "| forward | 1 ") == (
        "| forward | 1 | 1.00 of 1.15: not reached | 0.50 of 0.95: not reached | 1 |")
    assert "Under 0.95 of the best peer:\n\n- forward, 1 thread, 4 x 5 x 6: 0.50 (slower)\n" in report
    assert "- forward, 1 thread, 1 x 2 x 3" not in report
    assert line_with(report, "| 4 x 5 x 6 ").endswith("| 0.50 (slower) | NumPy 0.50 (slower) |")


def test_report_on_threads_start_and_accuracy() -> None:
    report = format_report(synthetic_results())
    assert line_with(report, "| mnist | a network | 3.00 ms ").endswith("| 2.00 ms | 1.50 ms | 2.00 of 1.8: reached |")
    assert "0.50 s; 12.50 s where the kernels must be compiled" in report
    assert "takes 40.0 MB over the imports (100.0 MB), the data (200.0 MB)" in report
    assert "state (1.2 MB); 30.0 MB of it" in report
    assert "## Time to 98.0% test accuracy" in report
    assert line_with(report, "| 2 |") == "| 2 | 1.70 s (98.20% at the end) | not reached (97.90% at the end) |"
    assert "times as long" not in report  # PyTorch missed the goal once


def test_time_to_accuracy_is_the_median_of_those_who_made_it() -> None:
    runs = [AccuracyRun(side, seed, seconds, 0.98) for side, times in (("fastmlp", (1.0, 3.0, 2.0)),
                                                                      ("torch", (5.0, 6.0, 7.0)))
            for seed, seconds in enumerate(times)]
    measured = TimeToAccuracy("", 0.98, runs)
    assert (measured.typical_seconds("fastmlp"), measured.typical_seconds("torch")) == (2.0, 6.0)
    assert "PyTorch takes 3.00 times as long" in format_report(
        dataclasses.replace(synthetic_results(), mnist=measured))


def test_report_names_neither_the_computer_nor_its_folders() -> None:
    import platform

    described = " ".join([*machine.describe_machine().values(), *machine.describe_versions(["numpy"]).values()])
    assert platform.node() not in described.split()
    assert str(Path.home()) not in described
    assert set(machine.describe_versions(["numpy"])) == {"Python", "fastmlp", "Numba", "NumPy"}


# ---- fresh processes, MNIST


def test_first_fit_in_a_fresh_process() -> None:
    assert 0.01 < start.in_fresh_process(os.environ, "first_fit") < 120
    assert 0 < start.in_fresh_process(os.environ, "import", "json") < 10


@pytest.mark.skipif(not fresh_process.STATUS.exists(), reason="only Linux tells how much memory was used")
def test_memory_is_counted() -> None:
    used = Memory(**start.in_fresh_process(os.environ, "memory", "digits"))
    digits = next(case for case in cases.HEADLINE if case.name == "digits")
    assert used.data == digits.samples * (64 * 4 + 8)
    assert used.parameters == 4 * (64 * 32 + 32 + 32 * 10 + 10)
    assert used.optimizer_state == 2 * used.parameters
    assert used.peak > used.imports > 10_000_000
    assert 0 < used.overhead < 1_000_000_000


def blobs() -> Dataset:
    """Images that are easily told apart: a bright row for each class."""
    rng = np.random.default_rng(0)

    def part(samples: int) -> tuple[Any, Any]:
        y = rng.integers(0, 4, samples)
        X = rng.integers(0, 50, (samples, 4, 5))
        X[np.arange(samples), y] += 200
        return X.reshape(samples, 20).astype(np.uint8), y

    return Dataset("blobs", *part(1_000), *part(300), (4, 5), 4)


def test_time_to_accuracy() -> None:
    measured = mnist.measure_time_to_accuracy(blobs(), [], goal=0.95, epochs=3, seeds=(1, 2))
    assert [(run.side, run.seed) for run in measured.runs] == [("fastmlp", 1), ("fastmlp", 2)]
    for run in measured.runs:
        assert run.seconds is not None and 0 < run.seconds < 60
        assert run.final_accuracy >= 0.95
    missed = mnist.measure_time_to_accuracy(blobs(), [], goal=1.1, epochs=1, seeds=(1,))
    assert missed.runs[0].seconds is None


def test_the_clock_counts_training_only(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    accuracies = iter([0.9, 0.985, 0.97])

    def accuracy() -> float:
        nonlocal now
        now += 100.0
        return next(accuracies)

    monkeypatch.setattr("bench.compare.mnist.time.perf_counter", lambda: now)
    clock = mnist.Clock(accuracy, goal=0.98)
    for seconds in (2.0, 3.0, 5.0):
        clock.start_epoch()
        now += seconds
        clock.end_epoch()
    assert clock.run("fastmlp", 1) == AccuracyRun("fastmlp", 1, 5.0, 0.97)


# ---- the command


@pytest.mark.parametrize(("arguments", "message"), [
    (["--sections", "training,nonsense"], "sections must be of training, prediction"),
    (["--peers", "keras"], "peers must be of numpy, torch"),
    (["--shapes", "huge"], "huge"),
    (["--sections", "mnist"], "mnist needs --data"),
    (["--data", "no/such/folder"], "--data: there is no folder"),
    (["--output", "no/such/folder/report.md"], "--output: there is no folder"),
    (["--picture", "no/such/folder/picture.svg"], "--picture: there is no folder"),
    (["--json", "no/such/folder/results.json"], "--json: there is no folder"),
])
def test_wrong_options(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        options.parse(arguments)
    assert exit_.value.code == 2
    assert message in capsys.readouterr().err


def test_files_that_are_written_by_default(tmp_path: Path) -> None:
    chosen = options.parse([])
    assert (chosen.output, chosen.picture) == (ROOT / "bench" / "RESULTS.md", ROOT / "bench" / "results.svg")
    assert options.parse(["--output", str(tmp_path / "a.md")]).picture == tmp_path / "results.svg"
    quick = options.parse(["--quick"])
    assert (quick.output, quick.picture) == (None, None)


def test_command_line_of_the_report(tmp_path: Path) -> None:
    assert options.command_line(options.parse(["--output", str(tmp_path / "a.md")])) == "python -m bench compare"
    given = ["--quick", "--sections", "threads,mnist", "--shapes", "tiny", "odd", "--peers", "jax",
             "--data", str(tmp_path)]
    assert options.command_line(options.parse(given)) == (
        "python -m bench compare --quick --sections threads,mnist --shapes tiny odd --peers jax --data FOLDER")


def test_quick_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """From the command line to the files, with NumPy alone, and JAX missing."""
    monkeypatch.setattr(PEERS["jax"], "packages", ("no_such_package",))
    monkeypatch.setattr(timing, "SECONDS_TO_SETTLE", 0)
    monkeypatch.setattr(command, "QUICK_EFFORT", SHORT)
    files = {name: tmp_path / name for name in ("report.md", "picture.svg", "results.json")}
    code = bench_command.main([
        "compare", "--quick", "--sections", "training,prediction,products,threads", "--peers", "numpy,jax",
        "--output", str(files["report.md"]), "--picture", str(files["picture.svg"]),
        "--json", str(files["results.json"])])
    assert code == 0
    printed = capsys.readouterr().out
    assert "JAX is not installed" in printed
    assert re.search(r"tiny, 2-8-8-1.*: fastmlp \d+.* NumPy \d+", printed)

    report = files["report.md"].read_text("utf-8")
    for heading in ("## Training", "## Training: more shapes", "## Prediction", "## Matrix products", "## Threads"):
        assert f"\n{heading}\n" in report
    assert "- JAX: not installed" in report
    assert str(tmp_path) not in report
    assert line_with(report, "| odd ").count("NumPy") == 1

    results = json.loads(files["results.json"].read_text("utf-8"))
    assert [case["name"] for case in results["headline"]] == ["tiny", "digits"]
    assert set(results["headline"][0]["seconds"]) == {"fastmlp", "numpy"}
    assert [group["form"] for group in results["products"] if group["threads"] == 1] == list(products.FORMS)

    if importlib.util.find_spec("matplotlib") is None:
        assert "matplotlib is not installed" in printed
        assert not files["picture.svg"].exists()
    else:
        drawing = files["picture.svg"].read_text("utf-8")
        assert "](picture.svg)" in report
        assert all(text in drawing for text in ("NumPy", "tiny", "digits", results["machine"]["processor"]))


def test_report_without_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                   capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(command, "measure", lambda chosen: synthetic_results())
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    output = tmp_path / "report.md"
    assert command.main(["--output", str(output)]) == 0
    assert "matplotlib is not installed" in capsys.readouterr().out
    assert output.read_text("utf-8") == format_report(synthetic_results())
    assert [path.name for path in tmp_path.iterdir()] == ["report.md"]


def test_report_is_printed_where_no_file_is_asked_for(monkeypatch: pytest.MonkeyPatch,
                                                      capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(command, "measure", lambda chosen: synthetic_results())
    assert command.main(["--quick"]) == 0
    assert format_report(synthetic_results()) in capsys.readouterr().out


def test_numpy_side_trains_in_float32() -> None:
    case, _ = PROBLEMS["mini-batches"]
    network = NumPy(case, *learnable(case))
    network.fit(1)
    assert {array.dtype.name for array in network.network.parameters} == {"float32"}
