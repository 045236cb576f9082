"""The MNIST training script: ``python -m fastmlp.mnist``, or ``fastmlp mnist``.

It trains a multilayer perceptron on the 60,000 images of handwritten digits where they lie in memory as uint8, and
tests it on the other 10,000.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import numpy as np
from numpy.typing import NDArray

from .activations import ACTIVATIONS
from .augmentation import Augmentation
from .callbacks import Callback
from .datasets import Dataset, MnistUnavailable, load_digits, load_mnist
from .fitting import DivergenceWarning
from .layers import MAX_DROPOUT, MAX_UNITS, Dense
from .metrics import confusion_matrix
from .model import MLP, check_seed
from .threads import available_threads, get_num_threads, set_num_threads
from .trainer import Trainer
from .validation import check_integer, check_number

HIDDEN = [128]
LEARNING_RATES = {  # of each optimizer; the peak
    "adam": 4e-3, "sgd": 0.5, "momentum": 0.05, "nesterov": 0.05, "adagrad": 0.02, "adadelta": 1.0, "rmsprop": 2e-3,
    "adamw": 4e-3, "nadam": 4e-3,
}

EPOCHS, BATCH_SIZE = 10, 128
SMALL_SET = 10_000  # training images below which more epochs and smaller batches serve better
EPOCHS_SMALL, BATCH_SIZE_SMALL = 30, 8

HELD_OUT = 12  # one training image in so many, the last ones, is kept for validation by default

# Exit codes
DONE, FAILED, INTERRUPTED = 0, 1, 130  # 2 is argparse's

T = TypeVar("T")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script.

    Parameters
    ----------
    argv : sequence of str, optional
        The options; those of the command line by default.

    Returns
    -------
    int
        The exit code: 0; 1 if training diverged or the model or the output could not be written; 130 after Ctrl-C.

    Raises
    ------
    SystemExit
        With code 2 if an option or the data are wrong; with code 0 after --help.
    """
    parser = argparse.ArgumentParser(prog="python -m fastmlp.mnist", description="Train on MNIST and test.")
    add_arguments(parser)
    return run(parser.parse_args(argv), parser.error)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the script's options to a parser."""
    rates = ", ".join(f"{rate:g} for {name}" for name, rate in LEARNING_RATES.items())
    parser.add_argument(
        "--data", metavar="FOLDER",
        help="folder with the four IDX files of MNIST or of a data set in its format (default: the folder that the "
             "environment variable FASTMLP_DATA names; else MNIST is downloaded once and kept)")
    parser.add_argument(
        "--validation", metavar="N", type=_checked(_validation),
        help=f"number of training images, the last ones, that are kept for validation (default: one in {HELD_OUT})")
    parser.add_argument(
        "--hidden", metavar="UNITS", type=_checked(_hidden), default=HIDDEN,
        help="units of the hidden layers, such as 512,256 (default: 128)")
    parser.add_argument(
        "--activation", choices=sorted(ACTIVATIONS), default="relu",
        help="activation of the hidden layers (default: relu)")
    parser.add_argument(
        "--epochs", metavar="N", type=_checked(_integer("epochs", 1_000_000)),
        help=f"passes over the training images (default: {EPOCHS}; {EPOCHS_SMALL} for a small data set)")
    parser.add_argument(
        "--batch-size", metavar="N", type=_checked(_integer("batch_size", 1 << 31)),
        help=f"images of a mini-batch (default: {BATCH_SIZE}; {BATCH_SIZE_SMALL} for a small data set)")
    parser.add_argument(
        "--learning-rate", metavar="RATE", type=_checked(_learning_rate),
        help=f"peak of the one-cycle schedule (default: {rates})")
    parser.add_argument(
        "--optimizer", choices=sorted(LEARNING_RATES), default="adam", help="update rule (default: adam)")
    parser.add_argument(
        "--l2", metavar="STRENGTH", type=_checked(_l2), default=0.0,
        help="strength of L2 regularisation (default: 0)")
    parser.add_argument(
        "--dropout", metavar="RATE", type=_checked(_option("dropout", MAX_DROPOUT)), default=0.0,
        help="share of the hidden layers' outputs that are dropped in training (default: 0)")
    parser.add_argument(
        "--input-dropout", metavar="RATE", type=_checked(_option("input_dropout", MAX_DROPOUT)), default=0.0,
        help="share of the pixels that are made black in training (default: 0)")
    parser.add_argument(
        "--max-norm", metavar="NORM", type=_checked(_max_norm),
        help="largest norm of the weights into a unit of a hidden layer (default: any)")
    parser.add_argument(
        "--shift", metavar="PIXELS", type=_checked(_option("shift", 1e6)), default=0.0,
        help="largest shift of the training images, drawn anew whenever one is read (default: 0)")
    parser.add_argument(
        "--rotation", metavar="DEGREES", type=_checked(_option("rotation", 180.0)), default=0.0,
        help="largest rotation of the training images (default: 0)")
    parser.add_argument(
        "--scaling", metavar="SHARE", type=_checked(_option("scaling", 0.9)), default=0.0,
        help="largest relative change of the height and width of the training images (default: 0)")
    parser.add_argument(
        "--elastic", metavar="ALPHA,SIGMA", type=_checked(_elastic), default=(0.0, 4.0),
        help="elastic distortion of the training images: how many pixels, and over what distance, such as 36,5 "
             "(default: none)")
    parser.add_argument(
        "--seed", metavar="N", type=_checked(_seed), default=0,
        help="of the initial weights and of the order of the images (default: 0)")
    parser.add_argument(
        "--threads", metavar="N", type=_checked(_threads),
        help="number of threads; the result does not depend on it (default: all processors)")
    parser.add_argument(
        "--save", metavar="FILE", type=_checked(_save),
        help="file to write the model to, in the safetensors format")


def run(arguments: argparse.Namespace, error: Callable[[str], NoReturn]) -> int:
    """Train, test and save as the options say.

    Parameters
    ----------
    arguments : argparse.Namespace
        The options of `add_arguments`.
    error : callable
        Called with a message if the data or the options are of no use; it ends the process with exit code 2.

    Returns
    -------
    int
        The exit code, as that of `main`.
    """
    try:
        return _run(arguments, error)
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return INTERRUPTED
    except OSError as problem:  # of the output; what has to do with other files is dealt with where they are used
        return give_up_output(problem)


def give_up_output(problem: OSError) -> int:
    """After standard output could not be written: say so, unless its reader has had enough; return the exit code."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is still to be flushed at exit
    if not isinstance(problem, BrokenPipeError):  # as from head
        print(f"The output could not be written: {problem}", file=sys.stderr)
    return FAILED


def _run(arguments: argparse.Namespace, error: Callable[[str], NoReturn]) -> int:
    if arguments.threads is not None:
        set_num_threads(arguments.threads)
    data = _load(arguments.data, error)
    small = len(data.X_train) < SMALL_SET
    epochs = arguments.epochs or (EPOCHS_SMALL if small else EPOCHS)
    batch_size = arguments.batch_size or (BATCH_SIZE_SMALL if small else BATCH_SIZE)
    learning_rate = arguments.learning_rate or LEARNING_RATES[arguments.optimizer]

    held_out = arguments.validation
    if held_out is None:
        held_out = max(1, len(data.X_train) // HELD_OUT)
    rows = len(data.X_train) - held_out
    if rows < 1:
        error(f"argument --validation: must be less than the {len(data.X_train):,} training images, got {held_out}")
    X, y = data.X_train[:rows], data.y_train[:rows]
    # What is dropped becomes 0, which is to be black then.
    mean, std = (0.0, float(X.max()) or 1.0) if arguments.input_dropout else mean_and_std(X)
    sizes = [X.shape[1], *arguments.hidden, data.classes]
    hidden = [Dense(units, dropout=arguments.dropout, max_norm=arguments.max_norm) for units in arguments.hidden]
    try:
        model = MLP([X.shape[1], *hidden, data.classes], arguments.activation, "softmax", seed=arguments.seed,
                    input_mean=mean, input_std=std)
    except (ValueError, MemoryError) as problem:
        error(f"argument --{'dropout' if str(problem).startswith('dropout') else 'hidden'}: {problem}")
    trainer = Trainer(model, optimizer=arguments.optimizer, learning_rate=learning_rate, schedule="one_cycle",
                      batch_size=batch_size, l2=arguments.l2, seed=arguments.seed,
                      input_dropout=arguments.input_dropout, augmentation=_augmentation(arguments, data.image_shape))

    height, width = data.image_shape
    _say(f"data      {data.name}: {_count(rows, 'image')} to train on, {held_out:,} for validation, "
         f"{len(data.X_test):,} to test, {height} x {width} pixels, {data.classes} classes")
    _say(f"network   {'-'.join(map(str, sizes))}, {arguments.activation}, {model.parameter_count:,} parameters")
    _say(f"training  {_count(epochs, 'epoch')}, batch size {batch_size}, {arguments.optimizer}, learning rate "
         f"{learning_rate:g} (one cycle), l2 {arguments.l2:g}, seed {arguments.seed}")
    for line in _extras(arguments):
        _say(line)
    _say(f"threads   {get_num_threads()}")
    _say("kernels   loading; the first time they are compiled, which takes a while ...", end="")
    began = time.perf_counter()
    model.predict(X[:1])
    trainer._calls.make(1, 1)  # so that the time of training is that of training alone
    _say(f" {time.perf_counter() - began:.1f} s")

    interrupted = False
    began = time.perf_counter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", DivergenceWarning)
            trainer.fit(X, y, epochs=epochs, callbacks=[_EpochLine(epochs)],
                        validation_data=(data.X_train[rows:], data.y_train[rows:]) if held_out else None,
                        progress=sys.stdout.isatty() and sys.stderr.isatty())
    except DivergenceWarning as problem:
        print(problem, file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        interrupted = True
    seconds = time.perf_counter() - began
    if interrupted:
        _say(f"Interrupted after {_count(trainer.steps, 'step')} ({_count(trainer.epochs, 'whole epoch')}); "
             "the model is what they made of it. Ctrl-C once more ends at once.")

    matrix = confusion_matrix(data.y_test, model.predict(data.X_test), data.classes)
    right, total = int(matrix.trace()), int(matrix.sum())
    _say(f"\ntrained in {seconds:.2f} s\ntest accuracy {right / total:.2%} ({right:,} of {total:,})\n\n"
         f"{format_confusion_matrix(matrix)}")
    if arguments.save is not None:
        try:
            model.save(arguments.save)
        except OSError as problem:
            print(f"The model could not be saved to {arguments.save}: {problem}", file=sys.stderr)
            return FAILED
        _say(f"\nsaved to {arguments.save}")
    return INTERRUPTED if interrupted else DONE


def _load(folder: str | None, error: Callable[[str], NoReturn]) -> Dataset:
    """Return MNIST or what is in the folder; the embedded digits if MNIST is not to be had."""
    origin = "" if folder is None else "argument --data: "
    try:
        data = load_mnist(folder, progress=sys.stderr.isatty())
    except MnistUnavailable as problem:
        _say(f"{problem}\nTraining on the digits that come with fastmlp instead; --data names the folder of MNIST.\n")
        return load_digits()
    except (ValueError, OSError) as problem:
        error(f"{origin}{problem}")
    if len(data.X_train) < 2 or data.classes < 2:
        error(f"{origin}{data.name} must have 2 training images and 2 classes at least, got {len(data.X_train)} "
              f"and {data.classes}")
    return data


def _augmentation(arguments: argparse.Namespace, shape: tuple[int, int]) -> Augmentation | None:
    alpha, sigma = arguments.elastic
    if not (alpha or arguments.shift or arguments.rotation or arguments.scaling):
        return None
    return Augmentation(shape, shift=arguments.shift, rotation=arguments.rotation, scaling=arguments.scaling,
                        elastic_alpha=alpha, elastic_sigma=sigma)


def _extras(arguments: argparse.Namespace) -> list[str]:
    """Describe the options that are not in every run."""
    alpha, sigma = arguments.elastic
    limits = [f"{name} {value:g}" for name, value in (
        ("dropout", arguments.dropout), ("input dropout", arguments.input_dropout),
        ("max norm", arguments.max_norm or 0.0)) if value]
    changes = [f"{name} {value:g}" for name, value in (
        ("shift", arguments.shift), ("rotation", arguments.rotation), ("scaling", arguments.scaling)) if value]
    if alpha:
        changes.append(f"elastic {alpha:g}, {sigma:g}")
    return ([f"limits    {', '.join(limits)}"] if limits else []) + ([f"images    {', '.join(changes)}"] if changes
                                                                     else [])


class _EpochLine(Callback):
    """Prints a line an epoch, above the progress bar if there is one."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def on_epoch_end(self, trainer: Any, logs: dict[str, Any]) -> None:
        number = str(logs["epoch"] + 1).rjust(len(str(self.epochs)))
        validation = f"  validation accuracy {logs['val_accuracy']:7.2%}" if "val_accuracy" in logs else ""
        _say(f"epoch {number}/{self.epochs}  loss {logs['loss']:.4f}{validation}  "
             f"{logs['samples_per_second']:>11,.0f} samples/s")


def mean_and_std(images: NDArray[np.uint8]) -> tuple[float, float]:
    """Return the mean and the standard deviation of all pixels; 1 for the latter if all are alike.

    Parameters
    ----------
    images : array of uint8

    Returns
    -------
    mean, std : float
    """
    mean = float(images.mean())
    variance = float(np.square(images, dtype=np.uint16).mean()) - mean**2  # squares of bytes fit into 16 bits
    return mean, math.sqrt(max(variance, 0.0)) or 1.0


def format_confusion_matrix(matrix: NDArray[np.int64]) -> str:
    """Return a confusion matrix as a table, with the total and the recall of each true class.

    Parameters
    ----------
    matrix : array of int64, shape (classes, classes)
        As from `fastmlp.metrics.confusion_matrix`.

    Returns
    -------
    str
        The recall of a class that does not occur is a hyphen.
    """
    width = len(str(matrix.max())) + 2
    header = "".join(f"{predicted:>{width}}" for predicted in range(len(matrix)))
    lines = ["confusion matrix: a row for each true class, a column for each predicted one",
             f"{'':6}{header}{'total':>9}{'recall':>10}"]
    for true, counts in enumerate(matrix):
        total = int(counts.sum())
        recall = f"{counts[true] / total:.2%}" if total else "-"
        row = "".join(f"{count:>{width}}" for count in counts)
        lines.append(f"{true:>6}{row}{total:>9}{recall:>10}")
    return "\n".join(lines)


def _say(text: str, end: str = "\n") -> None:
    """Print at once; a progress bar makes room."""
    from tqdm.auto import tqdm

    tqdm.write(text, end=end)
    sys.stdout.flush()


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


# ---- options: each function takes what stands on the command line and returns it checked


def _checked(convert: Callable[[str], T]) -> Callable[[str], T]:
    """Make argparse show the message of a check; it names the option itself."""

    def converted(text: str) -> T:
        try:
            return convert(text)
        except (TypeError, ValueError) as problem:
            raise argparse.ArgumentTypeError(str(problem)) from None

    return converted


def _number(kind: type[int] | type[float], text: str) -> float | str:
    """Return the number that a text stands for, or the text, for the check that follows to complain of."""
    try:
        return kind(text)
    except ValueError:
        return text


def _integer(name: str, high: int) -> Callable[[str], int]:
    return lambda text: check_integer(name, _number(int, text), low=1, high=high)


def _hidden(text: str) -> list[int]:
    return [check_integer("units", _number(int, units), low=1, high=MAX_UNITS) for units in text.split(",")]


def _validation(text: str) -> int:
    return check_integer("validation", _number(int, text), low=0, high=1 << 31)


def _learning_rate(text: str) -> float:
    return check_number("learning_rate", _number(float, text), low=0.0, above=True)


def _l2(text: str) -> float:
    return check_number("l2", _number(float, text), low=0.0)


def _option(name: str, high: float) -> Callable[[str], float]:
    return lambda text: check_number(name, _number(float, text), low=0.0, high=high)


def _max_norm(text: str) -> float:
    return check_number("max_norm", _number(float, text), low=0.0, above=True)


def _elastic(text: str) -> tuple[float, float]:
    parts = text.split(",")
    if len(parts) != 2:
        raise ValueError(f"elastic must be two numbers, ALPHA,SIGMA, got {text!r}")
    alpha = check_number("ALPHA", _number(float, parts[0]), low=0.0, high=1e6)
    return alpha, check_number("SIGMA", _number(float, parts[1]), low=0.1, high=1e4)


def _seed(text: str) -> int:
    return check_seed(_number(int, text))


def _threads(text: str) -> int:
    return check_integer("threads", _number(int, text), low=1, high=available_threads())


def _save(text: str) -> Path:
    """Return the path; before time is spent on training, see that a file can be written there."""
    path = Path(text)
    if path.is_dir():
        raise ValueError(f"must be a file, got the folder {text!r}")
    try:
        with tempfile.TemporaryFile(dir=os.path.dirname(os.path.realpath(path))):
            return path
    except OSError as problem:
        allowed = "a file in a folder that can be written to"
        raise ValueError(f"must be {allowed}, got {text!r}: {problem.strerror}") from None


if __name__ == "__main__":
    sys.exit(main())
