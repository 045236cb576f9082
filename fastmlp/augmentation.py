"""Augmentation: images that are shifted, rotated, scaled, sheared and elastically distorted, anew in every step.

The formulas and their sources are in `fastmlp.kernels.augmentation`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .arrays import check_inputs
from .kernels import augmentation as codes
from .kernels.linking import kernel_table
from .kernels.noise import add_noise
from .validation import check_integer, check_number

LARGEST_SIDE = 16384  # pixels, so that places in an image fit into 32 bits
LARGEST_SEED = 2**63 - 1


@dataclass(frozen=True)
class Augmentation:
    """How the images in the rows of X are changed at random; what is 0 is left out.

    An image is scaled, sheared, rotated about its centre and shifted, distorted, and read by bilinear interpolation;
    what comes from outside is zero. Then noise is added. All of it is in the units of X, before standardisation.

    Parameters
    ----------
    shape : (int, int)
        Height and width of the images, whose pixels lie in a row of X in C order; default (28, 28).
    shift : float
        Largest shift along each axis, in pixels; uniform from -shift to shift, fractions included; default 0.
    rotation : float
        Largest angle, in degrees, from 0 to 180; uniform in both directions; default 0.
    scaling : float
        The factor along each axis is uniform from 1 - scaling to 1 + scaling; at least 0 and below 1, default 0.
    shear : float
        Largest angle by which upright lines lean, in degrees; at least 0 and below 90, default 0.
    elastic_alpha, elastic_sigma : float
        Elastic distortion (Simard, Steinkraus and Platt, 2003): fields of numbers uniform in [-1, 1], smoothed by a
        Gaussian with a standard deviation of elastic_sigma pixels, times elastic_alpha pixels, without normalising
        the field in between. For 28 x 28 digits, 34 to 36 and 4 to 6 are usual; default 0 and 4.
    noise : float
        Standard deviation of the Gaussian noise added to each pixel; default 0.

    Raises
    ------
    TypeError, ValueError
        If an argument is of another type or out of its range.
    """

    shape: tuple[int, int] = (28, 28)
    shift: float = 0.0
    rotation: float = 0.0
    scaling: float = 0.0
    shear: float = 0.0
    elastic_alpha: float = 0.0
    elastic_sigma: float = 4.0
    noise: float = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.shape, tuple) or len(self.shape) != 2:
            raise TypeError(f"shape must be a tuple of a height and a width, got {self.shape!r}")
        checked: dict[str, Any] = {
            "shape": tuple(check_integer(f"the {name} in shape", side, 1, LARGEST_SIDE)
                           for name, side in zip(("height", "width"), self.shape, strict=True)),
            "shift": check_number("shift", self.shift, low=0.0, high=1e6),
            "rotation": check_number("rotation", self.rotation, low=0.0, high=180.0),
            "scaling": check_number("scaling", self.scaling, low=0.0, high=1.0, below=True),
            "shear": check_number("shear", self.shear, low=0.0, high=90.0, below=True),
            "elastic_alpha": check_number("elastic_alpha", self.elastic_alpha, low=0.0, high=1e6),
            "elastic_sigma": check_number("elastic_sigma", self.elastic_sigma, low=0.1, high=1e4),
            "noise": check_number("noise", self.noise, low=0.0, high=1e6),
        }
        for name, value in checked.items():  # as plain Python numbers, which a file can hold
            object.__setattr__(self, name, value)

    @property
    def inputs(self) -> int:
        """Number of pixels, and of columns of X."""
        return int(self.shape[0]) * int(self.shape[1])

    def settings(self) -> NDArray[np.float64]:
        """Return the settings that the kernels take."""
        settings = np.zeros(codes.SETTINGS)
        settings[codes.SHIFT] = self.shift
        settings[codes.ROTATION] = self.rotation
        settings[codes.SCALING] = self.scaling
        settings[codes.SHEAR] = self.shear
        settings[codes.ELASTIC_ALPHA] = self.elastic_alpha
        settings[codes.ELASTIC_SIGMA] = self.elastic_sigma
        settings[codes.NOISE] = self.noise
        return settings

    def apply(self, X: Any, seed: int = 0, step: int = 0) -> NDArray[np.float32]:
        """Return the images of X, changed as those of a batch in a step of training are: to look at.

        Parameters
        ----------
        X : array (rows, inputs)
            Images of finite real numbers, one in each row.
        seed, step : int
            Of the random numbers, at least 0; the same ones change the same row in the same way. Default 0.

        Returns
        -------
        array (rows, inputs), float32

        Raises
        ------
        TypeError, ValueError
            If X is of another shape or type, or not finite; or seed or step is not a whole number of at least 0.
        """
        source = check_inputs(X, self.inputs, np.dtype(np.float32), empty=True)
        seed = check_integer("seed", seed, 0, LARGEST_SEED)
        step = check_integer("step", step, 0, LARGEST_SEED)
        height, width = map(int, self.shape)
        result = np.empty((source.rows, self.inputs), np.float32)
        kernels = kernel_table(result.dtype, codes.augment_rows, add_noise)
        codes.augment_rows(kernels, source.address, source.kind, source.stride, np.arange(source.rows), 0, source.rows,
                           height, width, self.settings(), seed, step, 0,
                           np.empty(codes.scratch_size(height, width), np.float32), result)
        return result
