"""Data sets to train on, and the IDX file format of MNIST."""

from fastmlp.datasets.dataset import Dataset
from fastmlp.datasets.digits import load_digits
from fastmlp.datasets.idx import read_idx, write_idx
from fastmlp.datasets.mnist import MnistUnavailable, load_mnist

__all__ = ["Dataset", "MnistUnavailable", "load_digits", "load_mnist", "read_idx", "write_idx"]
