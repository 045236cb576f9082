"""The small set of real handwritten digits that comes with the package."""

from __future__ import annotations

import numpy as np

from fastmlp.datasets.dataset import Dataset

_TEST_EVERY = 5


def load_digits() -> Dataset:
    """Load the 1,797 handwritten digits of 8 x 8 pixels that come with the package.

    The split is fixed: of each of the ten classes, every fifth image in the order of the set is a test
    image (355 in all), the others (1,442) are training images. Both parts keep the order of the set, in
    which images by the same writers stand together.

    Returns
    -------
    Dataset
        `X_train` uint8 of shape (1442, 64), `y_train` int64 of shape (1442,), `X_test` uint8 of shape
        (355, 64), `y_test` int64 of shape (355,); pixels from 0 (paper) to 16 (ink), classes 0 to 9.

    Notes
    -----
    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning
    Repository, 1998, https://doi.org/10.24432/C50P49, CC BY 4.0; these are the images (and their order)
    that scikit-learn distributes, the test set of the original.
    """
    from importlib import resources

    with (
        resources.files("fastmlp.datasets").joinpath("digits.npz").open("rb") as file,
        np.load(file) as archive,
    ):
        images, labels = archive["images"], archive["labels"]

    in_test = np.zeros(len(labels), dtype=np.bool_)
    for digit in range(10):
        in_test[np.flatnonzero(labels == digit)[_TEST_EVERY - 1 :: _TEST_EVERY]] = True
    X = images.reshape(len(images), 64)
    y = labels.astype(np.int64)
    return Dataset(
        name="digits",
        X_train=X[~in_test],
        y_train=y[~in_test],
        X_test=X[in_test],
        y_test=y[in_test],
        image_shape=(8, 8),
        classes=10,
    )
