"""scikit-learn's own tests of MLPClassifier and MLPRegressor, run on ours; and its checks of any estimator."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest

pytest.importorskip("sklearn.neural_network.tests.test_mlp")

import sklearn.neural_network
from sklearn.utils.estimator_checks import check_estimator

import fastmlp

# Theirs expect some warnings and let others pass.
pytestmark = pytest.mark.filterwarnings("default", "ignore::sklearn.exceptions.ConvergenceWarning")

# Tests of private attributes, which ours do not have.
PRIVATE = {
    "test_gradient": "_loss_grad_lbfgs",  # their objective as a function
    "test_learning_rate_warmstart": "_optimizer",  # the learning rate within it
    "test_adaptive_learning_rate": "_optimizer",
}


def load_suite() -> dict[str, Any]:
    """Load their test module anew with our classes in the place of theirs; return its test functions by name."""
    spec = importlib.util.find_spec("sklearn.neural_network.tests.test_mlp")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLPClassifier", "MLPRegressor"):
            patch.setattr(sklearn.neural_network, name, getattr(fastmlp, name))
        spec.loader.exec_module(module)
    return {name: value for name, value in vars(module).items() if name.startswith("test_")}


SUITE = load_suite()
globals().update({name: test for name, test in SUITE.items() if name not in PRIVATE})


@pytest.fixture
def global_random_seed() -> int:
    return 42  # what their conftest gives by default


def test_nearly_all_of_the_suite_runs_and_it_runs_on_ours() -> None:
    assert len(SUITE) - len(PRIVATE) >= 37
    for test in SUITE.values():
        assert test.__globals__["MLPClassifier"] is fastmlp.MLPClassifier
        assert test.__globals__["MLPRegressor"] is fastmlp.MLPRegressor


@pytest.mark.parametrize("name", PRIVATE)
def test_what_is_left_out_needs_a_private_attribute(name: str) -> None:
    with pytest.raises(AttributeError, match=f"has no attribute '{PRIVATE[name]}'"):
        SUITE[name]()


@pytest.mark.parametrize("name", ["MLPClassifier", "MLPRegressor"])
def test_estimator_checks(name: str) -> None:
    results = check_estimator(getattr(fastmlp, name)(), on_skip=None, on_fail="raise")
    assert len(results) > 40
    assert {result["status"] for result in results} <= {"passed", "skipped"}
