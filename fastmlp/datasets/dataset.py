"""The form in which every data set is returned."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class Dataset:
    """A set of labelled grey images, split into a training and a test part.

    Attributes
    ----------
    name : str
        Name of the data set.
    X_train : numpy.ndarray of uint8, shape (n_train, features)
        Training images, one flattened image per row (row by row, as in the file).
    y_train : numpy.ndarray of int64, shape (n_train,)
        Class of each training image, from 0 to ``classes - 1``.
    X_test : numpy.ndarray of uint8, shape (n_test, features)
        Test images.
    y_test : numpy.ndarray of int64, shape (n_test,)
        Class of each test image.
    image_shape : tuple of two int
        Rows and columns of one image; their product is ``features``.
    classes : int
        Number of classes.
    """

    name: str
    X_train: npt.NDArray[np.uint8]
    y_train: npt.NDArray[np.int64]
    X_test: npt.NDArray[np.uint8]
    y_test: npt.NDArray[np.int64]
    image_shape: tuple[int, int]
    classes: int
