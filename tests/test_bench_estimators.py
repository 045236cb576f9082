"""The estimators beside scikit-learn's: both do the same work, and the report says what was measured."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn")
pytest.importorskip("fastmlp.sklearn")

from bench import __main__ as bench_command
from bench.compare import timing
from bench.compare.results import Comparison
from bench.estimators import command, measuring, problems
from bench.estimators.report import format_report
from bench.estimators.results import Results, Scores
from fastmlp.datasets import write_idx

ROOT = Path(__file__).parents[1]
SHORT = timing.Effort(repeats=1, seconds=0.0)


# ---- problems


SHAPES = {"digits": (1347, 450, 64), "breast_cancer": (426, 143, 30), "diabetes": (331, 111, 10)}
NETWORKS = {"digits": "64-100-10", "breast_cancer": "30-100-1", "diabetes": "10-100-1"}


@pytest.mark.parametrize("problem", problems.SMALL, ids=str)
def test_bundled_data(problem: problems.Problem) -> None:
    split = problem.load(None)
    rows, test_rows, inputs = SHAPES[problem.name]
    assert (split.X.shape, split.X_test.shape) == ((rows, inputs), (test_rows, inputs))
    assert (split.y.shape, split.y_test.shape) == ((rows,), (test_rows,))
    assert split.X.dtype == split.X_test.dtype == "float64"
    np.testing.assert_allclose(split.X.mean(axis=0), 0, atol=1e-9)
    assert set(np.round(split.X.std(axis=0), 9)) <= {0.0, 1.0}
    assert 1e-3 < abs(split.X_test.mean()) < 0.2  # scaled by what the training rows say
    assert problem.network(split) == NETWORKS[problem.name]
    if problem.score == "R2":
        np.testing.assert_allclose([split.y.mean(), split.y.std()], [0, 1], atol=1e-9)
    else:
        np.testing.assert_allclose(np.bincount(split.y) / rows, np.bincount(split.y_test) / test_rows, atol=5e-3)
    again = problem.load(None)
    np.testing.assert_array_equal(again.X, split.X)
    np.testing.assert_array_equal(again.y_test, split.y_test)


@pytest.fixture
def mnist(tmp_path: Path) -> Path:
    """A folder with four files in the format of MNIST."""
    rng = np.random.default_rng(0)
    for part, rows in (("train", 300), ("t10k", 100)):
        labels = rng.integers(0, 10, rows)
        images = rng.integers(0, 50, (rows, 28, 28))
        images[np.arange(rows), 2 * labels] += 200
        write_idx(tmp_path / f"{part}-images-idx3-ubyte.gz", images.astype(np.uint8))
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte.gz", labels.astype(np.uint8))
    return tmp_path


@pytest.mark.parametrize("problem", problems.MNIST, ids=str)
def test_mnist(problem: problems.Problem, mnist: Path) -> None:
    split = problem.load(mnist)
    assert split.X.shape[1] == 784
    assert split.X.dtype == split.X_test.dtype == problem.dtype
    assert abs(split.X.mean()) < 1e-3
    assert abs(split.X.std() - 1) < 1e-3
    assert problem.network(split) == f"784-{'-'.join(map(str, problem.hidden))}-10"


def test_what_is_asked() -> None:
    assert {problem.name: problem.target for problem in problems.SMALL + problems.MNIST} == {
        "digits": 10, "breast_cancer": 10, "diabetes": 10, "mnist": 4}
    assert {problem.hidden for problem in problems.SMALL} == {(100,)}
    assert {problem.hidden for problem in problems.MNIST} == {(100,), (256, 128)}
    assert len(measuring.ParameterGrid(problems.GRID)) == 24
    assert problems.GRID_TARGET == 3
    networks = [(problem.name, problem.hidden) for problem in problems.SMALL + problems.MNIST if problem.scored_epochs]
    assert len(networks) == len(set(networks)) == 5


# ---- both sides do the same work


def test_defaults_are_scikit_learns() -> None:
    for problem in problems.SMALL:
        default = getattr(measuring.SIDES["sklearn"], problem.estimator)().get_params()
        for side in measuring.SIDES:
            params = measuring.estimator_of(side, problem, problem.scored_epochs).get_params()
            assert {name: params[name] for name in default} == default


@pytest.mark.parametrize("side", measuring.SIDES)
def test_no_timed_training_stops_early(side: str) -> None:
    problem = dataclasses.replace(problems.SMALL[1], timed_epochs=60)
    split = problem.load(None)
    fit = measuring.timed_estimator(side, problem).set_params(learning_rate_init=0.3).fit
    with measuring.unconverged():
        estimator = fit(split.X, split.y)
    assert estimator.n_iter_ == 60
    assert np.argmin(estimator.loss_curve_) < 40  # the loss had long ceased to fall


class Recorded:
    """An estimator that only notes down what is asked of it."""

    calls: list[tuple[Any, ...]]

    def __init__(self, side: str, **settings: Any) -> None:
        self.side, self.settings = side, settings

    def fit(self, X: Any, y: Any) -> Recorded:
        self.calls.append((self.side, "fit", X.shape, self.settings))
        return self

    def score(self, X: Any, y: Any) -> float:
        self.calls.append((self.side, "score", X.shape, self.settings))
        return self.settings["random_state"] / 10 + (self.side == "fastmlp") / 100


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    monkeypatch.setattr(Recorded, "calls", [], raising=False)
    monkeypatch.setattr(measuring, "SIDES", {
        side: argparse.Namespace(MLPClassifier=functools.partial(Recorded, side),
                                 MLPRegressor=functools.partial(Recorded, side)) for side in measuring.SIDES})
    return Recorded.calls


def test_timing_a_fit(calls: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "SECONDS_TO_SETTLE", 0)
    problem = problems.MNIST[1]
    split = problems.Split(np.zeros((30, 784)), np.zeros(30), np.zeros((5, 784)), np.zeros(5), 10)
    measured = measuring.compare_fit(problem, split, SHORT)
    assert (measured.name, measured.target) == ("mnist", 4)
    assert measured.description == "784-256-128-10, float32, 30 rows, 2 epochs"
    assert set(measured.seconds) == {"fastmlp", "sklearn"}
    settings = {"hidden_layer_sizes": (256, 128), "max_iter": 2, "tol": 0.0, "n_iter_no_change": 2, "random_state": 0}
    assert all(call[1:] == ("fit", (30, 784), settings) for call in calls)
    assert [side for side, *_ in calls[-2:]] == ["fastmlp", "sklearn"]  # turn by turn


def test_scoring(calls: list[tuple[Any, ...]], capsys: pytest.CaptureFixture[str]) -> None:
    problem = problems.SMALL[2]
    measured = measuring.compare_scores(problem, problem.load(None), range(2))
    assert measured.name == "diabetes"
    assert measured.description == "R2, 10-100-1, at most 200 epochs"
    assert measured.scores == {"fastmlp": pytest.approx([0.01, 0.11]), "sklearn": pytest.approx([0.0, 0.1])}
    assert [(side, what, shape) for side, what, shape, _ in calls] == [
        ("fastmlp", "fit", (331, 10)), ("fastmlp", "score", (111, 10)),
        ("sklearn", "fit", (331, 10)), ("sklearn", "score", (111, 10))] * 2
    assert calls[0][3] == {"hidden_layer_sizes": (100,), "max_iter": 200, "random_state": 0}
    assert "diabetes, seed 1: fastmlp 0.1100, scikit-learn 0.1000" in capsys.readouterr().out


# ---- results and report


def scores(fastmlp: list[float], sklearn: list[float]) -> Scores:
    return Scores("digits", "accuracy", {"fastmlp": fastmlp, "sklearn": sklearn})


def test_standard_error() -> None:
    measured = scores([0.8, 0.9, 1.0, 0.9], [1.0, 1.0, 1.0, 1.0])
    assert measured.mean("fastmlp") == pytest.approx(0.9)
    assert measured.standard_error("fastmlp") == pytest.approx(np.std([0.8, 0.9, 1.0, 0.9], ddof=1) / 2)
    assert measured.standard_error("sklearn") == 0


@pytest.mark.parametrize(("fastmlp", "sklearn", "expected"), [
    ([0.9, 0.9], [0.9, 0.9], True),
    ([0.9, 0.9], [0.91, 0.91], False),
    ([0.92, 0.92], [0.91, 0.91], True),
    ([0.85, 0.95], [0.93, 0.93], True),  # 0.03 below, an error of 0.05
    ([0.85, 0.95], [0.96, 0.96], False),
    ([0.85, 0.95], [0.91, 1.01], True),  # 0.06 below, an error of 0.07 for the two together
    ([0.85, 0.95], [0.93, 1.03], False),
])
def test_as_good(fastmlp: list[float], sklearn: list[float], expected: bool) -> None:
    assert scores(fastmlp, sklearn).is_as_good is expected


def synthetic_results() -> Results:
    return Results(
        date="2026-01-02", command="python -m bench estimators", quick=False, seeds="0 to 1",
        machine={"processor": "A processor", "cores": "4"}, versions={"Python": "3.12.1", "scikit-learn": "1.9"},
        fits=[Comparison("digits", "64-100-10", {"fastmlp": 0.1, "sklearn": 1.2}, target=10),
              Comparison("mnist", "784-100-10", {"fastmlp": 2.0, "sklearn": 1.0}, target=4)],
        grids=[Comparison("digits", "24 settings", {"fastmlp": 1.0, "sklearn": 2.0}, target=3)],
        scores=[scores([0.98, 0.99], [0.97, 0.98]),
                Scores("mnist", "accuracy", {"fastmlp": [0.9, 0.9], "sklearn": [0.95, 0.95]})])


def test_report() -> None:
    report = format_report(synthetic_results())
    for line in ("- Date: 2026-01-02", "- Machine: processor A processor, cores 4",
                 "- Versions: Python 3.12.1, scikit-learn 1.9", "    python -m bench estimators",
                 "| digits | 64-100-10 | 100 ms | 1.20 s | 12.0 | 12.0 of 10: reached |",
                 "| mnist | 784-100-10 | 2.00 s | 1.00 s | 0.50 (slower) | 0.50 of 4: not reached |",
                 "| digits | 24 settings | 1.00 s | 2.00 s | 2.00 | 2.00 of 3: not reached |",
                 "| digits | accuracy | 0.9850 ± 0.0050 | 0.9750 ± 0.0050 | yes |",
                 "| mnist | accuracy | 0.9000 ± 0.0000 | 0.9500 ± 0.0000 | no |"):
        assert line in report.splitlines()
    assert "(`random_state`) 0 to 1." in report
    assert "quick run" not in report
    assert "quick run" in format_report(dataclasses.replace(synthetic_results(), quick=True))


# ---- the command


@pytest.mark.parametrize(("arguments", "message"), [
    (["--seeds", "1"], "--seeds: must be 2 or more, got 1"),
    (["--seeds", "many"], "--seeds: invalid int value"),
    (["--data", "no/such/folder"], "--data: there is no folder"),
    (["--output", "no/such/folder/report.md"], "--output: there is no folder"),
    (["--peers", "torch"], "--peers"),
])
def test_wrong_options(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        bench_command.main(["estimators", *arguments])
    assert exit_.value.code == 2
    assert message in capsys.readouterr().err


def test_defaults(tmp_path: Path) -> None:
    chosen = command.parse([])
    assert (chosen.output, chosen.seeds, chosen.data) == (ROOT / "bench" / "ESTIMATORS.md", 10, None)
    quick = command.parse(["--quick"])
    assert (quick.output, quick.seeds) == (None, 2)


def test_command_line_of_the_report(tmp_path: Path) -> None:
    def line(*arguments: str) -> str:
        return command.command_line(command.parse(arguments))

    assert line("--output", str(tmp_path / "a.md")) == "python -m bench estimators"
    assert line("--quick", "--seeds", "3", "--data", str(tmp_path)) == (
        "python -m bench estimators --quick --data FOLDER --seeds 3")


def test_without_scikit_learn(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    assert command.main(["--quick"]) == 2
    assert "pip install scikit-learn" in capsys.readouterr().err


def test_quick_run(mnist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                   capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(timing, "SECONDS_TO_SETTLE", 0)
    monkeypatch.setattr(command, "QUICK_EFFORT", SHORT)
    output = tmp_path / "report.md"
    assert bench_command.main(["estimators", "--quick", "--data", str(mnist), "--output", str(output)]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"digits, 64-100-10.*: fastmlp \d.* scikit-learn \d.* ratio \d", printed)
    assert "digits, 2 settings, 2 folds, 2 processes" in printed

    report = output.read_text("utf-8")
    rows = [line.split(" | ")[0] for line in report.splitlines() if line.startswith("| ")]
    names = ["| digits", "| breast_cancer", "| diabetes", "| mnist"]
    assert [row for row in rows if row not in ("| data", "| ---")] == [*names, "| digits", *names]
    assert "quick run" in report
    assert str(tmp_path) not in report


def test_quick_run_is_printed_and_does_without_mnist(monkeypatch: pytest.MonkeyPatch,
                                                     capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(measuring, "compare_fit", lambda problem, *_: synthetic_results().fits[0])
    monkeypatch.setattr(measuring, "compare_grid", lambda *_: synthetic_results().grids[0])
    monkeypatch.setattr(measuring, "compare_scores", lambda *_: synthetic_results().scores[0])
    assert command.main(["--quick"]) == 0
    printed = capsys.readouterr().out
    assert "MNIST is left out without --data" in printed
    assert "# fastmlp's MLPClassifier and MLPRegressor beside scikit-learn's" in printed
    assert "mnist" not in printed
