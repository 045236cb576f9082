"""The losses of rows and their deltas, in one pass, against the textbook's formulas."""

from __future__ import annotations

import itertools
import math
from typing import Any

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive import DTYPES, Array
from panels import GUARD, Fences, from_panels, lanes, padded_columns, panel_width

from fastmlp.kernels import losses
from fastmlp.kernels.batches import FLOAT32, FLOAT64, LABELS
from fastmlp.kernels.linking import kernel_table

CODES = {"cross_entropy": losses.CROSS_ENTROPY, "binary_cross_entropy": losses.BINARY_CROSS_ENTROPY,
         "half_squared_error": losses.HALF_SQUARED_ERROR, "mean_squared_error": losses.MEAN_SQUARED_ERROR,
         "mean_absolute_error": losses.MEAN_ABSOLUTE_ERROR, "huber": losses.HUBER, "hinge": losses.HINGE,
         "poisson": losses.POISSON}
SMOOTHED = ("cross_entropy", "binary_cross_entropy")  # the losses that take label smoothing
KINDS = {np.dtype(np.int64): LABELS, np.dtype(np.float32): FLOAT32, np.dtype(np.float64): FLOAT64}
SIZES = [(1, 1), (1, 17), (3, 2), (5, 15), (2, 16), (7, 33), (40, 10), (4, 100), (8, 31), (9, 32), (17, 65)]


def scratch_for(fences: Fences, units: int, dtype: Any) -> Array:
    """As much as the kernel takes: three times a register for each unit, and two more."""
    return fences.full((3 * padded_columns(units, dtype) + 2) * lanes(dtype), dtype)


def loss_rows(loss: int, outputs: Array, y: Array, samples: Any = None, scale: float = 1.0, begin: int = 0,
              end: int | None = None, parameter: float | None = None, weights: Array | None = None
              ) -> tuple[Array, Array]:
    """Losses and deltas, with their padding, of the rows `begin` to `end` of `outputs`.

    y may have rows further apart than they are long. Without `parameter`, nothing is smoothed and Huber's d is 1.
    """
    rows, units = outputs.shape
    end = rows if end is None else end
    if parameter is None:
        parameter = 1.0 if loss == losses.HUBER else 0.0
    fences = Fences()
    block = fences.panels(outputs, padding=np.nan, shift=1)  # what lies in the padding must not count
    before = block.copy()
    deltas, row_losses = fences.full(block.size, block.dtype, GUARD, shift=1), fences.full(rows, np.float64, GUARD)
    samples = np.arange(rows) if samples is None else np.asarray(samples, np.int64)
    losses.loss_rows(kernel_table(outputs.dtype), loss, parameter, block, rows, begin, end, units, y.ctypes.data,
                     KINDS[y.dtype], y.strides[0] // y.itemsize, 0 if weights is None else weights.ctypes.data, samples,
                     scale, scratch_for(fences, units, block.dtype), deltas, row_losses)
    fences.check()
    np.testing.assert_array_equal(block, before)
    found = from_panels(deltas, rows, padded_columns(units, block.dtype))
    for other_rows in (slice(0, begin), slice(end, rows)):
        assert (found[other_rows] == GUARD).all(), "wrote deltas of other rows"
        assert (row_losses[other_rows] == GUARD).all(), "wrote losses of other rows"
    return row_losses[begin:end], found[begin:end]


def random_targets(name: str, rows: int, units: int, rng: np.random.Generator) -> Array:
    if name == "cross_entropy":
        return rng.dirichlet(np.ones(units), rows)
    if name == "binary_cross_entropy":
        return np.where(rng.random((rows, units)) < 0.5, rng.random((rows, units)),
                        rng.integers(0, 2, (rows, units)))
    if name == "hinge":
        return rng.choice([-1.0, 1.0], (rows, units))
    if name == "poisson":
        return rng.poisson(2.0, (rows, units)).astype(np.float64)
    return rng.normal(size=(rows, units))


def outputs_and_targets(name: str, rows: int, units: int, dtype: str, seed: int) -> tuple[int, Array, Array]:
    """Code of the loss, outputs, and targets for a few samples more; "labels" is cross entropy with labels."""
    rng = np.random.default_rng(seed)
    outputs = rng.normal(size=(rows, units)).astype(dtype)
    if name == "labels":
        return losses.CROSS_ENTROPY, outputs, rng.integers(0, units, rows + 5)
    return CODES[name], outputs, random_targets(name, rows + 5, units, rng)


def check(name: str, outputs: Array, y: Array, targets: Array, found: tuple[Array, Array], scale: float = 1.0,
          d: float = 1.0, weights: Any = None) -> None:
    """Compare with the oracle; the errors allowed are those of sums of `units` terms of the sizes at hand.

    The targets are those after label smoothing; d is Huber's; there is a weight for each row.
    """
    wanted_losses, wanted_deltas = (naive.huber(outputs, targets, d) if name == "huber"
                                    else naive.LOSSES[name](outputs, targets))
    row_losses, deltas = found
    units, dtype = outputs.shape[1], outputs.dtype
    z, t = np.abs(naive.wide(outputs)), np.abs(targets)
    if name == "cross_entropy":
        loss_size, delta_size = t.sum(1) * (2 * z.max(1) + math.log(units) + 1), (2 + z.max(1, keepdims=True)) + 0 * z
    elif name == "binary_cross_entropy":
        loss_size, delta_size = ((1 + t) * z + 1).mean(1), (1 + t) / units
    elif name == "half_squared_error":
        loss_size, delta_size = ((z + t) ** 2).sum(1), z + t
    elif name == "mean_squared_error":
        loss_size, delta_size = ((z + t) ** 2).mean(1), 2 * (z + t) / units
    elif name == "mean_absolute_error":
        loss_size, delta_size = (z + t).mean(1), 0 * z + 1 / units
    elif name == "huber":
        loss_size, delta_size = (np.minimum(z + t, d) * (z + t)).mean(1), np.minimum(z + t, d) / units
    elif name == "hinge":
        loss_size, delta_size = (1 + t * z).mean(1), t / units
    else:
        rate = np.exp(naive.wide(outputs))
        loss_size, delta_size = (rate + t * z).mean(1), (rate + t) / units
    weights = np.ones(len(outputs)) if weights is None else weights
    allowed = weights * naive.error_bound(units + 4, loss_size, dtype)
    assert (np.abs(row_losses - weights * wanted_losses) <= allowed).all()
    factors = scale * weights[:, None]
    allowed = abs(factors) * naive.error_bound(units + 4, delta_size, dtype)
    assert (np.abs(deltas[:, :units] - factors * wanted_deltas) <= allowed).all()
    assert (deltas[:, units:] == 0).all(), "the padding of the deltas is not zero"


# ---- against the oracle


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("target_dtype", DTYPES)
@pytest.mark.parametrize("name", CODES)
def test_losses_and_deltas(name: str, dtype: str, target_dtype: str) -> None:
    rng = np.random.default_rng(0)
    for rows, units in SIZES:
        for spread in (0.1, 3.0):
            outputs = (spread * rng.normal(size=(rows, units))).astype(dtype)
            y = random_targets(name, rows, units, rng).astype(target_dtype)
            check(name, outputs, y, y.astype(dtype).astype(np.float64), loss_rows(CODES[name], outputs, y))


@pytest.mark.parametrize("dtype", DTYPES)
def test_cross_entropy_with_labels(dtype: str) -> None:
    rng = np.random.default_rng(1)
    for rows, units in SIZES:
        for spread in (0.1, 3.0, 30.0):
            z = (spread * rng.normal(size=(rows, units))).astype(dtype)
            labels = rng.integers(0, units, rows)
            check("cross_entropy", z, labels, naive.one_hot(labels, units),
                  loss_rows(losses.CROSS_ENTROPY, z, labels))


@pytest.mark.parametrize("dtype", DTYPES)
@settings(deadline=None, max_examples=80)
@given(rows=st.integers(1, 40), units=st.integers(1, 70), name=st.sampled_from(sorted(CODES)),
       seed=st.integers(0, 1000))
def test_losses_and_deltas_of_any_shape(dtype: str, rows: int, units: int, name: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    outputs = rng.normal(size=(rows, units)).astype(dtype)
    y = random_targets(name, rows, units, rng).astype(dtype)
    check(name, outputs, y, y.astype(np.float64), loss_rows(CODES[name], outputs, y))
    labels = rng.integers(0, units, rows)
    check("cross_entropy", outputs, labels, naive.one_hot(labels, units),
          loss_rows(losses.CROSS_ENTROPY, outputs, labels))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["labels", *CODES])
def test_sizes_beside_a_register_and_a_panel(name: str, dtype: str) -> None:
    """Rows beside a register's lanes, units beside a register and beside one panel and three; a label in each unit."""
    rng = np.random.default_rng(12)
    step, width = lanes(dtype), panel_width(dtype)
    code = CODES.get(name, losses.CROSS_ENTROPY)
    for rows in (1, step - 1, step, step + 1, 2 * step + 1):
        for units in (step - 1, step, step + 1, width - 1, width, width + 1, 3 * width - 1, 3 * width, 3 * width + 1):
            outputs = rng.normal(size=(rows, units)).astype(dtype)
            if name == "labels":
                for first in range(0, units, rows):
                    labels = np.minimum(np.arange(first, first + rows), units - 1)
                    check("cross_entropy", outputs, labels, naive.one_hot(labels, units),
                          loss_rows(code, outputs, labels))
            else:
                y = random_targets(name, rows, units, rng).astype(dtype)
                check(name, outputs, y, y.astype(np.float64), loss_rows(code, outputs, y))


@pytest.mark.parametrize("weighted", (False, True))
@pytest.mark.parametrize("smoothing", (0.0, 0.1))
@pytest.mark.parametrize("name", ["labels", *CODES])
def test_deltas_are_the_slopes_of_the_losses(name: str, smoothing: float, weighted: bool) -> None:
    """Against difference quotients of the kernel's own losses; no unit is beside a kink."""
    rng = np.random.default_rng(2)
    rows, units, h = 3, 5, 1e-5
    code, z, y = outputs_and_targets(name, rows, units, "float64", 2)
    options = {"parameter": 0.7 if name == "huber" else smoothing,
               "weights": rng.random(len(y)) if weighted else None}
    _, deltas = loss_rows(code, z, y, **options)
    for k in range(units):
        step = np.eye(units)[k] * h
        slope = (loss_rows(code, z + step, y, **options)[0] - loss_rows(code, z - step, y, **options)[0]) / (2 * h)
        np.testing.assert_allclose(deltas[:, k], slope, atol=1e-8)


@pytest.mark.parametrize("dtype", DTYPES)
def test_labels_and_one_hot_targets_give_the_same(dtype: str) -> None:
    rng = np.random.default_rng(3)
    z, labels = rng.normal(size=(30, 10)).astype(dtype), rng.integers(0, 10, 30)
    by_label, by_target = (loss_rows(losses.CROSS_ENTROPY, z, y) for y in (labels, naive.one_hot(labels, 10)))
    for a, b in zip(by_label, by_target, strict=True):
        np.testing.assert_allclose(a, b, atol=20 * np.finfo(dtype).eps)


# ---- label smoothing, and Huber's d


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("smoothing", (1e-3, 0.1, 1.0))
@pytest.mark.parametrize("name", ["labels", *SMOOTHED])
def test_label_smoothing(name: str, smoothing: float, dtype: str) -> None:
    for rows, units in SIZES:
        code, z, y = outputs_and_targets(name, rows, units, dtype, 13)
        y = y[:rows]
        targets = naive.one_hot(y, units) if name == "labels" else y
        targets = naive.smoothed(targets, smoothing, 2 if name == "binary_cross_entropy" else units)
        check("cross_entropy" if name == "labels" else name, z, y, targets,
              loss_rows(code, z, y, scale=0.5, parameter=smoothing), scale=0.5)


@pytest.mark.parametrize("name", [name for name in CODES if name not in (*SMOOTHED, "huber")])
def test_losses_without_a_parameter_do_not_look_at_it(name: str) -> None:
    code, outputs, y = outputs_and_targets(name, 3, 5, "float64", 14)
    for a, b in zip(loss_rows(code, outputs, y, parameter=0.3), loss_rows(code, outputs, y), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("d", (0.1, 0.5, 1.0, 3.0, 100.0))
def test_huber_with_bounds_of_its_own(d: float, dtype: str) -> None:
    d = float(np.dtype(dtype).type(d))
    for rows, units in SIZES:
        code, outputs, y = outputs_and_targets("huber", rows, units, dtype, 15)
        y = y[:rows].astype(dtype)
        check("huber", outputs, y, y, loss_rows(code, outputs, y, parameter=d), d=d)


# ---- weights


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("smoothing", (0.0, 0.2))
@pytest.mark.parametrize("name", ["labels", *CODES])
def test_weights_multiply_losses_and_deltas_and_are_read_through_the_samples(name: str, smoothing: float,
                                                                             dtype: str) -> None:
    rng = np.random.default_rng(16)
    for rows, units in SIZES:
        code, outputs, y = outputs_and_targets(name, rows, units, dtype, rows)
        y = y if name == "labels" else y.astype(dtype)
        samples = rng.permutation(len(y))[:rows]
        weights = np.full(len(y), np.nan)
        weights[samples] = rng.choice([0.0, 1.0, 1e-3, 7.3, 0.6], rows)
        d = 0.5 if name == "huber" else 0.0
        found = loss_rows(code, outputs, y, samples, 0.25, parameter=d or smoothing, weights=weights)
        targets = naive.one_hot(y[samples], units) if name == "labels" else y[samples]
        if name in ("labels", *SMOOTHED):
            targets = naive.smoothed(targets, smoothing, 2 if name == "binary_cross_entropy" else units)
        check("cross_entropy" if name == "labels" else name, outputs, y, targets, found, 0.25, d, weights[samples])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["labels", *CODES])
def test_weights_of_one_change_nothing(name: str, dtype: str) -> None:
    code, outputs, y = outputs_and_targets(name, 21, 9, dtype, 17)
    for a, b in zip(loss_rows(code, outputs, y, weights=np.ones(len(y))), loss_rows(code, outputs, y), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_weight_of_zero_does_not_hide_a_loss_of_nan(dtype: str) -> None:
    outputs = np.array([[1.0, np.nan], [1.0, 2.0]], dtype)
    row_losses, deltas = loss_rows(losses.MEAN_SQUARED_ERROR, outputs, np.zeros((2, 2)), weights=np.zeros(2))
    assert np.isnan(row_losses).tolist() == [True, False]
    assert np.isnan(deltas[:, 1]).tolist() == [True, False]
    assert row_losses[1] == 0
    assert (deltas[1] == 0).all()


# ---- against PyTorch


def torch_losses(torch: Any, name: str, z: Any, y: Any, parameter: float) -> Any:
    """Loss of each row, from the class of torch.nn that has it."""
    nn = torch.nn
    if name in ("labels", "cross_entropy"):
        return nn.CrossEntropyLoss(reduction="none", label_smoothing=parameter)(z, y)
    if name == "binary_cross_entropy":
        return nn.BCEWithLogitsLoss(reduction="none")(z, (1 - parameter) * y + parameter / 2).mean(1)
    if name == "half_squared_error":
        return nn.MSELoss(reduction="none")(z, y).sum(1) / 2
    if name == "hinge":  # max(0, margin - y (z - 0))
        return nn.MarginRankingLoss(margin=1.0, reduction="none")(z, torch.zeros_like(z), y).mean(1)
    by_unit = {"mean_squared_error": nn.MSELoss(reduction="none"),
               "mean_absolute_error": nn.L1Loss(reduction="none"),
               "huber": nn.HuberLoss(reduction="none", delta=parameter or 1.0),
               "poisson": nn.PoissonNLLLoss(log_input=True, full=False, reduction="none")}[name]
    return by_unit(z, y).mean(1)


@pytest.mark.parametrize("parameter", (0.0, 0.3))
@pytest.mark.parametrize("name", ["labels", *CODES])
def test_losses_and_deltas_are_those_of_pytorch(name: str, parameter: float) -> None:
    torch = pytest.importorskip("torch")
    rows, units = 21, 7
    code, outputs, y = outputs_and_targets(name, rows, units, "float64", 18)
    y = y[:rows]
    weights = np.random.default_rng(18).random(rows)
    z = torch.tensor(outputs, requires_grad=True)
    wanted = torch.tensor(weights) * torch_losses(torch, name, z, torch.tensor(y), parameter)
    wanted.sum().backward()
    row_losses, deltas = loss_rows(code, outputs, y, weights=weights,
                                   parameter=parameter or (1.0 if name == "huber" else 0.0))
    np.testing.assert_allclose(row_losses, wanted.detach().numpy(), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(deltas[:, :units], z.grad.numpy(), rtol=1e-12, atol=1e-14)


# ---- which target belongs to which row


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("target_dtype", DTYPES)
@pytest.mark.parametrize("name", CODES)
def test_targets_are_read_through_the_samples_and_in_rows_far_apart(name: str, target_dtype: str, dtype: str) -> None:
    rng = np.random.default_rng(4)
    samples = rng.permutation(50)[:21]
    outputs = rng.normal(size=(21, 6)).astype(dtype)
    y = np.full((50, 11), np.nan, target_dtype)
    y[samples, :6] = random_targets(name, 21, 6, rng)
    targets = y[samples, :6].astype(dtype).astype(np.float64)
    check(name, outputs, y, targets, loss_rows(CODES[name], outputs, y[:, :6], samples))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", (1, 15, 16, 17, 33))
def test_labels_are_read_through_the_samples(rows: int, dtype: str) -> None:
    rng = np.random.default_rng(5)
    samples = rng.permutation(100)[:rows]
    z = rng.normal(size=(rows, 7)).astype(dtype)
    labels = np.full(100, -1)
    labels[samples] = rng.integers(0, 7, rows)
    check("cross_entropy", z, labels, naive.one_hot(labels[samples], 7),
          loss_rows(losses.CROSS_ENTROPY, z, labels, samples))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CODES)
def test_scale_multiplies_the_deltas_and_not_the_losses(name: str, dtype: str) -> None:
    rng = np.random.default_rng(6)
    outputs, y = rng.normal(size=(5, 9)).astype(dtype), random_targets(name, 5, 9, rng).astype(dtype)
    check(name, outputs, y, y.astype(np.float64), loss_rows(CODES[name], outputs, y, scale=1 / 64), scale=1 / 64)
    whole = loss_rows(CODES[name], outputs, y)
    scaled = loss_rows(CODES[name], outputs, y, scale=1 / 64)
    np.testing.assert_array_equal(scaled[0], whole[0])
    np.testing.assert_allclose(64 * scaled[1], whole[1], rtol=8 * np.finfo(dtype).eps, atol=4 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", DTYPES)
def test_scale_multiplies_the_deltas_of_labels(dtype: str) -> None:
    rng = np.random.default_rng(11)
    z, labels = rng.normal(size=(21, 9)).astype(dtype), rng.integers(0, 9, 21)
    check("cross_entropy", z, labels, naive.one_hot(labels, 9),
          loss_rows(losses.CROSS_ENTROPY, z, labels, scale=1 / 64), scale=1 / 64)


# ---- extremes


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", (90.0, 800.0, 1e30))
def test_cross_entropies_of_extreme_preactivations_are_finite_and_right(dtype: str, size: float) -> None:
    z = np.array([[size, -size], [-size, size], [size, size], [-size, -size]], dtype)
    exact = float(z[0, 0])
    labels = np.array([0, 0, 0, 1])
    found, deltas = loss_rows(losses.CROSS_ENTROPY, z, labels)
    np.testing.assert_allclose(found, [0, 2 * exact, math.log(2), math.log(2)], rtol=1e-6, atol=1e-30)
    np.testing.assert_allclose(deltas[:, :2], [[0, 0], [-1, 1], [-0.5, 0.5], [0.5, -0.5]], atol=1e-6)
    found, deltas = loss_rows(losses.BINARY_CROSS_ENTROPY, z, np.array([[1.0, 0], [1, 0], [1, 0], [0, 1]]))
    np.testing.assert_allclose(found, [0, exact, exact / 2, exact / 2], rtol=1e-6, atol=1e-30)
    np.testing.assert_allclose(deltas[:, :2], [[0, 0], [-0.5, 0.5], [0, 0.5], [0, -0.5]], atol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_target_of_zero_adds_nothing_to_the_cross_entropy_however_low_its_probability(dtype: str) -> None:
    """The difference of the pre-activations is infinite, they are not."""
    z = np.array([[1.0, -1.0], [1.0, -1.0]], dtype) * np.finfo(dtype).max
    for y in (np.array([0, 1]), np.eye(2)):
        found, deltas = loss_rows(losses.CROSS_ENTROPY, z, y)
        np.testing.assert_array_equal(found, [0, np.inf])
        np.testing.assert_array_equal(deltas[:, :2], [[0, 0], [1, -1]])


@pytest.mark.parametrize("dtype", DTYPES)
def test_values_at_and_around_the_kinks(dtype: str) -> None:
    a = np.array([[-2.0], [-1.0], [0.0], [1.0], [2.0]], dtype)
    tiny = float(np.finfo(dtype).tiny)
    for name, parameter, values, slopes in (
        ("mean_absolute_error", 0.0, [2, 1, 0, 1, 2], [-1, -1, 0, 1, 1]),
        ("huber", 1.0, [1.5, 0.5, 0, 0.5, 1.5], [-1, -1, 0, 1, 1]),
        ("huber", 2.0, [2, 0.5, 0, 0.5, 2], [-2, -1, 0, 1, 2]),
    ):
        found, deltas = loss_rows(CODES[name], a, np.zeros((5, 1)), parameter=parameter)
        np.testing.assert_array_equal(found, values)
        np.testing.assert_array_equal(deltas[:, 0], slopes)
    for target, values, slopes in ((1.0, [3, 2, 1, 0, 0], [-1, -1, -1, 0, 0]),
                                   (-1.0, [0, 0, 1, 2, 3], [0, 0, 1, 1, 1])):
        found, deltas = loss_rows(losses.HINGE, a, np.full((5, 1), target))
        np.testing.assert_array_equal(found, values)
        np.testing.assert_array_equal(deltas[:, 0], slopes)
    found, deltas = loss_rows(losses.MEAN_ABSOLUTE_ERROR, np.array([[tiny], [-tiny]], dtype), np.zeros((2, 1)))
    np.testing.assert_array_equal(deltas[:, 0], [1, -1])


@pytest.mark.parametrize("dtype", DTYPES)
def test_poisson_of_extreme_rates(dtype: str) -> None:
    """A rate of zero costs t |z|; a rate too large for the dtype is infinite, and nothing hides it."""
    z = np.array([[-1e30], [-1e30], [0.0], [1e4]], dtype)
    found, deltas = loss_rows(losses.POISSON, z, np.array([[0.0], [2.0], [1.0], [1.0]]))
    np.testing.assert_allclose(found, [0, 2e30, 1, np.inf], rtol=1e-6)
    np.testing.assert_array_equal(deltas[:, 0], [0, -2, 0, np.inf])


@pytest.mark.parametrize("dtype", DTYPES)
def test_confident_and_right_predictions_have_a_loss_near_zero_not_below(dtype: str) -> None:
    for gap in (5.0, 10.0, 15.0, 40.0, 200.0):
        z = np.array([[gap, 0.0, 0.0]], dtype)
        found = loss_rows(losses.CROSS_ENTROPY, z, np.array([0]))[0][0]
        exact = math.log1p(2 * math.exp(-gap))
        assert found >= 0
        assert found == pytest.approx(exact, abs=4 * float(np.finfo(dtype).eps))


@pytest.mark.parametrize("dtype", DTYPES)
def test_binary_cross_entropy_keeps_small_losses_to_full_precision(dtype: str) -> None:
    z = np.array([[-5.0, -15.0, -40.0, -80.0]], dtype)
    for k in range(4):
        found = loss_rows(losses.BINARY_CROSS_ENTROPY, z[:, k : k + 1].copy(), np.zeros((1, 1)))[0][0]
        assert found == pytest.approx(math.log1p(math.exp(z[0, k])), rel=8 * float(np.finfo(dtype).eps))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_label_that_is_none_of_the_units_gives_nan_and_touches_nothing_else(dtype: str) -> None:
    for units in (10, lanes(dtype), panel_width(dtype), panel_width(dtype) + 1):
        z = np.random.default_rng(7).normal(size=(5, units)).astype(dtype)
        for wrong, smoothing in itertools.product((-1, units, units + 2, 2**40, -(2**40)), (0.0, 0.1)):
            labels = np.array([0, wrong, 1, units - 1, 1])
            found, deltas = loss_rows(losses.CROSS_ENTROPY, z, labels, parameter=smoothing)
            assert np.isnan(found).tolist() == [False, True, False, False, False]
            np.testing.assert_array_equal(deltas[1, units:], 0.0)
            right = [0, 2, 3, 4]
            check("cross_entropy", z[right], labels[right],
                  naive.smoothed(naive.one_hot(labels[right], units), smoothing, units), (found[right], deltas[right]))


# ---- NaN and infinity


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["labels", *CODES])
@pytest.mark.parametrize("units", (1, 3, 16, 33))
def test_the_loss_of_a_row_with_nan_or_infinity_is_not_finite_and_no_other_row_s(units: int, name: str,
                                                                                dtype: str) -> None:
    """Wherever in the row it is, and whichever unit the label is; a diverged network must be seen in its loss."""
    rng = np.random.default_rng(8)
    code = CODES.get(name, losses.CROSS_ENTROPY)
    for value in (np.nan, np.inf):
        for place in range(units):
            outputs = rng.normal(size=(3, units)).astype(dtype)
            outputs[1, place] = value
            y = rng.integers(0, units, 3) if name == "labels" else random_targets(name, 3, units, rng)
            if name == "labels":
                y[1] = units // 2
            if name == "hinge":
                y[1, place] = -1  # infinity is right where the target is 1
            row_losses, deltas = loss_rows(code, outputs, y)
            assert np.isfinite(row_losses[[0, 2]]).all()
            assert np.isfinite(deltas[[0, 2]]).all()
            assert not np.isfinite(row_losses[1]), f"loss {row_losses[1]} with {value} in unit {place}"
            if math.isnan(value):
                assert np.isnan(deltas[1, place])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CODES)
def test_a_target_of_nan_gives_a_loss_of_nan(name: str, dtype: str) -> None:
    rng = np.random.default_rng(9)
    outputs, y = rng.normal(size=(3, 20)).astype(dtype), random_targets(name, 3, 20, rng)
    y[1, 17] = np.nan
    row_losses, deltas = loss_rows(CODES[name], outputs, y)
    assert np.isnan(row_losses).tolist() == [False, True, False]
    assert np.isnan(deltas[1, 17])
    assert np.isfinite(deltas[[0, 2]]).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_squared_errors_overflow_to_infinity_and_not_to_nan(dtype: str) -> None:
    outputs = np.array([[float(np.finfo(dtype).max) / 2, 0.0]], dtype)
    for code in (losses.HALF_SQUARED_ERROR, losses.MEAN_SQUARED_ERROR):
        assert loss_rows(code, outputs, np.zeros((1, 2)))[0][0] == math.inf


# ---- some of the rows


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["labels", *CODES])
@settings(deadline=None, max_examples=40)
@given(rows=st.integers(1, 40), units=st.integers(1, 70), data=st.data())
def test_rows_from_begin_to_end_and_no_others_come_out_as_they_do_among_all(name: str, dtype: str, rows: int,
                                                                            units: int, data: st.DataObject) -> None:
    begin = data.draw(st.integers(0, rows))
    end = data.draw(st.integers(begin, rows))
    code, outputs, y = outputs_and_targets(name, rows, units, dtype, rows * units)
    samples = np.random.default_rng(rows).permutation(rows + 5)[:rows]
    weights = np.random.default_rng(units).random(rows + 5) if data.draw(st.booleans()) else None
    whole = loss_rows(code, outputs, y, samples, 0.5, weights=weights)
    some = loss_rows(code, outputs, y, samples, 0.5, begin, end, weights=weights)
    for number in (0, 1):
        np.testing.assert_array_equal(some[number], whole[number][begin:end])


# ---- threads


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["labels", *CODES])
@pytest.mark.parametrize(("rows", "units"), [(101, 12), (3, 40)])
def test_rows_shared_out_over_threads_come_out_the_same(name: str, dtype: str, rows: int, units: int) -> None:
    """Each thread with a range of the rows of the same matrices."""
    code, outputs, y = outputs_and_targets(name, rows, units, dtype, 10)
    whole = loss_rows(code, outputs, y)
    fences = Fences()
    block = fences.panels(outputs)
    deltas, row_losses = fences.full(block.size, dtype), fences.full(rows, np.float64)
    samples, kernels = np.arange(rows), kernel_table(block.dtype)
    ranges = naive.cuts(rows, 4, np.random.default_rng(rows))
    scratches = [scratch_for(fences, units, dtype) for _ in ranges]
    parameter = 1.0 if name == "huber" else 0.0
    naive.in_threads(*(lambda a=a, b=b, scratch=scratch: losses.loss_rows(
        kernels, code, parameter, block, rows, a, b, units, y.ctypes.data, KINDS[y.dtype],
        y.strides[0] // y.itemsize, 0, samples, 1.0, scratch, deltas, row_losses)
        for (a, b), scratch in zip(ranges, scratches, strict=True)))
    fences.check()
    np.testing.assert_array_equal(row_losses, whole[0])
    np.testing.assert_array_equal(from_panels(deltas, rows, padded_columns(units, dtype)), whole[1])
