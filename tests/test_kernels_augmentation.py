"""Augmentation of image rows, against the same mapping with the same random numbers in NumPy."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import naive
import numpy as np
import pytest
from naive import DTYPES, Array
from numba import njit
from panels import GUARD, Fences, from_panels, lanes, panels_size
from test_kernels_memory import MPROTECT, Guard
from test_kernels_noise import MASK, hashed, normal_numbers, random_bits

from fastmlp.kernels import augmentation, batches
from fastmlp.kernels.augmentation import BORDER, SETTINGS, scratch_size
from fastmlp.kernels.linking import kernel_table
from fastmlp.kernels.noise import add_noise
from fastmlp.kernels.simd import pointer

KINDS = {"float32": batches.FLOAT32, "float64": batches.FLOAT64, "uint8": batches.UINT8}
SHAPES = ((28, 28), (1, 1), (1, 9), (9, 1), (5, 7), (17, 33), (32, 16))
CHANGES = {
    "none": {},
    "shift": {"SHIFT": 2.5},
    "rotation": {"ROTATION": 40},
    "scaling": {"SCALING": 0.4},
    "shear": {"SHEAR": 30},
    "elastic": {"ELASTIC_ALPHA": 36},
    "plain elastic": {"ELASTIC_ALPHA": 8, "ELASTIC_SIGMA": 1.5},
    "noise": {"NOISE": 20},
    "all": {"SHIFT": 2, "ROTATION": 15, "SCALING": 0.15, "SHEAR": 10, "ELASTIC_ALPHA": 30, "ELASTIC_SIGMA": 6,
            "NOISE": 5},
}


def settings_of(changes: dict[str, float]) -> Array:
    settings = np.zeros(SETTINGS)
    for name, value in {"ELASTIC_SIGMA": 4.0, **changes}.items():
        settings[getattr(augmentation, name)] = value
    return settings


def augment(x: Array, index: Any, shape: tuple[int, int], settings: Array, dtype: str, *, seed: int = 3, step: int = 5,
            first_row: int = 0, begin: int = 0, end: int | None = None) -> Array:
    """The rows `begin` to `end` of a batch; the other rows must stay."""
    index = np.asarray(index, np.int64)
    end = len(index) if end is None else end
    height, width = shape
    fences = Fences()
    scratch = fences.full(scratch_size(height, width), dtype)
    target = fences.full(len(index) * height * width, dtype, GUARD, shift=3)
    augmentation.augment_rows(kernel_table(np.dtype(dtype)), x.ctypes.data, KINDS[x.dtype.name],
                              x.strides[0] // x.itemsize, index, begin, end, height, width, settings, seed, step,
                              first_row, scratch, target)
    fences.check()
    found = target.reshape(len(index), height * width)
    assert (found[:begin] == GUARD).all() and (found[end:] == GUARD).all(), "wrote to other rows"
    return found[begin:end]


def images(kind: str, rows: int, pixels: int, gap: int = 2) -> Array:
    rng = np.random.default_rng(pixels)
    return rng.integers(0, 256, (rows, pixels + gap)).astype(kind)[:, :pixels]


# ---- the oracle


def spacing_of(size: int, sigma: float) -> int:
    """The largest divisor of the size up to sigma / 2 that leaves eight random numbers."""
    return max([h for h in range(1, size + 1) if size % h == 0 and h <= sigma / 2 and size / h >= 8], default=1)


def smoothing(size: int, sigma: float) -> Array:
    """Weights (pixels, random numbers) of a Gaussian that ends at 3 sigma, for one number in `spacing` pixels."""
    spacing = spacing_of(size, sigma)
    reach = np.arange(-int(3 * sigma + 0.5), int(3 * sigma + 0.5) + 1)
    middles = spacing * np.arange(size // spacing) + (spacing - 1) / 2
    distances = np.arange(size)[:, None] - middles
    weights = np.where(np.abs(distances) <= 3 * sigma + 0.5, np.exp(-((distances / sigma) ** 2) / 2), 0.0)
    return np.asarray(np.sqrt(spacing) * weights / np.exp(-((reach / sigma) ** 2) / 2).sum())


def field(key: int, height: int, width: int, sigma: float) -> Array:
    rows, columns = height // spacing_of(height, sigma), width // spacing_of(width, sigma)
    return hashed(key, np.arange(rows * columns)).reshape(rows, columns) * 2.0**-31


def displacement(key: int, height: int, width: int, alpha: float, sigma: float) -> Array:
    return np.asarray(alpha * smoothing(height, sigma) @ field(key, height, width, sigma) @ smoothing(width, sigma).T)


def interpolate(image: Array, y: Array, x: Array) -> Array:
    """Bilinear interpolation in an image with zeros around it."""
    height, width = image.shape
    y, x = np.clip(y, -1, height), np.clip(x, -1, width)
    padded = np.pad(image, ((1, 2), (1, 2)))
    top, left = np.floor(y).astype(int), np.floor(x).astype(int)
    down, right = y - top, x - left
    return ((1 - down) * ((1 - right) * padded[top + 1, left + 1] + right * padded[top + 1, left + 2])
            + down * ((1 - right) * padded[top + 2, left + 1] + right * padded[top + 2, left + 2]))


def forward_matrix(angle: float, shear: float, scale_y: float, scale_x: float) -> Array:
    """The product of a rotation, a shear and a scaling, of (y, x) with y downwards."""
    angle, slope = np.radians(angle), np.tan(np.radians(shear))
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return rotation @ np.array([[1, 0], [slope, 1]]) @ np.diag([scale_y, scale_x])


def picture_of(image: Array, settings: Array, seed: int, step: int, row: int) -> Array:
    """What becomes of an image (height, width) in a row of a batch."""
    height, width = image.shape
    shift, rotation, scaling, shear, alpha, sigma, noise = settings
    stream = naive.splitmix64(naive.splitmix64(seed + naive.GOLDEN) ^ (2**40 * naive.GOLDEN & MASK))
    key = random_bits(random_bits(stream, step), row)
    shift_y, shift_x, angle, lean, scale_y, scale_x = (
        np.array(random_bits(key, number), np.uint64).view(np.int64) * 2.0**-63 for number in range(6))
    matrix = np.linalg.inv(forward_matrix(rotation * angle, shear * lean, 1 + scaling * scale_y, 1 + scaling * scale_x))
    centre = (np.array([height, width]) - 1) / 2
    y, x = np.mgrid[:height, :width] - centre[:, None, None]
    from_y = matrix[0, 0] * y + matrix[0, 1] * x + centre[0] + shift * shift_y
    from_x = matrix[1, 0] * y + matrix[1, 1] * x + centre[1] + shift * shift_x
    from_y = from_y + displacement(random_bits(key, 6), height, width, alpha, sigma)
    from_x = from_x + displacement(random_bits(key, 7), height, width, alpha, sigma)
    noises = normal_numbers(random_bits(key, 8), np.arange(height * width)).reshape(height, width)
    return np.asarray(interpolate(image, from_y, from_x) + noise * noises)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("change", CHANGES)
def test_pictures_are_those_of_the_mapping_with_the_same_random_numbers(change: str, dtype: str) -> None:
    for shape in SHAPES:
        settings = settings_of(CHANGES[change])
        for kind in KINDS:
            x, index = images(kind, 9, shape[0] * shape[1]), [4, 8, 0, 4]
            found = augment(x, index, shape, settings, dtype, first_row=7)
            wanted = [picture_of(naive.wide(x[i]).reshape(shape), settings, 3, 5, 7 + r).ravel()
                      for r, i in enumerate(index)]
            np.testing.assert_allclose(found, wanted, rtol=0, atol=0.05 if dtype == "float32" else 1e-9)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_without_settings_nothing_changes(kind: str, dtype: str) -> None:
    for shape in SHAPES:
        x, index = images(kind, 5, shape[0] * shape[1]), [3, 1, 1, 4]
        if kind != "uint8":
            x[3, 0], x[1, -1] = np.nan, np.inf
        found = augment(x, index, shape, settings_of({}), dtype)
        np.testing.assert_array_equal(found, x[index].astype(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("change", CHANGES)
def test_the_same_pictures_come_out_however_rows_are_cut_into_calls(change: str, dtype: str) -> None:
    shape, settings = (12, 19), settings_of(CHANGES[change])
    x, index = images("uint8", 30, 228), np.random.default_rng(1).permutation(30)[:17]
    whole = augment(x, index, shape, settings, dtype)
    for begin, end in ((0, 1), (1, 9), (9, 17), (16, 17), (5, 5)):
        np.testing.assert_array_equal(augment(x, index, shape, settings, dtype, begin=begin, end=end),
                                      whole[begin:end])
    np.testing.assert_array_equal(augment(x, index[9:], shape, settings, dtype, first_row=9), whole[9:])


@pytest.mark.parametrize("dtype", DTYPES)
def test_steps_seeds_and_rows_have_pictures_of_their_own(dtype: str) -> None:
    x, settings = images("uint8", 1, 784), settings_of(CHANGES["all"])
    pictures = [augment(x, [0, 0], (28, 28), settings, dtype, seed=seed, step=step)
                for seed, step in ((0, 0), (0, 1), (1, 0), (1, 1))]
    assert len({picture.tobytes() for batch in pictures for picture in batch}) == 8


@pytest.mark.parametrize("dtype", DTYPES)
def test_sources_of_all_kinds_give_the_same_pictures(dtype: str) -> None:
    x, settings = images("uint8", 6, 784), settings_of(CHANGES["all"])
    bytes_, singles, doubles = (augment(x.astype(kind), np.arange(6), (28, 28), settings, dtype) for kind in KINDS)
    np.testing.assert_array_equal(bytes_, singles)
    np.testing.assert_array_equal(bytes_, doubles)


# ---- a given mapping


@njit
def warp_with(image: Array, height: int, width: int, matrix: Any, shift_y: float, shift_x: float, elastic: bool,
              displacements_y: Array, displacements_x: Array, bordered: Array, corners: Array, down: Array,
              right: Array, picture: Array) -> None:
    augmentation.add_border(pointer(image), height, width, pointer(bordered))
    augmentation.warp(pointer(bordered), height, width, matrix, shift_y, shift_x, elastic, pointer(displacements_y),
                      pointer(displacements_x), pointer(corners), pointer(down), pointer(right), pointer(picture))


def warp(image: Array, matrix: Any = (1.0, 0.0, 0.0, 1.0), shift_y: float = 0.0, shift_x: float = 0.0,
         displacements: Any = None) -> Array:
    height, width = image.shape
    fences, step, dtype = Fences(), lanes(image.dtype), image.dtype
    source = fences.full(height * width + step, dtype)
    source[: height * width] = image.ravel()
    bordered = fences.full((height + BORDER) * (width + BORDER) + step, dtype)
    bordered[: width + BORDER + 1] = 0
    corners, down, right, picture = (fences.full(height * width + step, dtype) for _ in range(4))
    fields = [fences.panels(np.zeros(image.shape) if displacements is None else field, dtype)
              for field in (displacements or (None, None))]
    warp_with(source, height, width, matrix, shift_y, shift_x, displacements is not None, *fields, bordered, corners,
              down, right, picture)
    fences.check()
    return picture[: height * width].reshape(height, width)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_shift_by_whole_pixels_is_a_roll_with_zeros(shape: tuple[int, int], dtype: str) -> None:
    image = np.random.default_rng(0).normal(size=shape).astype(dtype)
    for shift_y, shift_x in ((0, 0), (1, 0), (0, 1), (-1, 2), (3, -2), (-100, 0), (0, 100)):
        padded = np.pad(image, 100)
        wanted = np.roll(padded, (-shift_y, -shift_x), axis=(0, 1))[100:-100, 100:-100]
        np.testing.assert_array_equal(warp(image, shift_y=float(shift_y), shift_x=float(shift_x)), wanted)
        steady = np.full(shape, float(shift_y)), np.full(shape, float(shift_x))
        np.testing.assert_array_equal(warp(image, displacements=steady), wanted)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", (1, 2, 7, 28))
def test_rotations_by_right_angles_are_counterclockwise(size: int, dtype: str) -> None:
    image = np.random.default_rng(0).normal(size=(size, size)).astype(dtype)
    for turns in range(-2, 3):
        matrix = augmentation.inverse_matrix.py_func(90.0 * turns, 0.0, 1.0, 1.0)
        np.testing.assert_allclose(warp(image, matrix), np.rot90(image, turns), atol=1e-4)


def test_the_matrix_is_the_inverse_of_scaling_shear_and_rotation() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        angle, shear, scales = rng.uniform(-180, 180), rng.uniform(-80, 80), rng.uniform(0.2, 1.8, 2)
        found = np.reshape(augmentation.inverse_matrix.py_func(angle, shear, *scales), (2, 2))
        np.testing.assert_allclose(found @ forward_matrix(angle, shear, *scales), np.eye(2), atol=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
def test_displacements_that_are_infinite_or_nan_read_zeros(dtype: str) -> None:
    for value in (np.nan, np.inf, -np.inf, 1e30, -1e30):
        displacements = np.zeros((9, 11)), np.zeros((9, 11))
        displacements[0][2, 3] = displacements[1][8, 10] = value
        found = warp(np.ones((9, 11), dtype), displacements=displacements)
        assert found[2, 3] == found[8, 10] == 0
        assert found.sum() == 97


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_pixel_that_is_not_a_number_spoils_what_is_read_beside_it_and_nothing_else(dtype: str) -> None:
    image = np.ones((9, 11), dtype)
    image[4, 5] = np.nan
    found = np.isnan(warp(image, shift_y=0.5, shift_x=0.25))
    np.testing.assert_array_equal(np.argwhere(found), [[3, 4], [3, 5], [4, 4], [4, 5]])


# ---- elastic displacements


@njit
def draw(kernels: Array, key: int, height: int, width: int, sizes: tuple[int, int], alpha: float, sigma: float,
         weights_y: Array, weights_x: Array, field: Array, half: Array, result: Array) -> None:
    augmentation.gaussian_weights(height, sigma, alpha, False, pointer(weights_y))
    augmentation.gaussian_weights(width, sigma, 1.0, True, pointer(weights_x))
    augmentation.draw_displacements(pointer(kernels), np.uint64(key), height, width, sizes[0], sizes[1],
                                    pointer(weights_y), pointer(weights_x), pointer(field), pointer(half),
                                    pointer(result))


def drawn(keys: Any, height: int, width: int, sigma: float, dtype: str) -> Array:
    """Displacements (keys, height, width) for alpha = 1."""
    cells_y, cells_x = height // spacing_of(height, sigma), width // spacing_of(width, sigma)
    fences = Fences()
    parts = [fences.full(panels_size(rows, columns, dtype), dtype) for rows, columns in (
        (height, cells_y), (cells_x + 1, width), (cells_y + 1, cells_x), (height, cells_x), (height, width))]
    found = []
    for key in keys:
        draw(kernel_table(np.dtype(dtype)), int(key), height, width, (cells_y, cells_x), 1.0, sigma, *parts)
        found.append(from_panels(parts[-1], height, width))
    fences.check()
    return np.stack(found)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sigma", (0.1, 0.7, 2.0, 3.9))
def test_small_displacements_are_a_field_smoothed_by_scipy(sigma: float, dtype: str) -> None:
    ndimage = pytest.importorskip("scipy.ndimage")
    for height, width in ((28, 28), (5, 40), (1, 1)):
        key = 2**63 - 25
        wanted = ndimage.gaussian_filter(field(key, height, width, sigma), sigma, mode="constant", truncate=3)
        found = drawn([key], height, width, sigma, dtype)[0]
        np.testing.assert_allclose(found, wanted, atol=1e-5 if dtype == "float32" else 1e-12)


@pytest.mark.parametrize("sigma", (4.0, 5.0, 6.0, 8.0))
def test_coarse_fields_have_the_covariances_of_fine_ones(sigma: float) -> None:
    """Exactly: the covariance of pixels a and b is 1/3 times the product, over the axes, of the sum of w_ac w_bc."""
    ndimage = pytest.importorskip("scipy.ndimage")
    for size in (28, 32, 64, 96):
        assert spacing_of(size, sigma) > 1
        coarse = smoothing(size, sigma)
        fine = ndimage.gaussian_filter1d(np.eye(size), sigma, axis=0, mode="constant", truncate=3)
        np.testing.assert_allclose(coarse @ coarse.T, fine @ fine.T, atol=0.005 * (fine @ fine.T).max())


@pytest.mark.parametrize("sigma", (3.0, 4.0, 6.0))
def test_displacements_have_the_standard_deviation_and_shape_of_smoothed_uniform_noise(sigma: float) -> None:
    ndimage, stats = pytest.importorskip("scipy.ndimage"), pytest.importorskip("scipy.stats")
    count, rng = 3000, np.random.default_rng(0)
    found = drawn(rng.integers(0, 2**63, count), 28, 28, sigma, "float32")
    noise = rng.uniform(-1, 1, (count, 28, 28))
    wanted = ndimage.gaussian_filter(noise, sigma, axes=(1, 2), mode="constant", truncate=3)
    # The relative error of a standard deviation is 1 / sqrt(2 count) for each of the two.
    np.testing.assert_allclose(found.std(axis=0), wanted.std(axis=0), rtol=5 / np.sqrt(count))
    assert abs(found.mean(axis=0)).max() < 5 * found.std() / np.sqrt(count)
    for y, x in ((14, 14), (5, 20)):
        assert stats.ks_2samp(found[:, y, x], wanted[:, y, x]).pvalue > 1e-4
        assert stats.kstest(found[:, y, x] / found[:, y, x].std(), "norm").pvalue > 1e-4


def test_the_two_axes_and_the_rows_of_a_batch_are_uncorrelated() -> None:
    keys = [random_bits(random_bits(9, row), number) for row in range(1500) for number in (6, 7)]
    found = drawn(np.array(keys, np.uint64).view(np.int64), 28, 28, 4.0, "float32")[:, 14, 14].reshape(-1, 2)
    count = len(found)
    assert abs(np.corrcoef(found[:, 0], found[:, 1])[0, 1]) < 5 / np.sqrt(count)
    assert abs(np.corrcoef(found[1:, 0], found[:-1, 0])[0, 1]) < 5 / np.sqrt(count)


# ---- memory


def run_guarded(placement: str) -> None:
    """All settings, as large as they may be, on arrays beside protected memory."""
    guard = Guard(placement)
    for dtype in DTYPES:
        kernels = guard.copy(kernel_table(np.dtype(dtype), augmentation.augment_rows, add_noise))
        for height, width in (*SHAPES, (8, 8), (2, 3)):
            largest = {"SHIFT": 1e6, "ROTATION": 180, "SCALING": 0.999, "SHEAR": 89.9, "ELASTIC_ALPHA": 1e6,
                       "ELASTIC_SIGMA": 0.1, "NOISE": 1e6}
            wide = {**largest, "SHIFT": 0, "ELASTIC_ALPHA": 100, "ELASTIC_SIGMA": 1e4}
            for changes in (*CHANGES.values(), largest, wide):
                for kind in KINDS:
                    x = guard.rows(images(kind, 5, height * width, gap=0), height * width + 3)
                    target = guard.empty(3 * height * width, dtype)
                    augmentation.augment_rows(
                        kernels, x.ctypes.data, KINDS[kind], height * width + 3, guard.copy(np.array([4, 0, 2])), 0, 3,
                        height, width, guard.copy(settings_of(changes)), 1, 2, 3,
                        guard.empty(scratch_size(height, width), dtype), target)
                    assert np.isfinite(target).all()


@pytest.mark.skipif(MPROTECT is None, reason="needs mprotect")
@pytest.mark.parametrize("placement", ("end", "begin"))
def test_no_settings_make_the_kernel_leave_its_arrays(placement: str) -> None:
    done = subprocess.run([sys.executable, __file__, placement], capture_output=True, text=True, check=False,
                          env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))})
    assert done.returncode == 0, done.stderr


if __name__ == "__main__":
    run_guarded(sys.argv[1])
