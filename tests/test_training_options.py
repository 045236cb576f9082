"""Every activation, loss and regulariser in training: gradients against differences, steps against NumPy, same bits."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from naive import Array

import fastmlp
from fastmlp import MLP, Dense, Maxout, Trainer, engine, gradient_check
from fastmlp.activations import ACTIVATIONS
from fastmlp.kernels import layout
from fastmlp.kernels.updates import WRITE_GRADIENT
from fastmlp.losses import LOSSES, check_loss
from fastmlp.threads import available_threads

DTYPES = ("float32", "float64")
THRESHOLDS = ("step", "sign")  # whose derivative is zero


OWN_LOSSES = sorted(LOSSES)


@pytest.fixture(scope="module", autouse=True)
def users_functions(registries: None) -> None:
    """An activation and a loss beside fastmlp's own."""
    fastmlp.register_activation("softsign", lambda z: z / (1 + abs(z)), lambda z: 1 / (1 + abs(z)) ** 2)
    fastmlp.register_loss("log_cosh", lambda a, t: math.log(math.cosh(a - t)), lambda a, t: math.tanh(a - t))


@pytest.fixture
def threads() -> Any:
    before = fastmlp.get_num_threads()
    yield fastmlp.set_num_threads
    fastmlp.set_num_threads(before)


def data(rows: int, inputs: int, outputs: int, kind: str, seed: int = 0) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(rows, inputs))
    y = {
        "labels": lambda: rng.integers(0, outputs, rows),
        "probabilities": lambda: rng.dirichlet(np.ones(outputs), rows),
        "zero_one": lambda: rng.integers(0, 2, (rows, outputs)).astype(float),
        "signs": lambda: rng.choice([-1.0, 1.0], (rows, outputs)),
        "counts": lambda: rng.poisson(2.0, (rows, outputs)).astype(float),
        "numbers": lambda: rng.normal(size=(rows, outputs)),
    }[kind]()
    return X, y


TARGETS = {"cross_entropy": "labels", "binary_cross_entropy": "zero_one", "hinge": "signs", "poisson": "counts"}
OUTPUTS = {"cross_entropy": "softmax", "binary_cross_entropy": "sigmoid", "poisson": "exponential"}


def case(loss: str, layers: list[Any], outputs: int = 3, rows: int = 11, dtype: str = "float64",
         output: str | None = None) -> tuple[MLP, Array, Array]:
    X, y = data(rows, 5, outputs, TARGETS.get(loss, "numbers"))
    model = MLP([5, *layers, Dense(outputs, output or OUTPUTS.get(loss, "identity"))], dtype=dtype, seed=3)
    rng = np.random.default_rng(9)
    model.set_weights([0.4 * w + 0.2 * rng.normal(size=w.shape) for w in model.get_weights()])
    return model, X, y


ACTIVATION_NAMES = sorted({*ACTIVATIONS, "softsign"} - {*THRESHOLDS})


@pytest.mark.parametrize("loss", [*OWN_LOSSES, "log_cosh"])
@pytest.mark.parametrize("activation", ACTIVATION_NAMES)
def test_gradients_agree_with_differences(activation: str, loss: str) -> None:
    model, X, y = case(loss, [Dense(7, activation), Dense(19, activation)])
    report = gradient_check(model, X, y, loss)
    assert report.passed, str(report)


@pytest.mark.parametrize("loss", ("mean_squared_error", "huber", "mean_absolute_error", "hinge", "log_cosh"))
@pytest.mark.parametrize("activation", ACTIVATION_NAMES)
def test_gradients_through_any_output_activation(activation: str, loss: str) -> None:
    model, X, y = case(loss, [6], output=activation)
    report = gradient_check(model, X, y, loss)
    assert report.passed, str(report)


@pytest.mark.parametrize("pieces", (2, 3, 5))
@pytest.mark.parametrize("units", (1, 16, 37))
def test_gradients_of_maxout(units: int, pieces: int) -> None:
    model, X, y = case("cross_entropy", [Maxout(units, pieces), Dense(9, "tanh"), Maxout(4, pieces)])
    assert [w.shape for w in model.get_weights()[:2]] == [(5, pieces * units), (pieces * units,)]
    report = gradient_check(model, X, y)
    assert report.passed, str(report)


def test_maxout_takes_the_largest_piece() -> None:
    model, X, _ = case("cross_entropy", [Maxout(21, 3)], dtype="float64")
    W, b, V, c = model.get_weights()
    largest = (X @ W + b).reshape(len(X), 3, 21).max(axis=1)
    scores = largest @ V + c
    wanted = np.exp(scores - scores.max(axis=1, keepdims=True))
    np.testing.assert_allclose(model.forward(X), wanted / wanted.sum(axis=1, keepdims=True), rtol=1e-12)


def test_of_equal_pieces_of_maxout_the_first_one_learns() -> None:
    model, X, y = case("cross_entropy", [Maxout(4, 3)])
    weights = model.get_weights()
    weights[0][:, 4:8], weights[1][4:8] = weights[0][:, :4], weights[1][:4]  # the second piece is the first one
    model.set_weights(weights)
    dW, db = model.loss_and_gradients(X, y)[1][:2]
    assert (dW[:, :4] != 0).any() and (dW[:, 8:] != 0).any()
    assert (dW[:, 4:8] == 0).all() and (db[4:8] == 0).all()


@pytest.mark.parametrize("shared", (False, True))
def test_gradients_by_learned_slopes(shared: bool) -> None:
    model, X, y = case("cross_entropy", [Dense(23, "prelu", shared=shared), Dense(8, "prelu", alpha=0.1)])
    assert [w.shape for w in model.get_weights()][2] == ((1,) if shared else (23,))
    report = gradient_check(model, X, y)
    assert report.passed, str(report)


@pytest.mark.parametrize("rows", (300, 2500))  # in groups; in several passes
@pytest.mark.parametrize("layer", (Dense(20, "prelu"), Dense(20, "prelu", shared=True), Maxout(20), Dense(20, "gelu")),
                         ids=str)
def test_gradients_of_special_layers_in_large_batches(layer: Any, rows: int) -> None:
    model, X, y = case("cross_entropy", [layer, 300], rows=rows) if rows == 2500 else case("cross_entropy", [layer],
                                                                                         rows=rows)
    loss, gradients = model.loss_and_gradients(X, y)
    halves = [model.loss_and_gradients(X[part], y[part]) for part in (slice(0, rows // 2), slice(rows // 2, rows))]
    assert loss == pytest.approx(sum(half[0] for half in halves) / 2, rel=1e-12)
    for whole, first, second in zip(gradients, halves[0][1], halves[1][1], strict=True):
        np.testing.assert_allclose(whole, (first + second) / 2, rtol=1e-9, atol=1e-12)


# ---- dropout and noise: the loss of a step is a function of the weights, as the random numbers depend on its number


def disturbed_loss_and_gradients(model: MLP, X: Array, y: Array, loss: str,
                                 **options: Any) -> tuple[float, list[Array]]:
    """Loss and gradient of a training step, with what is random in it drawn as in update number 0."""
    trainer = Trainer(model, loss=loss, seed=5, **options)
    source, targets = trainer._check_data(X, y)
    call = trainer._calls.make(source.rows, source.rows, gradients=True)
    call.set_inputs(source)
    call.set_targets(targets)
    call.set_steps(0, np.zeros(1))
    call.context[layout.OPTIMIZER] = WRITE_GRADIENT
    call.train(fastmlp.get_num_threads())
    return float(call.kept(layout.LOSSES)[0]), layout.unpack(model.network.table, call.kept(layout.GRADIENTS))


@pytest.mark.parametrize("options", ({}, {"input_dropout": 0.3}, {"input_noise": 0.5}), ids=str)
@pytest.mark.parametrize("activation", ("relu", "tanh", "sigmoid", "elu", "gelu", "silu", "prelu", "selu", "identity",
                                        "softsign", "maxout"))
def test_gradients_with_dropout_and_noise(activation: str, options: dict[str, float]) -> None:
    layer = Maxout(18, 3, dropout=0.4) if activation == "maxout" else Dense(18, activation, dropout=0.4)
    model, X, y = case("cross_entropy", [layer, Dense(6, "tanh", dropout=0.5)])
    _, gradients = disturbed_loss_and_gradients(model, X, y, "cross_entropy", **options)
    weights, rng, step = model.get_weights(), np.random.default_rng(1), 1e-5
    for number, gradient in enumerate(gradients):
        for place in rng.choice(gradient.size, min(4, gradient.size), replace=False):
            losses = []
            for side in (step, -step):
                changed = [w.copy() for w in weights]
                changed[number].flat[place] += side
                model.set_weights(changed)
                losses.append(disturbed_loss_and_gradients(model, X, y, "cross_entropy", **options)[0])
            wanted = (losses[0] - losses[1]) / (2 * step)
            assert gradient.flat[place] == pytest.approx(wanted, rel=1e-6, abs=1e-9)
    model.set_weights(weights)


def test_dropout_drops_so_many_and_scales_the_rest() -> None:
    model = MLP([1, Dense(4000, "identity", dropout=0.25), Dense(1, "identity")], dtype="float64", seed=0)
    model.set_weights([np.zeros((1, 4000)), np.ones(4000), np.ones((4000, 1)), np.zeros(1)])
    X, y = np.zeros((50, 1)), np.zeros((50, 1))
    assert model.forward(X)[0, 0] == 4000  # nothing is dropped in prediction
    outputs = []
    for seed in range(20):
        model.set_weights([np.zeros((1, 4000)), np.ones(4000), np.ones((4000, 1)), np.zeros(1)])
        outputs.append(math.sqrt(2 * Trainer(model, loss="half_squared_error", seed=seed).step(X[:1], y[:1])))
    kept = np.array(outputs) * 0.75 / 4000  # share of hidden units that were kept
    assert abs(kept.mean() - 0.75) < 0.01
    assert len(set(outputs)) > 10


@pytest.mark.parametrize("options", ({}, {"input_dropout": 0.2, "input_noise": 0.1}, {"clip_norm": 0.5}), ids=str)
@pytest.mark.parametrize("layers", ([Dense(300, "relu", dropout=0.5, max_norm=1.0)], [Dense(40, "prelu", shared=True)],
                                    [Maxout(60, 3, dropout=0.2), Dense(50, "gelu")]), ids=str)
@pytest.mark.parametrize("rows", (64, 700))
@pytest.mark.parametrize("dtype", DTYPES)
def test_same_bits_on_any_number_of_threads(threads: Callable[[int], None], layers: list[Any], rows: int, dtype: str,
                                            options: dict[str, float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "LEAST_PARALLEL_WORK", 1)
    X, y = data(1400, 30, 4, "labels")
    results: list[list[Any]] = []
    for number in range(1, min(3, available_threads()) + 1):
        threads(number)
        model = MLP([30, *layers, 4], dtype=dtype, seed=0)
        trainer = Trainer(model, batch_size=rows, seed=1, l1=1e-4, weight_decay=1e-3, **options)
        trainer.fit(X, y, epochs=2, progress=False)
        results.append([w.tobytes() for w in model.get_weights()] + [str(trainer.history["loss"])])
    assert all(result == results[0] for result in results)


# ---- steps against NumPy


def step_of(options: dict[str, Any], dtype: str = "float64", rows: int = 40,
            layers: tuple[Any, ...] = (Dense(9, "tanh"),)) -> tuple[list[Array], list[Array], list[Array]]:
    """Weights before a step of SGD with rate 0.1, gradients of the loss, and weights after it."""
    model, X, y = case("cross_entropy", list(layers), rows=rows, dtype=dtype)
    before = model.get_weights()
    _, gradients = model.loss_and_gradients(X, y)
    Trainer(model, optimizer="sgd", learning_rate=0.1, **options).step(X, y)
    return before, gradients, model.get_weights()


def check_step(wanted: list[Array], found: list[Array], dtype: str) -> None:
    for a, b in zip(wanted, found, strict=True):
        np.testing.assert_allclose(b, a, rtol=0, atol=1e-12 if dtype == "float64" else 2e-6)


@pytest.mark.parametrize("rows", (40, 700))
@pytest.mark.parametrize("dtype", DTYPES)
def test_l1_l2_and_weight_decay(dtype: str, rows: int) -> None:
    for biases in (False, True):
        options = {"l1": 0.02, "l2": 0.03, "weight_decay": 0.05, "regularise_biases": biases}
        before, gradients, after = step_of(options, dtype, rows)
        wanted = []
        for w, g in zip(before, gradients, strict=True):
            if w.ndim == 2 or biases:
                shrunk = w * (1 - 0.1 * 0.05)
                wanted.append(shrunk - 0.1 * (g + 0.02 * np.sign(w) + 0.03 * shrunk))
            else:
                wanted.append(w - 0.1 * g)
        check_step(wanted, after, dtype)


def test_learned_slopes_are_not_regularised() -> None:
    before, gradients, after = step_of({"l1": 0.02, "l2": 0.03, "weight_decay": 0.05, "regularise_biases": True},
                                       layers=(Dense(9, "prelu"),))
    np.testing.assert_allclose(after[2], before[2] - 0.1 * gradients[2], rtol=0, atol=1e-12)


@pytest.mark.parametrize("rows", (40, 700))
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layer", (Dense(9, "tanh"), Dense(37, "prelu"), Dense(37, "prelu", shared=True), Maxout(5)),
                         ids=str)
def test_clipping_by_norm(layer: Any, dtype: str, rows: int) -> None:
    before, gradients, free = step_of({"clip_norm": 1e3}, dtype, rows, (layer,))
    check_step([w - 0.1 * g for w, g in zip(before, gradients, strict=True)], free, dtype)
    norm = math.sqrt(sum((g.astype(float) ** 2).sum() for g in gradients))
    before, gradients, clipped = step_of({"clip_norm": norm / 3}, dtype, rows, (layer,))
    check_step([w - 0.1 * g / 3 for w, g in zip(before, gradients, strict=True)], clipped,
               "float32")  # the norm has 1e-6 added to it


@pytest.mark.parametrize("rows", (40, 700))
@pytest.mark.parametrize("dtype", DTYPES)
def test_clipping_by_value(dtype: str, rows: int) -> None:
    before, gradients, after = step_of({"clip_value": 0.01}, dtype, rows)
    assert max(np.abs(g).max() for g in gradients) > 0.01
    check_step([w - 0.1 * np.clip(g, -0.01, 0.01) for w, g in zip(before, gradients, strict=True)], after, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layer", (Dense(19, "tanh", max_norm=0.5), Maxout(19, 2, max_norm=0.5)), ids=str)
def test_weights_into_a_unit_are_shortened_to_max_norm(layer: Any, dtype: str) -> None:
    before, gradients, after = step_of({}, dtype, layers=(layer,))
    wanted = [w - 0.1 * g for w, g in zip(before, gradients, strict=True)]
    norms = np.linalg.norm(wanted[0], axis=0)
    assert (norms > 0.5).any()
    wanted[0] = wanted[0] * np.minimum(1, 0.5 / norms)
    check_step(wanted, after, dtype)


def test_max_norm_holds_after_training_and_other_layers_are_free() -> None:
    X, y = data(200, 20, 3, "labels")
    model = MLP([20, Dense(50, "relu", max_norm=0.4), 3], seed=0)
    Trainer(model, learning_rate=0.05).fit(X, y, epochs=5, progress=False)
    weights = model.get_weights()
    assert np.linalg.norm(weights[0], axis=0).max() <= 0.4 * (1 + 1e-5)
    assert np.linalg.norm(weights[2], axis=0).max() > 0.4


# ---- accumulation, loops by hand


@pytest.mark.parametrize("options", ({"input_dropout": 0.2}, {"input_noise": 0.1}), ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_accumulation_takes_the_steps_of_a_larger_batch(dtype: str, options: dict[str, float]) -> None:
    """What is drawn for a row depends on its place in the batch, however many rows go through at a time."""
    X, y = data(330, 30, 4, "labels")
    models = [MLP([30, Dense(1100, "relu", dropout=0.3), 4], dtype=dtype, seed=0) for _ in range(2)]
    Trainer(models[0], batch_size=128, **options).fit(X, y, epochs=2, progress=False)
    Trainer(models[1], batch_size=32, accumulation=4, **options).fit(X, y, epochs=2, progress=False)
    for a, b in zip(models[0].get_weights(), models[1].get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-9 if dtype == "float64" else 2e-3)


@pytest.mark.parametrize("options", ({}, {"clip_norm": 0.1, "l1": 1e-3}, {"input_dropout": 0.3}), ids=str)
@pytest.mark.parametrize("rows", (8, 700))
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_loop_by_hand_gives_the_bits_of_fit(dtype: str, rows: int, options: dict[str, Any]) -> None:
    X, y = data(1400, 12, 4, "labels")
    models = [MLP([12, Dense(20, "tanh", dropout=0.2, max_norm=0.5), 4], dtype=dtype, seed=0) for _ in range(3)]
    trainers = [Trainer(model, batch_size=rows, seed=2, **options) for model in models]
    X, y = X[: 2 * rows], y[: 2 * rows]
    history = trainers[0].fit(X, y, epochs=2, shuffle=False, progress=False)
    losses = []
    for _ in range(2):
        for begin in (0, rows):
            batch = slice(begin, begin + rows)
            trainers[1].zero_gradients()
            outputs = trainers[1].forward(X[batch])
            assert outputs.shape == (rows, 4)
            trainers[1].compute_loss(y[batch])
            before = models[1].get_weights()
            trainers[1].backward()
            assert all((a == b).all() for a, b in zip(before, models[1].get_weights(), strict=True))
            trainers[1].update()
            losses.append(trainers[2].step(X[batch], y[batch]))
    assert np.mean(losses[:2]) == pytest.approx(history["loss"][0])
    for model in models[1:]:
        for a, b in zip(models[0].get_weights(), model.get_weights(), strict=True):
            assert a.tobytes() == b.tobytes()
    assert trainers[0].steps == trainers[1].steps == trainers[2].steps == 4


@pytest.mark.parametrize("options", ({"input_dropout": 0.3}, {"input_noise": 0.5}, {}), ids=str)
def test_gradients_summed_by_hand_are_those_of_accumulation(options: dict[str, Any]) -> None:
    X, y = data(40, 12, 4, "labels")
    models = [MLP([12, Dense(20, "tanh", dropout=0.5), 4], dtype="float64", seed=0) for _ in range(2)]
    accumulating = Trainer(models[0], optimizer="sgd", learning_rate=0.1, batch_size=10, accumulation=2, **options)
    accumulating.fit(X, y, epochs=1, shuffle=False, progress=False)
    by_hand = Trainer(models[1], optimizer="sgd", learning_rate=0.05, **options)  # of a sum of two means
    for begin in range(0, 40, 10):
        if begin % 20 == 0:
            by_hand.zero_gradients()
        by_hand.forward(X[begin : begin + 10])
        by_hand.compute_loss(y[begin : begin + 10])
        by_hand.backward()
        if begin % 20 == 10:
            by_hand.update()
    for a, b in zip(models[0].get_weights(), models[1].get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-15)


def test_gradients_add_up_until_they_are_zeroed() -> None:
    model, X, y = case("cross_entropy", [Dense(9, "tanh")], rows=30)
    trainer = Trainer(model)
    _, first = model.loss_and_gradients(X[:10], y[:10])
    _, second = model.loss_and_gradients(X[10:], y[10:])
    for batch in (slice(0, 10), slice(10, 30)):
        trainer.forward(X[batch])
        assert trainer.compute_loss(y[batch]) == pytest.approx(model.loss_and_gradients(X[batch], y[batch])[0])
        trainer.backward()
    for found, a, b in zip(trainer.get_gradients(), first, second, strict=True):
        np.testing.assert_allclose(found, a + b, rtol=1e-12, atol=1e-15)
    trainer.zero_gradients()
    with pytest.raises(ValueError, match="get_gradients needs gradients"):
        trainer.get_gradients()


@pytest.mark.parametrize("method, message", (("backward", "backward needs a loss"),
                                             ("update", "update needs gradients"),
                                             ("get_gradients", "get_gradients needs gradients")))
def test_parts_of_a_step_out_of_order_are_refused(method: str, message: str) -> None:
    trainer = Trainer(MLP([3, 4, 2]))
    with pytest.raises(ValueError, match=message):
        getattr(trainer, method)()
    with pytest.raises(ValueError, match="compute_loss needs outputs"):
        trainer.compute_loss([0, 1])


# ---- weights of samples and classes


@pytest.mark.parametrize("rows", (30, 900))
@pytest.mark.parametrize("loss", OWN_LOSSES)
def test_a_sample_with_weight_two_counts_as_two(loss: str, rows: int) -> None:
    model, X, y = case(loss, [Dense(9, "tanh")], rows=rows)
    weights = np.random.default_rng(0).integers(0, 4, rows)
    found, gradients = model.loss_and_gradients(X, y, loss, sample_weight=weights)
    wanted, repeated = model.loss_and_gradients(np.repeat(X, weights, axis=0), np.repeat(y, weights, axis=0), loss)
    assert found == pytest.approx(wanted, rel=1e-10)
    for a, b in zip(gradients, repeated, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
    trainer = Trainer(model, loss=loss)
    assert trainer.evaluate(X, y, sample_weight=weights)["loss"] == pytest.approx(wanted, rel=1e-10)


def test_weights_go_with_their_rows_in_every_order() -> None:
    X, y = data(500, 6, 3, "labels")
    weights = np.random.default_rng(1).uniform(0, 3, 500)
    weights[y == 2] = 0
    model = MLP([6, 30, 3], seed=0)
    history = Trainer(model, learning_rate=0.01).fit(X, y, epochs=30, sample_weight=weights, progress=False)
    assert model.predict_proba(X)[:, 2].max() < 0.2  # a class that never counted
    assert history["loss"][-1] < history["loss"][0]


def test_the_loss_of_an_epoch_is_the_weighted_mean() -> None:
    X, y = data(100, 6, 3, "labels")
    weights = np.random.default_rng(1).uniform(0, 3, 100)
    model = MLP([6, 3], dtype="float64", seed=0)
    wanted = Trainer(model).evaluate(X, y, sample_weight=weights)["loss"]
    history = Trainer(model, learning_rate=1e-12, batch_size=7).fit(X, y, epochs=1, sample_weight=weights,
                                                                    progress=False)
    assert history["loss"][0] == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("side", ("train on", "validate on"))
def test_weights_are_needed_on_both_sides_of_a_split(side: str) -> None:
    X, y = data(40, 5, 3, "labels")
    weights = np.repeat([0.0, 1.0] if side == "train on" else [1.0, 0.0], 20)
    trainer = Trainer(MLP([5, 3]))
    with pytest.raises(ValueError, match=f"sample_weight .* rows to {side}"):
        trainer.fit(X, y, sample_weight=weights, validation_split=0.5, progress=False)
    assert trainer.steps == 0


@pytest.mark.parametrize("class_weight", ({0: 5.0}, "balanced"))
@pytest.mark.parametrize("weighted", (False, True))
def test_classes_have_no_weights_in_validation(weighted: bool, class_weight: Any) -> None:
    """But samples have."""
    X, y = data(60, 5, 3, "labels")
    y[:40] = np.minimum(y[:40], 1)
    arrays = [X, y, *([np.random.default_rng(1).uniform(0.5, 3, 60)] if weighted else [])]
    trainer = Trainer(MLP([5, 3], seed=0))
    trainer.fit(X, y, epochs=1, validation_split=0.25, sample_weight=arrays[2] if weighted else None,
                class_weight=class_weight, progress=False)
    assert trainer.history["val_loss"] == [trainer.evaluate(*(array[45:] for array in arrays))["loss"]]


@pytest.mark.parametrize("batch", (16, 800))
def test_each_batch_is_divided_by_the_sum_of_its_own_weights(batch: int) -> None:
    X, y = data(3 * batch, 6, 3, "labels")
    weights = np.random.default_rng(1).uniform(0, 3, 3 * batch)
    whole, parts = (MLP([6, 9, 3], dtype="float64", seed=0) for _ in range(2))
    Trainer(whole, batch_size=batch).fit(X, y, epochs=1, sample_weight=weights, shuffle=False, progress=False)
    trainer = Trainer(parts)
    for begin in range(0, 3 * batch, batch):
        rows = slice(begin, begin + batch)
        trainer.step(X[rows], y[rows], sample_weight=weights[rows])
    for a, b in zip(whole.get_weights(), parts.get_weights(), strict=True):
        assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize("class_weight, by_class", (({0: 3.0, 2: 0.5}, [3.0, 1.0, 0.5]), ("balanced", None)))
def test_class_weights(class_weight: Any, by_class: list[float] | None) -> None:
    _, y = data(60, 5, 3, "labels")
    y[:30] = 1
    targets = check_loss("cross_entropy", "softmax").check_targets(y, 60, 3, np.dtype("f8"), None, class_weight)
    if by_class is None:
        by_class = list(60 / (3 * np.bincount(y)))
    np.testing.assert_allclose(targets.weights, np.array(by_class)[y])
    one_hot = np.eye(3)[y]
    again = check_loss("cross_entropy", "softmax").check_targets(one_hot, 60, 3, np.dtype("f8"), None, class_weight)
    np.testing.assert_allclose(again.weights, np.array(by_class)[y])


BAD_WEIGHTS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"sample_weight": [1.0] * 9}, ValueError, "sample_weight must be .* shape"),
    ({"sample_weight": [[1.0]] * 10}, ValueError, "sample_weight must be .* shape"),
    ({"sample_weight": [-1.0] * 10}, ValueError, "sample_weight must be .* position 0"),
    ({"sample_weight": [np.nan] * 10}, ValueError, "sample_weight must be .* position 0"),
    ({"sample_weight": [0.0] * 10}, ValueError, "sample_weight"),
    ({"sample_weight": ["a"] * 10}, TypeError, "sample_weight must be"),
    ({"class_weight": {3: 1.0}}, ValueError, "class_weight must be"),
    ({"class_weight": {0: -1.0}}, ValueError, r"class_weight\[0\] must be"),
    ({"class_weight": "even"}, ValueError, "class_weight must be"),
    ({"class_weight": [1, 2, 3]}, TypeError, "class_weight must be"),
]


@pytest.mark.parametrize("options, error, message", BAD_WEIGHTS, ids=str)
def test_bad_weights_are_refused(options: dict[str, Any], error: type[Exception], message: str) -> None:
    X, y = data(10, 5, 3, "labels")
    model = MLP([5, 3])
    before = model.get_weights()
    trainer = Trainer(model)
    with pytest.raises(error, match=message):
        trainer.fit(X, y, progress=False, **options)
    assert trainer.steps == 0 and all((a == b).all() for a, b in zip(before, model.get_weights(), strict=True))


@pytest.mark.parametrize("delta", (2, np.float32(2), 2.0))
def test_the_parameter_of_a_loss_may_be_any_number(delta: Any) -> None:
    model, X, y = case("huber", [9])
    e = np.abs(model.forward(X) - 10 * y)
    wanted = np.where(e <= 2, e**2 / 2, 2 * (e - 1)).mean()
    assert model.loss_and_gradients(X, 10 * y, fastmlp.Huber(delta))[0] == pytest.approx(wanted, rel=1e-10)


# ---- metrics


def test_metrics_of_training_and_validation_data_are_recorded() -> None:
    X, y = data(120, 5, 3, "labels")
    trainer = Trainer(MLP([5, 20, 3], seed=0), metrics=["accuracy", "f1", "top_2"], learning_rate=0.01)
    history = trainer.fit(X, y, epochs=3, validation_split=0.25, progress=False)
    for name in ("accuracy", "f1", "top_2", "val_accuracy", "val_f1", "val_top_2", "val_loss"):
        assert len(history[name]) == 3 and all(value >= 0 for value in history[name])
    assert history["accuracy"][-1] == pytest.approx(np.mean(trainer.model.predict(X[:90]) == y[:90]))
    assert history["val_accuracy"][-1] == pytest.approx(np.mean(trainer.model.predict(X[90:]) == y[90:]))
    assert set(trainer.evaluate(X, y)) == {"loss", "accuracy", "f1", "top_2"}


# ---- a user's own functions


@pytest.mark.parametrize("call, message", (
    (lambda: fastmlp.register_activation("relu", abs, abs), "must not be that of an activation of fastmlp"),
    (lambda: fastmlp.register_loss("huber", abs, abs), "must not be that of a loss of fastmlp"),
    (lambda: fastmlp.register_activation("bad", lambda z: z * z, lambda z: z), "derivative must be the derivative"),
    (lambda: fastmlp.register_loss("bad", lambda a, t: (a - t) ** 2, lambda a, t: a - t), "derivative must be"),
    (lambda: fastmlp.register_activation("bad", 3, lambda z: z), "value must be a function"),
    (lambda: fastmlp.register_activation("bad", lambda z: z, lambda z, w: z), "derivative must be a function"),
    (lambda: fastmlp.register_activation("bad", lambda z: "one", lambda z: z), "value must return a number"),
    (lambda: fastmlp.register_activation("", lambda z: z, lambda z: 1.0), "name must be a str"),
))
def test_bad_functions_are_refused(call: Callable[[], None], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        call()
    assert "bad" not in ACTIVATIONS and "bad" not in LOSSES


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_user_s_activation_computes_what_it_says(dtype: str) -> None:
    model = MLP([5, Dense(9, "softsign"), Dense(2, "identity")], dtype=dtype, seed=0)
    X, _ = data(30, 5, 2, "numbers")
    W, b, V, c = model.get_weights()
    z = X @ W + b
    np.testing.assert_allclose(model.forward(X), z / (1 + np.abs(z)) @ V + c, rtol=0, atol=1e-5)


def test_a_kink_in_a_user_s_activation_is_allowed() -> None:
    fastmlp.register_activation("hard_tanh", lambda z: min(max(z, -1.0), 1.0), lambda z: 1.0 if -1 < z < 1 else 0.0)
    assert MLP([2, Dense(3, "hard_tanh"), 2]).forward([[1.0, 2.0]]).shape == (1, 2)


# ---- thresholds


def test_two_thresholds_solve_xor() -> None:
    model = MLP([2, Dense(2, "step"), Dense(1, "step")], dtype="float64")
    model.set_weights([[[1, 1], [1, 1]], [-0.5, -1.5], [[1], [-1]], [-0.5]])
    np.testing.assert_array_equal(model.forward([[0, 0], [0, 1], [1, 0], [1, 1]]), [[0], [1], [1], [0]])


def test_a_linear_predictor_on_a_feature_map_finds_the_parabola() -> None:
    x = np.linspace(-2, 2, 81)
    model = MLP([2, Dense(1, "identity", initializer="zeros")], dtype="float64")
    trainer = Trainer(model, loss="mean_squared_error", optimizer="sgd", learning_rate=0.1, batch_size=81)
    trainer.fit(np.column_stack([x, x**2]), 1 - 2 * x + 3 * x**2, epochs=500, progress=False)
    W, b = model.get_weights()
    np.testing.assert_allclose([b[0], W[0, 0], W[1, 0]], [1, -2, 3], atol=1e-6)


# ---- objectives that are sums


def test_l2_beside_a_sum_of_losses_falls_with_the_weight_of_the_batch() -> None:
    """Batches of 8, 8 and 4 rows, with weights: the strength in the mean is that in the sum over the sum of weights."""
    X, y, weights = np.random.default_rng(3).normal(size=(20, 5)), np.arange(20) % 3, np.linspace(0.1, 3.0, 20)
    whole, stepped = (Trainer(MLP([5, 7, 3], dtype="float64"), optimizer="momentum", learning_rate=0.1, batch_size=8)
                      for _ in range(2))
    whole._l2_of_sum = 0.5
    whole.fit(X, y, epochs=2, sample_weight=weights, shuffle=False, progress=False)
    for _ in range(2):
        for rows in (slice(0, 8), slice(8, 16), slice(16, 20)):
            stepped.l2 = 0.5 / float(weights[rows].sum())
            stepped.step(X[rows], y[rows], weights[rows])
    for found, wanted in zip(whole.model.get_weights(), stepped.model.get_weights(), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-12)
    assert not np.allclose(stepped.model.get_weights()[0], MLP([5, 7, 3], dtype="float64").get_weights()[0])


def test_a_factor_on_the_loss_is_one_on_its_gradient_and_not_on_what_is_reported() -> None:
    X, y = np.random.default_rng(3).normal(size=(20, 5)), np.arange(20) % 3
    scaled, plain = (Trainer(MLP([5, 7, 3], dtype="float64"), optimizer="sgd", learning_rate=rate, batch_size=8)
                     for rate in (0.1, 0.3))
    scaled._loss_scale = 3.0
    histories = [trainer.fit(X, y, epochs=2, progress=False).to_dict()["loss"] for trainer in (scaled, plain)]
    np.testing.assert_allclose(*histories, rtol=1e-12)
    for found, wanted in zip(scaled.model.get_weights(), plain.model.get_weights(), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-12)
