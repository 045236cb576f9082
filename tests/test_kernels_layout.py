"""The layout of a network in memory: the table of layers, panels, and the places of a call's arguments."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive import DTYPES, Array
from panels import lanes, panel_width, to_panels

from fastmlp.kernels import layout

SIZES = st.lists(st.integers(1, 150), min_size=2, max_size=6)


def table_of(sizes: list[int], dtype: str) -> Array:
    return layout.layer_table(sizes, list(range(len(sizes) - 1)), np.dtype(dtype))


def place(row: Array, i: int, j: int, dtype: str) -> int:
    """Where weight (i, j) lies, element by element; row `inputs` of the weights is the bias."""
    width = panel_width(dtype)
    inputs, padded = int(row[layout.INPUTS]), int(row[layout.PADDED])
    panel = j // width
    columns = min(width, padded - panel * width)
    return int(row[layout.WEIGHTS]) + panel * width * (inputs + 1) + i * columns + (j - panel * width)


@pytest.mark.parametrize("dtype", DTYPES)
@settings(deadline=None, max_examples=50)
@given(sizes=SIZES)
def test_the_table_of_layers(dtype: str, sizes: list[int]) -> None:
    table = table_of(sizes, dtype)
    assert table.shape == (len(sizes) - 1, layout.LAYER_FIELDS)
    assert table.dtype == np.int64
    end = 0
    for l, row in enumerate(table):
        padded = int(row[layout.PADDED])
        assert row[layout.INPUTS] == sizes[l]
        assert row[layout.UNITS] == sizes[l + 1]
        assert row[layout.ACTIVATION] == l
        assert sizes[l + 1] <= padded < sizes[l + 1] + lanes(dtype)
        assert padded % lanes(dtype) == 0
        assert row[layout.WEIGHTS] == end, "layers do not follow one another without a gap"
        end += (sizes[l] + 1) * padded
    assert layout.parameter_count(table) == end


@pytest.mark.parametrize("dtype", DTYPES)
@settings(deadline=None, max_examples=50)
@given(sizes=SIZES, seed=st.integers(0, 1000))
def test_packed_parameters_lie_where_the_panels_say_and_come_back(dtype: str, sizes: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    table = table_of(sizes, dtype)
    parameters = layout.aligned_zeros(layout.parameter_count(table), np.dtype(dtype))
    given_layers = [(rng.normal(size=(i, o)).astype(dtype), rng.normal(size=o).astype(dtype))
                    for i, o in pairwise(sizes)]
    for row, (W, b) in zip(table, given_layers, strict=True):
        layout.pack_layer(row, parameters, W, b)
    for row, (W, b) in zip(table, given_layers, strict=True):
        found_W, found_b = layout.unpack_layer(row, parameters)
        np.testing.assert_array_equal(found_W, W)
        np.testing.assert_array_equal(found_b, b)
        for i, j in zip(rng.integers(0, W.shape[0], 20), rng.integers(0, W.shape[1], 20), strict=True):
            assert parameters[place(row, int(i), int(j), dtype)] == W[i, j]
        for j in range(len(b)):
            assert parameters[place(row, W.shape[0], j, dtype)] == b[j]
    assert np.count_nonzero(parameters) == sum(W.size + b.size for W, b in given_layers), "the padding is not zero"


@pytest.mark.parametrize("dtype", DTYPES)
@settings(deadline=None, max_examples=30)
@given(inputs=st.integers(1, 40), units=st.integers(1, 150))
def test_a_layer_lies_in_panels_as_a_matrix_whose_last_row_is_the_bias(dtype: str, inputs: int, units: int) -> None:
    rng = np.random.default_rng(inputs * units)
    W, b = rng.normal(size=(inputs, units)).astype(dtype), rng.normal(size=units).astype(dtype)
    table = table_of([inputs, units], dtype)
    parameters = layout.aligned_zeros(layout.parameter_count(table), np.dtype(dtype))
    layout.pack(table, parameters, [W, b])
    np.testing.assert_array_equal(parameters, to_panels(np.vstack([W, b])))


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_element_has_a_place_of_its_own(dtype: str) -> None:
    table = table_of([5, 70, 33], dtype)
    places = [place(row, i, j, dtype) for row in table for i in range(int(row[layout.INPUTS]) + 1)
              for j in range(int(row[layout.PADDED]))]
    assert sorted(places) == list(range(layout.parameter_count(table)))


@pytest.mark.parametrize("dtype", DTYPES)
@settings(deadline=None, max_examples=50)
@given(sizes=SIZES, data=st.data())
def test_learned_slopes_and_pieces_lie_apart_and_come_back(dtype: str, sizes: list[int], data: st.DataObject) -> None:
    """Slopes follow all weights: a number for each column, or a register full of one; maxout is a row of its own."""
    depth = len(sizes) - 1
    kinds = data.draw(st.lists(st.sampled_from((layout.NO_SLOPES, layout.A_SLOPE_A_UNIT, layout.ONE_SLOPE, "maxout")),
                               min_size=depth, max_size=depth))
    pieces = [data.draw(st.integers(2, 4)) if kind == "maxout" else 0 for kind in kinds]
    slopes = [layout.NO_SLOPES if kind == "maxout" else int(kind) for kind in kinds]
    table = layout.layer_table(sizes, [3] * depth, np.dtype(dtype), pieces, slopes)
    dense, end = [row for row in table if layout.has_weights(row)], 0
    assert len(dense) == depth
    assert len(table) == depth + kinds.count("maxout")
    for row in dense:
        assert row[layout.WEIGHTS] == end
        end += (int(row[layout.INPUTS]) + 1) * int(row[layout.PADDED])
    for row, kind in zip(dense, kinds, strict=True):
        has_slopes = kind in (layout.A_SLOPE_A_UNIT, layout.ONE_SLOPE)
        assert row[layout.SLOPES] == (end if has_slopes else 0)
        assert row[layout.SHARED] == (kind == layout.ONE_SLOPE)
        end += (lanes(dtype) if kind == layout.ONE_SLOPE else int(row[layout.PADDED])) if has_slopes else 0
    assert layout.parameter_count(table) == end
    for pool, before in zip(table[1:], table, strict=False):
        if not layout.has_weights(pool):  # each piece begins with a panel
            assert pool[layout.INPUTS] == before[layout.UNITS] == before[layout.PADDED]
            assert pool[layout.INPUTS] % (pool[layout.PIECES] * panel_width(dtype)) == 0

    shapes = []
    for inputs, units, kind, count in zip(sizes[:-1], sizes[1:], kinds, pieces, strict=True):
        columns = units * (count or 1)
        shapes += [(inputs, columns), (columns,)]
        shapes += [(units,)] if kind == layout.A_SLOPE_A_UNIT else [(1,)] if kind == layout.ONE_SLOPE else []
    assert layout.array_shapes(table) == shapes
    assert [name for names in layout.array_names(table) for name in names] == [
        "weights" if len(shape) == 2 else "bias" if i and len(shapes[i - 1]) == 2 else "slopes"
        for i, shape in enumerate(shapes)]
    rng = np.random.default_rng(len(shapes))
    arrays = [rng.normal(size=shape).astype(dtype) for shape in shapes]
    parameters = layout.aligned_zeros(end, np.dtype(dtype))
    layout.pack(table, parameters, arrays)
    for found, given_array in zip(layout.unpack(table, parameters), arrays, strict=True):
        np.testing.assert_array_equal(found, given_array)
        assert not np.shares_memory(found, parameters)
    repeated = (lanes(dtype) - 1) * kinds.count(layout.ONE_SLOPE)
    assert np.count_nonzero(parameters) == sum(array.size for array in arrays) + repeated


def test_unpacked_arrays_are_copies() -> None:
    table = table_of([3, 4], "float64")
    parameters = layout.aligned_zeros(layout.parameter_count(table), np.dtype(np.float64))
    for array in layout.unpack_layer(table[0], parameters):
        array[...] = 1
    assert (parameters == 0).all()


def test_the_address_of_any_array() -> None:
    read_only = np.arange(6.0)
    read_only.flags.writeable = False
    matrix = np.arange(24.0).reshape(4, 6)
    for array in (matrix, matrix[1], matrix[:, 2:], matrix[::2], matrix[::-1], matrix.T, read_only, read_only[2:],
                  np.zeros((0, 3)), np.array(5.0), np.arange(9, dtype=np.uint8)[1:], matrix.view(np.recarray)):
        assert layout.address_of(array) == array.ctypes.data


@pytest.mark.parametrize("dtype", (np.float32, np.float64, np.int64, np.uint8))
@pytest.mark.parametrize("count", (0, 1, 7, 16, 1001))
def test_aligned_zeros_begin_at_a_cache_line(dtype: Any, count: int) -> None:
    for _ in range(5):
        array = layout.aligned_zeros(count, dtype)
        assert array.shape == (count,)
        assert array.dtype == dtype
        assert count == 0 or array.ctypes.data % layout.ALIGNMENT == 0
        assert (array == 0).all()
        array[:] = 1


@given(number=st.integers(0, 10**6), multiple=st.integers(1, 1000))
def test_round_up(number: int, multiple: int) -> None:
    rounded = layout.round_up(number, multiple)
    assert rounded % multiple == 0
    assert number <= rounded < number + multiple


def test_the_arguments_of_a_call_have_places_of_their_own() -> None:
    """Every name of a place between LAYERS and COUNT, and no two alike."""
    names = list(vars(layout))
    fields = {name: vars(layout)[name] for name in names[names.index("LAYERS") : names.index("CONTEXT_FIELDS")]
              if name.isupper()}
    assert sorted(fields.values()) == list(range(layout.CONTEXT_FIELDS))
    table = {name: vars(layout)[name] for name in names[names.index("INPUTS") : names.index("LAYER_FIELDS")]
             if name.isupper()}
    assert sorted(table.values()) == list(range(layout.LAYER_FIELDS))
