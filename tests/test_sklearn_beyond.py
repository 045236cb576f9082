"""What MLPClassifier and MLPRegressor can do beyond scikit-learn's."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from comparing import assert_equal_weights

pytest.importorskip("sklearn")

import scipy.sparse
from sklearn.datasets import load_diabetes, load_digits, make_classification, make_multilabel_classification
from sklearn.metrics import log_loss, recall_score
from sklearn.utils._param_validation import InvalidParameterError
from sklearn.utils.class_weight import compute_sample_weight

import fastmlp
from fastmlp import MLPClassifier, MLPRegressor

pytestmark = [pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
              pytest.mark.usefixtures("registries")]

DIGITS = load_digits().data[:400] / 16, load_digits().target[:400]
TWO = make_classification(400, 8, weights=[0.9], flip_y=0.1, random_state=0)
COUNTS, TOPICS = make_multilabel_classification(200, 10, random_state=0)
LABELS = COUNTS / 5, TOPICS
DIABETES = load_diabetes().data * 20, load_diabetes().target / 100 - 1.5
SMALL: dict[str, Any] = {"hidden_layer_sizes": (16, 8), "max_iter": 30, "random_state": 0, "learning_rate_init": 0.01,
                         "batch_size": 25}


def classifier(**parameters: Any) -> MLPClassifier:
    return MLPClassifier(**SMALL | parameters)


def regressor(**parameters: Any) -> MLPRegressor:
    return MLPRegressor(**SMALL | parameters)


# ---- the network


def test_dropout_is_that_of_the_layers_and_depends_on_the_seed() -> None:
    one = classifier(dropout=0.4).fit(*DIGITS)
    assert [layer.dropout for layer in one.model_.layers] == [0.4, 0.4, 0.0]
    assert [layer.dropout for layer in classifier(dropout=(0.1, 0)).fit(*DIGITS).model_.layers] == [0.1, 0.0, 0.0]
    assert_equal_weights(one, classifier(dropout=0.4).fit(*DIGITS))
    assert not np.array_equal(one.coefs_[0], classifier().fit(*DIGITS).coefs_[0])
    assert one.loss_ > one.model_.loss_and_gradients(*DIGITS)[0]  # nothing is dropped in prediction


def test_an_activation_for_each_layer() -> None:
    estimator = classifier(activation=["gelu", "logistic"]).fit(*DIGITS)
    assert [layer.activation for layer in estimator.model_.layers] == ["gelu", "sigmoid", "softmax"]
    of_each = classifier(activation=["tanh", "tanh"]).fit(*DIGITS)
    assert_equal_weights(of_each, classifier(activation="tanh").fit(*DIGITS))
    assert estimator.score(*DIGITS) > 0.9


def test_an_activation_of_ones_own() -> None:
    fastmlp.register_activation("arctan", lambda z: math.atan(z), lambda z: 1 / (1 + z * z))
    assert classifier(activation="arctan").fit(*DIGITS).score(*DIGITS) > 0.9


def test_learned_slopes() -> None:
    estimator = classifier(activation=["prelu", "relu"]).fit(*DIGITS)
    assert [slopes.shape for slopes in estimator.slopes_] == [(16,)]
    assert not np.allclose(estimator.slopes_[0], 0.25)
    np.testing.assert_array_equal(estimator.model_.get_weights()[2], estimator.slopes_[0])
    assert not hasattr(estimator.set_params(activation="relu").fit(*DIGITS), "slopes_")
    assert estimator.set_params(activation="prelu").model_.get_weights()[2].tolist() == [0.25] * 16


# ---- weights of classes


@pytest.mark.parametrize("class_weight", ["balanced", {1: 5.0}, {0: 0.5, 1: 3.0}], ids=str)
def test_class_weights_are_weights_of_rows(class_weight: Any) -> None:
    X, y = TWO
    given = np.random.default_rng(0).uniform(0.5, 2, len(y))
    by_class = compute_sample_weight(class_weight, y)
    assert_equal_weights(classifier(class_weight=class_weight).fit(X, y), classifier().fit(X, y, by_class))
    both = classifier(class_weight=class_weight).fit(X, y, given)
    assert_equal_weights(both, classifier().fit(X, y, by_class * given))


def test_class_weights_go_by_the_label() -> None:
    X, y = TWO
    names = np.array(["often", "seldom"])[y]
    weighted = classifier(class_weight={"seldom": 5.0}).fit(X, names)
    assert_equal_weights(weighted, classifier(class_weight={1: 5.0}).fit(X, y))
    plain = classifier().fit(X, names)
    assert recall_score(y, weighted.predict(X) == "seldom") > recall_score(y, plain.predict(X) == "seldom")
    with pytest.raises(ValueError, match="class_weight"):
        classifier(class_weight={"never": 5.0}).fit(X, names)


@pytest.mark.parametrize(("class_weight", "told"), [
    ("foo", "'class_weight' .* must be .*'balanced'.* Got 'foo'"), (5, "'class_weight' .* must be .*dict.* Got 5"),
    ({0: "much"}, r"class_weight\[0\] must be a finite number of at least 0, got 'much'"),
    ({1: -1.0}, r"class_weight\[1\] must be .* got -1.0"),
], ids=str)
def test_class_weights_that_are_none_are_named(class_weight: Any, told: str) -> None:
    with pytest.raises(InvalidParameterError, match=told):
        classifier(class_weight=class_weight).fit(*TWO)


def test_class_weights_of_a_matrix_of_labels_and_in_partial_fit() -> None:
    X, Y = LABELS
    assert_equal_weights(classifier(class_weight="balanced").fit(X, Y),
                         classifier().fit(X, Y, compute_sample_weight("balanced", Y)))
    with pytest.raises(ValueError, match="class_weight"):
        classifier(class_weight={0: 2.0}).fit(X, Y)
    X, y = TWO
    assert_equal_weights(classifier(class_weight={1: 4.0}).partial_fit(X, y, classes=[0, 1]),
                         classifier().partial_fit(X, y, np.where(y == 1, 4.0, 1.0), classes=[0, 1]))
    classifier(class_weight={1: 4.0}).partial_fit(X[y == 0], y[y == 0], classes=[0, 1])  # rows of one class only
    with pytest.raises(ValueError, match="class_weight"):
        classifier(class_weight="balanced").partial_fit(X, y, classes=[0, 1])


def test_early_stopping_scores_without_class_weights() -> None:
    X, y = TWO
    estimator = classifier(class_weight={1: 50.0}, early_stopping=True, validation_fraction=0.5, max_iter=3).fit(X, y)
    assert np.isclose(np.array(estimator.validation_scores_) * 200 % 1, 0).all()


# ---- optimizers, losses, schedules


@pytest.mark.parametrize("optimizer", ["rmsprop", "adamw", "nadam", "adagrad", fastmlp.Momentum(0.8)], ids=str)
def test_any_optimizer_takes_the_place_of_the_solver(optimizer: Any) -> None:
    estimator = classifier(optimizer=optimizer).fit(*DIGITS)
    assert estimator._trainer.optimizer == fastmlp.optimizers.check_optimizer(optimizer)
    assert estimator.score(*DIGITS) > 0.6
    if isinstance(optimizer, fastmlp.Momentum):
        theirs = classifier(solver="sgd", momentum=0.8, nesterovs_momentum=False).fit(*DIGITS)
        assert_equal_weights(estimator, theirs)


def test_an_optimizer_with_an_adaptive_learning_rate() -> None:
    estimator = classifier(optimizer="rmsprop", learning_rate="adaptive", tol=0.5, n_iter_no_change=1).fit(*DIGITS)
    assert estimator._trainer.learning_rate < 0.01
    constant = classifier(learning_rate="adaptive", tol=0.5, n_iter_no_change=1).fit(*DIGITS)  # not for "adam"
    assert constant._trainer.learning_rate == 0.01


def test_a_schedule_takes_the_place_of_the_learning_rate() -> None:
    rates: list[float] = []
    estimator = classifier(schedule="cosine", callbacks=[lambda trainer, logs: rates.append(logs["learning_rate"])])
    estimator.fit(*DIGITS)
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < 1e-4
    assert len(rates) == 30


@pytest.mark.parametrize(("loss", "output"), [
    ("mean_squared_error", "softmax"), ("binary_cross_entropy", "logistic"), ("hinge", "identity"),
    (fastmlp.CrossEntropy(label_smoothing=0.1), "softmax"), (fastmlp.Huber(0.5), "softmax"),
], ids=str)
def test_losses_of_fastmlp_for_classes(loss: Any, output: str) -> None:
    estimator = classifier(loss=loss, early_stopping=True).fit(*DIGITS)
    assert estimator.out_activation_ == output
    assert estimator.score(*DIGITS) > 0.85
    assert estimator.best_validation_score_ > 0.7
    if output != "identity":
        probabilities = estimator.predict_proba(DIGITS[0])
        np.testing.assert_allclose(probabilities.sum(axis=1), 1)
        np.testing.assert_array_equal(estimator.classes_[probabilities.argmax(axis=1)], estimator.predict(DIGITS[0]))


@pytest.mark.parametrize("loss", ["hinge", "mean_squared_error", fastmlp.BinaryCrossEntropy(label_smoothing=0.05)],
                         ids=str)
def test_losses_of_fastmlp_for_two_classes_and_for_labels(loss: Any) -> None:
    X, y = DIGITS[0], DIGITS[1] > 4
    estimator = classifier(loss=loss, early_stopping=True, max_iter=60).fit(X, y)
    assert estimator.score(X, y) > 0.9
    assert estimator.best_validation_score_ > 0.85
    X, Y = LABELS
    assert (classifier(loss=loss, max_iter=60).fit(X, Y).predict(X) == Y).mean() > 0.8


@pytest.mark.parametrize("loss", ["poisson", "cross_entropy"])
def test_losses_that_do_not_go_with_the_targets_are_named(loss: str) -> None:
    with pytest.raises(ValueError, match="loss"):
        classifier(loss=loss).fit(*TWO)


def test_losses_of_fastmlp_for_regression() -> None:
    X, y = DIABETES
    for loss in ("huber", "mean_absolute_error", fastmlp.Huber(2.0), "mean_squared_error"):
        estimator = regressor(loss=loss).fit(X, y)
        assert estimator.score(X, y) > 0.4
    assert estimator.loss_ == pytest.approx(((estimator.predict(X) - y) ** 2).mean(), rel=0.3)
    shares = (y - y.min()) / (y.max() - y.min())
    assert regressor(loss="binary_cross_entropy").fit(X, shares).out_activation_ == "logistic"


def test_a_loss_of_ones_own() -> None:
    fastmlp.register_loss("log_cosh", lambda a, t: math.log(math.cosh(a - t)), lambda a, t: math.tanh(a - t))
    assert regressor(loss="log_cosh").fit(*DIABETES).score(*DIABETES) > 0.4


# ---- validation, callbacks, warm starts


@pytest.mark.parametrize("as_rows", [np.asarray, scipy.sparse.csc_matrix], ids=["dense", "sparse"])
def test_an_own_validation_set(as_rows: Any) -> None:
    X, y = DIGITS
    names = np.array(list("abcdefghij"))[y]
    logged: list[dict[str, Any]] = []
    estimator = classifier(callbacks=[lambda trainer, logs: logged.append(logs)])
    estimator.fit(as_rows(X[:300]), names[:300], X_val=as_rows(X[300:]), y_val=names[300:])
    assert_equal_weights(estimator, classifier().fit(X[:300], names[:300]))  # which it does not change
    assert len(estimator.validation_loss_curve_) == 30
    loss = log_loss(names[300:], estimator.predict_proba(X[300:]))
    assert estimator.validation_loss_curve_[-1] == pytest.approx(loss)
    assert logged[-1]["val_loss"] == estimator.validation_loss_curve_[-1]
    assert logged[-1]["val_score"] == pytest.approx(estimator.score(X[300:], names[300:]))
    assert estimator.validation_scores_ is None
    stopped = classifier(early_stopping=True, tol=0.1, n_iter_no_change=2)
    stopped.fit(as_rows(X[:300]), names[:300], X_val=as_rows(X[300:]), y_val=names[300:])
    assert stopped.n_iter_ < 30
    assert stopped.best_validation_score_ == max(stopped.validation_scores_)
    assert stopped.score(X[300:], names[300:]) == pytest.approx(stopped.best_validation_score_)


@pytest.mark.parametrize("loss", ["squared_error", "poisson"])
def test_the_validation_loss_of_a_regressor_is_as_the_training_loss(loss: str) -> None:
    X, y = DIABETES[0], np.abs(DIABETES[1])
    Y = np.stack([y, 2 * y], axis=1)
    estimator = regressor(loss=loss, alpha=0.0, batch_size=len(X), max_iter=5).fit(X, Y, X_val=X, y_val=Y)
    np.testing.assert_allclose(estimator.validation_loss_curve_[:-1], estimator.loss_curve_[1:], rtol=1e-9)
    lbfgs = regressor(loss=loss, alpha=0.0, solver="lbfgs").fit(X, Y, X_val=X, y_val=Y)
    assert lbfgs.validation_loss_curve_[-1] == pytest.approx(lbfgs.loss_, rel=1e-9)
    assert len(lbfgs.validation_loss_curve_) == lbfgs.n_iter_


def test_rows_held_out_for_early_stopping_give_a_validation_loss_curve() -> None:
    estimator = classifier(early_stopping=True).fit(*DIGITS)
    assert len(estimator.validation_loss_curve_) == estimator.n_iter_ == len(estimator.validation_scores_)
    assert classifier().fit(*DIGITS).validation_loss_curve_ == []


def test_callbacks_of_fastmlp() -> None:
    X, y = DIGITS
    stopping = fastmlp.EarlyStopping(monitor="val_loss", patience=2)
    estimator = classifier(callbacks=[stopping], max_iter=300).fit(X[:300], y[:300], X_val=X[300:], y_val=y[300:])
    assert stopping.stopped_epoch is not None
    assert estimator.n_iter_ == stopping.stopped_epoch + 1 < 300
    best = min(estimator.validation_loss_curve_)
    assert log_loss(y[300:], estimator.predict_proba(X[300:])) == pytest.approx(best)
    seen: list[int] = []
    classifier(solver="lbfgs", callbacks=[lambda trainer, logs: seen.append(trainer.epochs)]).fit(X, y)
    assert seen == list(range(1, 31))


def test_a_warm_start_may_keep_the_optimizer() -> None:
    X, y = DIGITS
    whole = classifier(shuffle=False, tol=0.0, max_iter=20).fit(X, y)
    kept, anew = (classifier(shuffle=False, tol=0.0, max_iter=10, warm_start=True, keep_optimizer=keep)
                  for keep in (True, False))
    for estimator in (kept, anew):
        estimator.fit(X, y).fit(X, y)
    assert_equal_weights(kept, whole)
    assert not np.allclose(anew.coefs_[0], whole.coefs_[0])
    assert kept.t_ == 20 * len(X)


def test_a_progress_bar_is_shown_if_it_is_asked_for(capfd: pytest.CaptureFixture[str]) -> None:
    classifier().fit(*DIGITS)
    assert capfd.readouterr().err == ""
    classifier(progress=True).fit(*DIGITS)
    assert "epoch 30/30" in capfd.readouterr().err
