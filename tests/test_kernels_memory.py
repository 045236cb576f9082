"""No element outside of any array is read or written.

The kernels run on arrays that end right before a protected memory page, or begin right after one, so that one element
too far ends the process. That happens in a process of its own, which is this file run as a script.
"""

from __future__ import annotations

import ctypes
import faulthandler
import itertools
import math
import mmap
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

PAGE = mmap.PAGESIZE


def _mprotect() -> Any:
    """The system's mprotect, or None where there is none."""
    if os.name != "posix":
        return None
    function = getattr(ctypes.CDLL(None, use_errno=True), "mprotect", None)
    if function is not None:
        function.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return function


MPROTECT = _mprotect()


# ---- guarded memory


class Guard:
    """Makes arrays that touch a protected page with their last element ("end") or their first ("begin")."""

    def __init__(self, placement: str) -> None:
        self.at_end = {"end": True, "begin": False}[placement]

    def empty(self, count: int, dtype: Any) -> Any:
        """Array of `count` elements, filled with what makes a sum that takes it in conspicuous."""
        dtype = np.dtype(dtype)
        size = count * dtype.itemsize
        if size == 0:
            return np.empty(0, dtype)
        pages = math.ceil(size / PAGE)
        memory = mmap.mmap(-1, (pages + 2) * PAGE)
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        for page in (0, pages + 1):
            if MPROTECT(address + page * PAGE, PAGE, 0) != 0:
                raise OSError(ctypes.get_errno(), "mprotect failed")
        start = (pages + 1) * PAGE - size if self.at_end else PAGE
        array = np.frombuffer(memory, dtype, count, start)
        array.view(np.uint8)[:] = 0xFF  # NaN, -1, 255
        return array

    def copy(self, array: Any) -> Any:
        """A guarded copy in C order."""
        array = np.asarray(array)
        copied = self.empty(array.size, array.dtype).reshape(array.shape)
        copied[...] = array
        return copied

    def zeros(self, shape: Any, dtype: Any = np.float64) -> Any:
        count = math.prod(shape) if isinstance(shape, tuple) else int(shape)
        array = self.empty(count, dtype)
        array[:] = 0
        return array.reshape(shape)

    def rows(self, array: Any, stride: int) -> Any:
        """Rows `stride` elements apart, of which the last one ends with its last element; returns the flat array."""
        count, columns = array.shape
        flat = self.empty((count - 1) * stride + columns, array.dtype)
        for r, row in enumerate(array):
            flat[r * stride : r * stride + columns] = row
        return flat

    def strided(self, array: Any, stride: int) -> Any:
        """The same as a 2-d view."""
        flat = self.rows(array, stride)
        return np.lib.stride_tricks.as_strided(flat, array.shape, (stride * array.itemsize, array.itemsize))


class GuardedNumpy:
    """NumPy whose new arrays are guarded."""

    def __init__(self, guard: Guard) -> None:
        self.guard = guard

    def __getattr__(self, name: str) -> Any:
        made = getattr(np, name)
        if name not in ("zeros", "empty", "arange", "array", "ascontiguousarray"):
            return made
        return lambda *arguments, **options: self.guard.copy(made(*arguments, **options))


# ---- what runs in a process of its own


DTYPES = ("float32", "float64")
SHAPES = [(1, 1, 1), (2, 1, 15), (1, 2, 16), (15, 17, 33), (16, 100, 10), (33, 33, 17), (29, 16, 64), (3, 31, 100),
          (1, 33, 140), (257, 5, 20)]


def run_kernels(placement: str) -> None:
    """Every kernel with every array as long as its description says, and not an element longer."""
    import panels

    from fastmlp.custom import activation_function
    from fastmlp.kernels import (
        activations,
        batches,
        dense,
        layout,
        losses,
        noise,
        read_ahead,
        special,
        tile,
        transposes,
        updates,
    )
    from fastmlp.kernels.linking import KERNELS, kernel_table
    from fastmlp.kernels.simd import TILE_ROWS, TILE_VECTORS

    guard = Guard(placement)
    rng = np.random.default_rng(0)
    plain = [code for code in range(activations.PRELU) if code != activations.SOFTMAX]
    user_function = activation_function(lambda z: z / (1 + abs(z)), lambda z: 1 / (1 + abs(z)) ** 2)
    for dtype in map(np.dtype, DTYPES):
        kernels = guard.copy(kernel_table(dtype, *KERNELS))
        lanes, width = panels.lanes(dtype), panels.panel_width(dtype)

        def numbers(*shape: int, dtype: Any = dtype) -> Any:
            return rng.normal(size=shape).astype(dtype)

        def in_panels(matrix: Any, padding: float = np.nan) -> Any:
            return guard.copy(panels.to_panels(matrix, padding=padding))

        def empty_panels(rows: int, columns: int, dtype: Any = dtype) -> Any:
            return guard.empty(panels.panels_size(rows, columns, dtype), dtype)

        def finite(flat: Any, rows: int, columns: int) -> bool:
            return bool(np.isfinite(panels.from_panels(flat, rows, columns)).all())

        for height in (1, 2, 3, TILE_ROWS):
            for vectors in range(1, TILE_VECTORS + 1):
                at_once = tile.PANELS_AT_ONCE.get(height, 1) if vectors == TILE_VECTORS else 1
                for repeat in (1, 2):
                    columns, rows = vectors * lanes, height * repeat
                    for steps in (5, width, 2 * width + lanes + 1):
                        c = guard.empty(at_once * rows * columns, dtype)
                        tile.row_tile(kernels, height, vectors, at_once, repeat, steps, in_panels(numbers(rows, steps)),
                                      rows, 0, guard.copy(numbers(at_once, steps + 1, columns)), (steps + 1) * columns,
                                      c, rows * columns)
                        assert np.isfinite(c).all()
                    c = guard.empty(rows * columns, dtype)
                    for accumulate in (0, 1):
                        tile.column_tile(kernels, height, vectors, repeat, 5, guard.copy(numbers(5, rows)), rows,
                                         guard.copy(numbers(5, columns)), c, accumulate, 0, 9 * accumulate)
                        assert np.isfinite(c).all()

        for rows, columns in ((1, 1), (lanes, lanes), (lanes + 1, 2 * lanes - 1), (5, 3 * lanes + 1), (3 * lanes, 2)):
            whole_rows, whole_columns = (panels.padded_columns(number, dtype) for number in (rows, columns))
            source = guard.rows(numbers(rows, whole_columns), whole_columns + 3)
            target = guard.rows(np.full((columns, whole_rows), np.nan, dtype), whole_rows + 5)
            transposes.transpose(kernels, source, whole_columns + 3, rows, columns, target, whole_rows + 5)
            assert np.isfinite(target[:whole_rows]).all()

        for rows, inputs, units in SHAPES:
            table = layout.layer_table([inputs, units], [0], dtype)
            layer, below = guard.copy(table[0]), guard.copy(layout.layer_table([1, inputs], [0], dtype)[0])
            padded, padded_below = int(layer[layout.PADDED]), int(below[layout.PADDED])
            panels_of_units, panels_of_inputs = (len(panels.panel_widths(n, dtype)) for n in (units, inputs))
            tiles = math.ceil(rows / TILE_ROWS)
            count = layout.parameter_count(table)
            parameters = guard.zeros(count, dtype)
            layout.pack_layer(layer, parameters, numbers(inputs, units), numbers(units))
            a = in_panels(numbers(rows, inputs))

            for code in plain:
                outputs = empty_panels(rows, units)
                dense.forward(kernels, layer, parameters, a, outputs, rows, 0, rows, code, 0.5, 0, 0, 0,
                              panels_of_units * tiles)
                assert np.isfinite(outputs).all()

            deltas = in_panels(numbers(rows, units), padding=0.0)
            outputs_below = guard.copy(np.abs(np.tanh(numbers(rows * padded_below))))
            for code in set(plain) - {*activations.KEEPS_SLOPE}:
                deltas_below = empty_panels(rows, inputs)
                dense.backward(kernels, layer, below, parameters, deltas, deltas_below, outputs_below, rows, 0, rows,
                               code, 0.5, guard.empty((units + 1) * min(width, padded_below), dtype), 0,
                               panels_of_inputs * tiles)
                assert np.isfinite(deltas_below).all()

            state, gradients = guard.zeros(2 * count, dtype), guard.zeros(count, dtype)
            nothing_ahead = guard.copy(np.zeros(read_ahead.LIST_FIELDS, np.int64))
            settings = np.zeros(updates.SETTINGS)
            settings[updates.OF_OPTIMIZER] = 0.9, 0.999, 1e-8, 0.0
            for optimizer, regularised in itertools.product(range(updates.NADAM + 1), (False, True)):
                settings[[updates.L2, updates.L1, updates.WEIGHT_DECAY, updates.CLIP_VALUE]] = (
                    (0.1, 0.01, 0.02, 0.5) if regularised else 0.0)
                coefficients = guard.zeros(updates.COEFFICIENTS)
                updates.step_coefficients.py_func(optimizer, settings, 0.01, 1, 1.0, coefficients)
                slots = guard.copy(state[: updates.STATE_SLOTS[optimizer] * count])
                for accumulate in (0, 1):
                    dense.gradient(kernels, layer, a, deltas, rows, optimizer, coefficients, parameters, slots, count,
                                   gradients, accumulate, guard.empty((width + 1) * width, dtype), nothing_ahead, 0,
                                   panels_of_units * panels_of_inputs)
                assert np.isfinite(gradients).all()
                assert np.isfinite(parameters).all()
                if optimizer != updates.WRITE_GRADIENT:
                    w, g, one, two = (guard.copy(np.abs(numbers(padded))) for _ in range(4))
                    updates.regularise(kernels, coefficients, 1, padded, w, g)
                    updates.update(kernels, optimizer, coefficients, 1, padded, w, g, one, two)
                    assert np.isfinite([w, g, one, two]).all()

            # What keeps something for the backward pass: the outputs, and right behind them what is kept.
            for code, slopes, dropout in itertools.product((activations.TANH, *activations.KEEPS_SLOPE),
                                                           (layout.A_SLOPE_A_UNIT, layout.ONE_SLOPE), (0, 2**31)):
                table = layout.layer_table([inputs, units, 2], [code, 0], dtype, slopes=[slopes, layout.NO_SLOPES])
                keeping, above = map(guard.copy, table)
                count = layout.parameter_count(table)
                parameters = guard.copy(numbers(count))
                keeping[[layout.KEPT, layout.DROPOUT]] = rows * padded, dropout
                keeping[layout.FUNCTION] = user_function.address(dtype)
                workspace = guard.empty(2 * rows * padded, dtype)
                dense.forward(kernels, keeping, parameters, a, workspace, rows, 0, rows, code, 0.5, 3, 5, 0,
                              panels_of_units * tiles)
                assert np.isfinite(workspace).all()
                deltas_below = empty_panels(rows, units)
                dense.backward(kernels, above, keeping, parameters, in_panels(numbers(rows, 2), padding=0.0),
                               deltas_below, workspace, rows, 0, rows, code, 0.5,
                               guard.empty(3 * min(width, padded), dtype), 0, panels_of_units * tiles)
                assert np.isfinite(deltas_below).all()
                # The deltas lie where the outputs did: as far from what was kept.
                workspace[: rows * padded], keeping[layout.DELTAS] = deltas_below, keeping[layout.OUTPUTS]
                coefficients = guard.zeros(updates.COEFFICIENTS)
                updates.step_coefficients.py_func(updates.ADAM, settings, 0.01, 1, 1.0, coefficients)
                for accumulate in (0, 1):
                    dense.gradient(kernels, keeping, a, workspace, rows, updates.ADAM, coefficients, parameters,
                                   guard.zeros(2 * count, dtype), count, guard.zeros(count, dtype), accumulate,
                                   guard.empty((width + 1) * width, dtype), nothing_ahead, 0,
                                   panels_of_units * panels_of_inputs)
                assert np.isfinite(parameters).all()

            for pieces, dropout in ((2, 0), (3, 2**30)):
                table = layout.layer_table([inputs, units], [0], dtype, pieces=[pieces])
                maxima = guard.copy(table[1])
                maxima[[layout.KEPT, layout.DROPOUT]] = rows * padded * (dropout > 0), dropout
                columns = int(maxima[layout.INPUTS])
                z = guard.copy(numbers(rows * columns))
                workspace = guard.empty(rows * padded * (1 + (dropout > 0)), dtype)
                deltas_of_z = guard.empty(rows * columns, dtype)
                for panel in range(panels_of_units):
                    special.maxout(kernels, maxima, z, workspace, rows, 0, rows, panel, 3, 5)
                    special.maxout_backward(kernels, maxima, z, guard.copy(numbers(rows * padded)), deltas_of_z, rows,
                                            panel)
                assert np.isfinite(workspace).all()
                assert np.isfinite(deltas_of_z).all()

            for code in plain:
                block = guard.copy(numbers(rows * padded))
                if code in activations.KEEPS_SLOPE:
                    slopes = guard.empty(rows * padded, dtype)
                    activations.activate_and_keep(kernels, code, block, slopes, rows * padded)
                    activations.multiply_by_slopes(kernels, guard.copy(block), slopes, rows * padded)
                else:
                    activations.activate(kernels, code, 0.5, block, rows * padded)
                    activations.multiply_by_derivative(kernels, code, 0.5, guard.copy(block), block, rows * padded)
            block, kept = guard.copy(numbers(rows * padded)), guard.copy(numbers(rows * padded))
            noise.drop(kernels, 3, 5, padded, rows, padded, 0.5, 1, block, kept)
            noise.add_noise(kernels, 3, 5, padded, rows, padded, 0.5, block)
            assert np.isfinite(block).all()
            gathered = padded * lanes
            block = in_panels(numbers(rows, units))
            activations.softmax_rows(kernels, block, rows, 0, rows, units, guard.empty(gathered, dtype))
            assert finite(block, rows, units)
            turned = in_panels(numbers(rows, units))
            activations.softmax_backward_rows(kernels, turned, block, rows, 0, rows, units,
                                              guard.empty(2 * gathered, dtype))
            assert finite(turned, rows, units)

            labels = guard.copy(rng.integers(0, units, rows))
            targets = [labels, *(guard.strided(rng.random((rows, units)).astype(kind), units + 2) for kind in DTYPES)]
            samples, weights = guard.copy(rng.permutation(rows)), guard.copy(rng.random(rows))
            outputs = in_panels(numbers(rows, units))
            for y, kind in zip(targets, (batches.LABELS, batches.FLOAT32, batches.FLOAT64), strict=True):
                for loss in range(losses.CODES):
                    if kind == batches.LABELS and loss != losses.CROSS_ENTROPY:
                        continue
                    row_losses, found = guard.empty(rows, np.float64), empty_panels(rows, units)
                    losses.loss_rows(kernels, loss, 0.5, outputs, rows, 0, rows, units, y.ctypes.data, kind,
                                     y.strides[0] // y.itemsize, weights.ctypes.data, samples, 0.5,
                                     guard.empty(3 * gathered + 2 * lanes, dtype), found, row_losses)
                    assert np.isfinite(row_losses).all()
                    assert np.isfinite(found).all()

            mean, scale = guard.copy(numbers(inputs)), guard.copy(numbers(inputs))
            x_stride = inputs + 3
            for kind, source in ((batches.FLOAT32, "float32"), (batches.FLOAT64, "float64"), (batches.UINT8, "uint8")):
                given = guard.rows(rng.integers(0, 200, (rows, inputs)).astype(source), x_stride)
                for direct in sorted({0, int(source == dtype)}):
                    for standardised in (0, 1):
                        staged, not_finite = empty_panels(rows, inputs), guard.zeros(1, np.int64)
                        batches.stage_rows(kernels, given.ctypes.data, kind, direct, x_stride, samples, rows, 0, rows,
                                           inputs, mean, scale, standardised, guard.empty(inputs, dtype), staged,
                                           not_finite)
                        assert finite(staged, rows, inputs)
                        assert not_finite[0] == 0
            result = guard.empty(rows * units, dtype)
            batches.unstage_rows(kernels, outputs, rows, 0, rows, units, result)
            assert np.isfinite(result).all()

    run_shuffle(guard)


def run_shuffle(guard: Guard) -> None:
    from numba import njit, types

    from fastmlp.kernels import random

    @njit(types.void(types.Array(types.int64, 1, "C"), types.int64))
    def shuffle(order: Any, count: int) -> None:
        random.shuffle(order, count, 1, 2)

    for count in (1, 2, 17, 1000):
        order = guard.empty(count, np.int64)
        shuffle(order, count)
        assert sorted(order.tolist()) == list(range(count))


def run_api(placement: str) -> None:
    """Training, prediction, evaluation and gradients, with inputs, targets and all of the engine's memory guarded."""
    import naive

    import fastmlp
    from fastmlp import (
        Dense,
        Maxout,
        arrays,
        augmentation,
        by_hand,
        engine,
        fitting,
        losses,
        model,
        optimizers,
        schedules,
        threads,
        trainer,
    )
    from fastmlp.kernels import layout

    guard = Guard(placement)
    guarded_numpy = GuardedNumpy(guard)
    plain_table = engine.kernel_table
    tables: dict[Any, Any] = {}

    def guarded_table(dtype: Any, *needed: Any, **options: Any) -> Any:
        addresses = plain_table(dtype, *needed, **options)
        table = tables.setdefault(dtype, guard.empty(len(addresses), addresses.dtype))
        table[:] = addresses
        return table

    def guard_everything() -> None:
        for module in (arrays, augmentation, by_hand, engine, fitting, losses, model, schedules, trainer):
            module.np = guarded_numpy  # type: ignore[attr-defined]
        layout.aligned_zeros, layout.aligned_empty = guard.zeros, guard.empty
        engine.kernel_table = guarded_table

    rng = np.random.default_rng(0)

    def train(sizes: list[int], rows: int, batch: int, kind: str, dtype: str, activation: str, output: str, loss: str,
              optimizer: str) -> None:
        values = rng.integers(0, 256, (rows, sizes[0])) if kind == "uint8" else rng.normal(size=(rows, sizes[0]))
        X = guard.strided(values.astype(kind), sizes[0] + 3)
        if loss == "cross_entropy":
            y = guard.copy(rng.integers(0, sizes[-1], rows))
            targets = naive.one_hot(y, sizes[-1])
        else:
            zeros_and_ones = rng.integers(0, 2, (rows, sizes[-1])).astype(dtype)
            y = guard.strided(2 * zeros_and_ones - 1 if loss == "hinge" else zeros_and_ones, sizes[-1] + 1)
            targets = np.asarray(y)
        mean, std = (100.0, 50.0) if kind == "uint8" else (0.0, 1.0)
        net = fastmlp.MLP(sizes, activation, output, dtype=dtype, seed=0, input_mean=mean, input_std=std)
        net.set_weights([guard.copy(w) for w in net.get_weights()])
        layers = naive.layers_of(net)
        standardised = naive.stage(X, mean, 1 / std)
        tolerance = {"rtol": 1e-3, "atol": 1e-4}
        np.testing.assert_allclose(net.forward(X), naive.forward(standardised, layers), **tolerance)
        net.forward(X[:1])
        value, gradients = net.loss_and_gradients(X, y, loss)
        wanted, exact = naive.loss_and_gradients(standardised, targets, layers, loss)
        np.testing.assert_allclose(value, wanted, **tolerance)
        for found, gradient in zip(gradients, exact, strict=True):
            np.testing.assert_allclose(found, gradient, **tolerance)
        coach = fastmlp.Trainer(net, loss, optimizer, batch_size=batch, l2=1e-4)
        history = coach.fit(X, y, epochs=2, validation_data=(X[: rows // 2 + 1], y[: rows // 2 + 1]), progress=False)
        assert math.isfinite(history[-1]["loss"])
        assert math.isfinite(coach.step(X, y))
        assert math.isfinite(coach.evaluate(X, y)["loss"])

    def train_specially(layers: list[Any], rows: int, batch: int, dtype: str, copy: Callable[[Any], Any],
                        **options: Any) -> list[Any]:
        """What training on arrays made by `copy` comes to: all losses, outputs and weights."""
        random = np.random.default_rng(1)
        net = fastmlp.MLP(layers, dtype=dtype, seed=0)
        X, y = copy(random.random((rows, net.inputs)).astype(dtype)), copy(random.integers(0, net.outputs, rows))
        weights = copy(random.random(rows))
        coach = fastmlp.Trainer(net, batch_size=batch, learning_rate=0.01, **options)
        history = coach.fit(X, y, epochs=2, progress=False, sample_weight=weights, validation_data=(X, y, weights))
        found = [[record[name] for name in ("loss", "val_loss", "val_accuracy")] for record in history]
        found.append(coach.step(X, y, weights))
        coach.forward(X)
        found.append(coach.compute_loss(y, weights))
        coach.backward()
        coach.backward()
        coach.update()
        value, gradients = net.loss_and_gradients(X, y)
        return [*found, value, *gradients, *coach.get_gradients(), *net.get_weights(), net.forward(X)]

    all_options = {"l1": 0.001, "l2": 0.001, "weight_decay": 0.01, "regularise_biases": True, "clip_norm": 0.5,
                   "clip_value": 0.1, "input_dropout": 0.1, "input_noise": 0.1}
    images = augmentation.Augmentation((5, 7), shift=2, rotation=20, scaling=0.2, shear=5, elastic_alpha=9, noise=0.1)
    special: list[tuple[list[Any], int, int, dict[str, Any]]] = [
        ([5, Dense(33, "prelu"), Dense(17, "prelu", shared=True, dropout=0.3), 3], 50, 13, {}),
        ([17, Maxout(33, 3), Dense(9, "gelu", dropout=0.4), Maxout(5, dropout=0.3, max_norm=0.5), 3], 50, 13, {}),
        ([5, Maxout(3), 2], 1, 1, {"optimizer": "nadam"}),
        ([5, Dense(19, "silu", dropout=0.5, max_norm=0.3), Dense(3, "softmax", max_norm=0.4)], 50, 13, all_options),
        ([5, Dense(6, "prelu", max_norm=0.3), 3], 50, 10, {"accumulation": 3, "clip_norm": 0.1}),
        ([7, Dense(9, "prelu", dropout=0.2), Maxout(6), 4], 700, 512, all_options),  # in groups
        ([35, Dense(20, "prelu", dropout=0.2), 3], 50, 13, {"augmentation": images}),
        ([35, Maxout(9), 3], 600, 512, {"augmentation": images, **all_options}),
        ([100, Dense(257, "prelu", dropout=0.5), Maxout(130), 10], 150, 64, {}),  # on several threads
    ]
    options = [(layers, rows, batch, dtype, settings) for layers, rows, batch, settings in special for dtype in DTYPES]
    wanted = [train_specially(*sizes, np.array, **settings) for *sizes, settings in options]
    guard_everything()
    for number in sorted({1, min(2, threads.available_threads())}):
        threads.set_num_threads(number)
        for (*sizes, settings), expected in zip(options, wanted, strict=True):
            for first, second in zip(train_specially(*sizes, guard.copy, **settings), expected, strict=True):
                np.testing.assert_array_equal(first, second)

    for activation in naive.ACTIVATIONS:
        train([17, 33, 10], 61, 16, "float32", "float32", activation, "softmax", "cross_entropy", "adam")
    for loss in naive.LOSSES:
        output = losses.LOSSES[loss]().output or "identity"
        train([17, 20, 19], 61, 16, "float32", "float64", "tanh", output, loss, "adam")
    for optimizer in optimizers.OPTIMIZERS:
        train([17, 33, 10], 61, 16, "float32", "float32", "relu", "softmax", "cross_entropy", optimizer)

    for number in sorted({1, min(2, threads.available_threads())}):
        threads.set_num_threads(number)
        for dtype in DTYPES:
            for kind in ("float32", "float64", "uint8"):
                train([17, 33, 10], 61, 16, kind, dtype, "relu", "softmax", "cross_entropy", "adam")
        train([1, 1], 1, 1, "float32", "float32", "tanh", "sigmoid", "binary_cross_entropy", "sgd")
        train([2, 5, 1], 33, 32, "float64", "float32", "tanh", "sigmoid", "binary_cross_entropy", "momentum")
        train([33, 16, 17, 2], 50, 7, "float32", "float32", "elu", "sigmoid", "binary_cross_entropy", "nesterov")
        train([5, 40, 3], 50, 13, "float64", "float64", "leaky_relu", "identity", "mean_squared_error", "adam")
        train([15, 64, 3], 40, 40, "float32", "float32", "sigmoid", "softmax", "half_squared_error", "sgd")
        # A small network with a large batch: in groups. A large one: on several threads.
        train([7, 9, 4], 700, 512, "uint8", "float32", "tanh", "softmax", "cross_entropy", "momentum")
        train([100, 257, 130, 10], 150, 64, "float32", "float32", "relu", "softmax", "cross_entropy", "adam")
        # In passes, by panels and in groups, with rows asked for in advance, and with softmax inside the network.
        with_settings = {"MOST_PASS_ROWS": 20, "PASS_BYTES": 1, "NEAR_BYTES": 0}
        kept = {name: getattr(engine, name) for name in with_settings}
        for name, value in with_settings.items():
            setattr(engine, name, value)
        for dtype in DTYPES:
            train([17, 33, 10], 125, 63, "float32", dtype, "relu", "softmax", "cross_entropy", "adam")
            train([7, 9, 4], 700, 512, "uint8", dtype, "tanh", "softmax", "cross_entropy", "momentum")
            train([33, 16, 17, 2], 50, 47, "float64", dtype, "softmax", "softmax", "mean_squared_error", "sgd")
        for name, value in kept.items():
            setattr(engine, name, value)


def touch(placement: str, how: str) -> None:
    """Read or write one element beyond an array by Python itself, or by a kernel that is told a wrong size."""
    guard = Guard(placement)
    array = guard.zeros(16, np.float32)
    beyond = 16 * 4 if placement == "end" else -4
    if how == "inside":
        ctypes.memmove(array.ctypes.data, bytes(64), 64)
    elif how == "read":
        ctypes.string_at(array.ctypes.data + beyond, 1)
    elif how == "write":
        ctypes.memset(array.ctypes.data + beyond, 0, 1)
    else:
        from fastmlp.kernels import activations
        from fastmlp.kernels.linking import kernel_table
        from fastmlp.kernels.simd import lanes_of

        lanes = lanes_of(4)
        block = guard.zeros(4 * lanes, np.float32)
        shifted = block[1:] if placement == "end" else block.ctypes.data - 4
        if how == "kernel inside":
            shifted = block
        kernels = kernel_table(np.dtype(np.float32))
        activations.activate(kernels, activations.RELU, 0.0, shifted, 4 * lanes)


SCRIPTS: dict[str, Callable[..., None]] = {"kernels": run_kernels, "api": run_api, "touch": touch}


# ---- the tests


pytestmark = pytest.mark.skipif(MPROTECT is None, reason="needs mprotect")


def run_guarded(*arguments: str) -> tuple[int, str]:
    done = subprocess.run([sys.executable, __file__, *arguments], capture_output=True, text=True, check=False,
                          env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))})
    return done.returncode, done.stderr


@pytest.mark.parametrize("placement", ("end", "begin"))
@pytest.mark.parametrize("how", ("read", "write", "kernel"))
def test_the_guard_sees_one_element_outside(how: str, placement: str) -> None:
    code, _ = run_guarded("touch", placement, how)
    assert code in (-signal.SIGSEGV, -signal.SIGBUS)


@pytest.mark.parametrize("placement", ("end", "begin"))
@pytest.mark.parametrize("how", ("inside", "kernel inside"))
def test_the_guard_lets_the_array_itself_be_used(how: str, placement: str) -> None:
    assert run_guarded("touch", placement, how) == (0, "")


@pytest.mark.parametrize("placement", ("end", "begin"))
def test_kernels_stay_inside_their_arrays(placement: str) -> None:
    code, errors = run_guarded("kernels", placement)
    assert code == 0, errors


@pytest.mark.parametrize("placement", ("end", "begin"))
def test_training_and_prediction_stay_inside_their_arrays(placement: str) -> None:
    code, errors = run_guarded("api", placement)
    assert code == 0, errors


if __name__ == "__main__":
    faulthandler.enable()
    SCRIPTS[sys.argv[1]](*sys.argv[2:])
