"""The MNIST training script: its options, what it prints, what it saves, and how it ends."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastmlp
from fastmlp import MLP, Augmentation, Trainer, get_num_threads, mnist, threads
from fastmlp.activations import ACTIVATIONS
from fastmlp.datasets import Dataset, MnistUnavailable, load_digits, load_mnist, write_idx
from fastmlp.metrics import confusion_matrix
from fastmlp.optimizers import OPTIMIZERS

REAL_DATA = os.environ.get("FASTMLP_DATA")
REPOSITORY = Path(fastmlp.__file__).parents[1]
POSIX_ONLY = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals and terminals")


@pytest.fixture(autouse=True)
def clean_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """No folder from the environment; the number of threads is put back afterwards."""
    monkeypatch.delenv("FASTMLP_DATA", raising=False)
    monkeypatch.setattr(threads, "_chosen", None)


def write_images(folder: Path, train: int = 600, test: int = 200, classes: int = 10) -> Path:
    """Write a data set in MNIST's format: each class a random pattern, each image that with much noise."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    patterns = rng.integers(0, 256, (classes, 6, 6))
    for part, count in (("train", train), ("t10k", test)):
        labels = rng.integers(0, classes, count)
        labels[-1] = classes - 1
        images = patterns[labels] // 2 + rng.integers(0, 128, (count, 6, 6))
        write_idx(folder / f"{part}-images-idx3-ubyte", images.astype(np.uint8))
        write_idx(folder / f"{part}-labels-idx1-ubyte", labels.astype(np.uint8))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_images(tmp_path / "noisy-patterns")


def parse(*options: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    mnist.add_arguments(parser)
    return parser.parse_args(options)


def accuracy_in(output: str) -> float:
    found = re.search(r"^test accuracy +([\d.]+)%", output, re.MULTILINE)
    assert found, output
    return float(found[1]) / 100


def expect_usage_error(capsys: pytest.CaptureFixture[str], *options: str) -> str:
    """Run the script, which must end with exit code 2 and a message on standard error; return the message."""
    with pytest.raises(SystemExit) as stop:
        mnist.main(options)
    assert stop.value.code == 2
    message = capsys.readouterr().err
    assert "error: " in message
    return message


# ---- options


def test_defaults() -> None:
    assert vars(parse()) == {
        "data": None, "hidden": [128], "activation": "relu", "epochs": None, "batch_size": None,
        "learning_rate": None, "optimizer": "adam", "l2": 0.0, "seed": 0, "threads": None, "save": None,
        "dropout": 0.0, "input_dropout": 0.0, "max_norm": None, "shift": 0.0, "rotation": 0.0, "scaling": 0.0,
        "elastic": (0.0, 4.0), "validation": None,
    }


def test_every_option_is_parsed(tmp_path: Path) -> None:
    options = parse(
        "--data", "a folder", "--hidden", "512,256", "--activation", "tanh", "--epochs", "3", "--batch-size", "64",
        "--learning-rate", "1e-2", "--optimizer", "nesterov", "--l2", "0.5", "--seed", "7", "--threads", "1",
        "--save", str(tmp_path / "model"), "--dropout", "0.5", "--input-dropout", "0.2", "--max-norm", "3",
        "--shift", "1.5", "--rotation", "15", "--scaling", "0.1", "--elastic", "36,5.5", "--validation", "100",
    )
    assert vars(options) == {
        "data": "a folder", "hidden": [512, 256], "activation": "tanh", "epochs": 3, "batch_size": 64,
        "learning_rate": 0.01, "optimizer": "nesterov", "l2": 0.5, "seed": 7, "threads": 1,
        "save": tmp_path / "model", "dropout": 0.5, "input_dropout": 0.2, "max_norm": 3.0, "shift": 1.5,
        "rotation": 15.0, "scaling": 0.1, "elastic": (36.0, 5.5), "validation": 100,
    }


def test_every_activation_and_optimizer_can_be_chosen() -> None:
    for name in ACTIVATIONS:
        assert parse("--activation", name).activation == name
    for name in OPTIMIZERS:
        assert parse("--optimizer", name).optimizer == name
    assert set(mnist.LEARNING_RATES) == set(OPTIMIZERS)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *[("--hidden", value) for value in ("0", "-5", "x", "", "128,", "128,,10", "12.5", "99999999999")],
        *[("--activation", value) for value in ("Relu", "")],
        *[("--epochs", value) for value in ("0", "-1", "2.5", "ten", "", "1000001")],
        *[("--batch-size", value) for value in ("0", "-1", "2.5", "x", "9999999999")],
        *[("--learning-rate", value) for value in ("0", "-0.1", "nan", "inf", "fast")],
        *[("--optimizer", value) for value in ("Adam", "lbfgs")],
        *[("--l2", value) for value in ("-1", "nan", "inf", "x")],
        *[("--dropout", value) for value in ("-0.1", "1", "nan", "x", "")],
        *[("--input-dropout", value) for value in ("-0.1", "1", "nan", "x")],
        *[("--max-norm", value) for value in ("0", "-1", "nan", "inf", "x")],
        *[("--shift", value) for value in ("-1", "nan", "inf", "x")],
        *[("--rotation", value) for value in ("-1", "181", "nan", "x")],
        *[("--scaling", value) for value in ("-0.1", "1", "nan", "x")],
        *[("--elastic", value) for value in ("36", "36,", "36,0", "-1,5", "nan,5", "36,5,2", "x,y", "")],
        *[("--seed", value) for value in ("-1", "1.5", "x", "9223372036854775808")],
        *[("--threads", value) for value in ("0", "x", str(threads.available_threads() + 1))],
    ],
)
def test_a_wrong_value_ends_with_a_message_that_names_the_option(
    option: str, value: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mnist, "load_mnist", lambda *_, **__: pytest.fail("the data were loaded"))
    message = expect_usage_error(capsys, f"{option}={value}").partition("error: ")[2]
    assert message.startswith(f"argument {option}: ")
    assert re.search(r"\b(got|choice:) ", message)


def test_layers_too_large_for_the_memory_name_the_option(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = expect_usage_error(capsys, "--data", str(folder), "--hidden", "16777216,16777216")
    assert "argument --hidden: " in message


def test_save_is_checked_before_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mnist, "load_mnist", lambda *_, **__: pytest.fail("the data were loaded"))
    for path in (tmp_path, tmp_path / "missing" / "model"):
        message = expect_usage_error(capsys, "--save", str(path))
        assert "argument --save: " in message
        assert repr(str(path)) in message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="needs a user who is denied something")
def test_save_to_a_folder_without_permission(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tmp_path.chmod(0o500)
    assert "argument --save: " in expect_usage_error(capsys, "--save", str(tmp_path / "model"))


# ---- data


def test_wrong_data_end_with_a_message(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = str(tmp_path / "nothing here")
    message = expect_usage_error(capsys, "--data", missing)
    assert "argument --data: " in message
    assert missing in message

    monkeypatch.setenv("FASTMLP_DATA", missing)
    message = expect_usage_error(capsys)
    assert "FASTMLP_DATA" in message
    assert "--data: " not in message

    images = folder / "train-images-idx3-ubyte"
    images.write_bytes(images.read_bytes()[:-1])
    message = expect_usage_error(capsys, "--data", str(folder))
    assert "argument --data: " in message
    assert str(images) in message


@pytest.mark.parametrize("sizes", [{"train": 1}, {"classes": 1}])
def test_data_too_few_to_train_on(sizes: dict[str, int], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_images(tmp_path / "few", **sizes)
    assert "argument --data: few must have 2 training images and 2 classes" in expect_usage_error(
        capsys, "--data", str(folder))


def test_two_images_are_enough(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_images(tmp_path / "two", train=2, test=1, classes=2)
    assert mnist.main(["--data", str(folder)]) == 0
    assert "1 image to train on, 1 for validation, 1 to test" in capsys.readouterr().out


def no_mnist(*_: Any, **__: Any) -> Dataset:
    raise MnistUnavailable("No mirror answered.")


def test_without_mnist_the_embedded_digits_are_learned(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mnist, "load_mnist", no_mnist)
    assert mnist.main([]) == 0
    output = capsys.readouterr().out
    assert "No mirror answered." in output
    assert "digits that come with fastmlp instead" in output
    assert "data      digits: 1,322 images to train on, 120 for validation, 355 to test" in output
    assert "30 epochs, batch size 8" in output
    assert accuracy_in(output) > 0.9


def test_given_epochs_and_batch_size_hold_for_the_digits_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mnist, "load_mnist", no_mnist)
    assert mnist.main(["--epochs", "2", "--batch-size", "50"]) == 0
    output = capsys.readouterr().out
    assert "2 epochs, batch size 50" in output
    assert len(re.findall("^epoch", output, re.MULTILINE)) == 2


def test_training_reads_the_images_in_place_and_validates_on_the_last_of_them(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = load_mnist(folder)
    monkeypatch.setattr(mnist, "load_mnist", lambda *_, **__: data)
    calls = []

    def fit(self: Trainer, X: Any, y: Any, **options: Any) -> None:
        calls.append((X, y, *options["validation_data"]))

    monkeypatch.setattr(Trainer, "fit", fit)
    assert mnist.main([]) == 0
    [(X, y, X_held_out, y_held_out)] = calls
    for part, whole in ((X, data.X_train[:550]), (y, data.y_train[:550]), (X_held_out, data.X_train[550:]),
                        (y_held_out, data.y_train[550:])):
        np.testing.assert_array_equal(part, whole)
        assert np.shares_memory(part, whole)


def test_so_many_images_are_kept_for_validation_as_are_asked_for(folder: Path, made: Callable[..., Any]) -> None:
    _, _, given = made("--data", str(folder), "--validation", "30")
    assert len(given["validation_data"][0]) == len(given["validation_data"][1]) == 30
    _, _, given = made("--data", str(folder), "--validation", "0")
    assert given["validation_data"] is None


def test_training_on_all_images(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert mnist.main(["--data", str(folder), "--validation", "0", "--epochs", "2"]) == 0
    output = capsys.readouterr().out
    assert "600 images to train on, 0 for validation, 200 to test" in output
    assert len(re.findall(r"^epoch \d/2  loss \d\.\d{4}  +[\d,]+ samples/s$", output, re.MULTILINE)) == 2


@pytest.mark.parametrize("number", ["600", "-1", "half"])
def test_validation_images_that_there_cannot_be(number: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "argument --validation: " in expect_usage_error(capsys, "--data", str(folder), "--validation", number)


def test_pixels_that_are_dropped_are_black(folder: Path, made: Callable[..., Any]) -> None:
    model, _, _ = made("--data", str(folder), "--input-dropout", "0.2")
    np.testing.assert_array_equal(model.input_mean, np.zeros(36))
    np.testing.assert_array_equal(model.input_std, np.full(36, load_mnist(folder).X_train[:550].max()))


def test_mean_and_std() -> None:
    images = np.random.default_rng(0).integers(0, 256, (50, 49), dtype=np.uint8)
    assert mnist.mean_and_std(images) == pytest.approx((images.mean(), images.std()), rel=1e-12)
    assert mnist.mean_and_std(np.full((3, 4), 255, np.uint8)) == (255.0, 1.0)
    assert mnist.mean_and_std(np.zeros((3, 4), np.uint8)) == (0.0, 1.0)


# ---- training


class Recorded(Exception):
    """Raised in the place of training."""


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[MLP, dict[str, Any], dict[str, Any]]]:
    """Return the model, the trainer's settings and the settings of fit that the script makes of its options."""

    def record(*options: str) -> tuple[MLP, dict[str, Any], dict[str, Any]]:
        settings: dict[str, Any] = {}

        class Recorder(Trainer):
            def __init__(self, model: MLP, **given: Any) -> None:
                super().__init__(model, **given)
                settings.update(given)

            def fit(self, X: Any, y: Any, **given: Any) -> Any:
                raise Recorded(self.model, settings, given)

        monkeypatch.setattr(mnist, "Trainer", Recorder)
        with pytest.raises(Recorded) as recorded:
            mnist.main(options)
        model, settings, given = recorded.value.args
        return model, settings, given

    return record


def test_options_reach_model_and_trainer(folder: Path, made: Callable[..., Any]) -> None:
    model, settings, given = made(
        "--data", str(folder), "--hidden", "20,15", "--activation", "tanh", "--epochs", "3", "--batch-size", "64",
        "--learning-rate", "0.25", "--optimizer", "sgd", "--l2", "0.5", "--seed", "7", "--threads", "1")
    assert [(layer.units, layer.activation) for layer in model.layers] == [(20, "tanh"), (15, "tanh"), (10, "softmax")]
    X = load_mnist(folder).X_train[:550]
    reference = MLP([36, 20, 15, 10], "tanh", seed=7)
    for weights, expected in zip(model.get_weights(), reference.get_weights(), strict=True):
        np.testing.assert_array_equal(weights, expected)
    np.testing.assert_allclose(model.input_mean, np.full(36, X.mean()), rtol=1e-6)
    np.testing.assert_allclose(model.input_std, np.full(36, X.std()), rtol=1e-6)
    assert settings == {"optimizer": "sgd", "learning_rate": 0.25, "schedule": "one_cycle", "batch_size": 64,
                        "l2": 0.5, "seed": 7, "input_dropout": 0.0, "augmentation": None}
    assert {(layer.dropout, layer.max_norm) for layer in model.layers} == {(0.0, None)}
    assert given["epochs"] == 3
    assert given["progress"] is False
    assert get_num_threads() == 1


def test_limits_and_distortions_reach_model_and_trainer(folder: Path, made: Callable[..., Any],
                                                        capsys: pytest.CaptureFixture[str]) -> None:
    model, settings, _ = made("--data", str(folder), "--hidden", "20,15", "--dropout", "0.5", "--input-dropout", "0.2",
                              "--max-norm", "3", "--shift", "1.5", "--rotation", "15", "--scaling", "0.1",
                              "--elastic", "36,5.5")
    assert [(layer.dropout, layer.max_norm) for layer in model.layers] == [(0.5, 3.0), (0.5, 3.0), (0.0, None)]
    assert settings["input_dropout"] == 0.2
    assert settings["augmentation"] == Augmentation((6, 6), shift=1.5, rotation=15, scaling=0.1, elastic_alpha=36,
                                                    elastic_sigma=5.5)
    lines = capsys.readouterr().out.splitlines()
    assert lines[3] == "limits    dropout 0.5, input dropout 0.2, max norm 3"
    assert lines[4] == "images    shift 1.5, rotation 15, scaling 0.1, elastic 36, 5.5"


@pytest.mark.parametrize(("option", "value", "changed"), [
    ("--shift", "1.5", {"shift": 1.5}), ("--rotation", "15", {"rotation": 15}), ("--scaling", "0.1", {"scaling": 0.1}),
    ("--elastic", "36,5.5", {"elastic_alpha": 36, "elastic_sigma": 5.5}),
])
def test_one_distortion_is_enough(option: str, value: str, changed: dict[str, float], folder: Path,
                                  made: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    _, settings, _ = made("--data", str(folder), option, value)
    assert settings["augmentation"] == Augmentation((6, 6), **changed)
    assert "limits" not in capsys.readouterr().out


def test_training_with_limits_and_distortions(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert mnist.main(["--data", str(folder), "--epochs", "10", "--dropout", "0.2", "--input-dropout", "0.1",
                       "--max-norm", "3", "--shift", "0.2", "--rotation", "2", "--elastic", "1,4"]) == 0
    assert accuracy_in(capsys.readouterr().out) > 0.9


@pytest.mark.parametrize("optimizer", sorted(OPTIMIZERS))
def test_every_optimizer_has_a_learning_rate_that_serves(
    optimizer: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mnist, "load_mnist", no_mnist)
    assert mnist.main(["--optimizer", optimizer]) == 0
    output = capsys.readouterr().out
    assert f"{optimizer}, learning rate {mnist.LEARNING_RATES[optimizer]:g} " in output
    assert accuracy_in(output) > 0.9


def test_what_is_printed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert mnist.main(["--data", str(folder), "--epochs", "10", "--hidden", "20,15", "--threads", "1"]) == 0
    output, errors = capsys.readouterr()
    assert errors == ""
    assert "\r" not in output
    lines = output.splitlines()
    assert lines[0] == ("data      noisy-patterns: 550 images to train on, 50 for validation, 200 to test, "
                        "6 x 6 pixels, 10 classes")
    assert lines[1] == f"network   36-20-15-10, relu, {37 * 20 + 21 * 15 + 16 * 10:,} parameters"
    assert lines[2] == "training  10 epochs, batch size 8, adam, learning rate 0.004 (one cycle), l2 0, seed 0"
    assert lines[3] == "threads   1"
    epochs = [line for line in lines if line.startswith("epoch")]
    assert len(epochs) == 10
    for number, line in enumerate(epochs, 1):
        assert re.fullmatch(
            rf"epoch +{number}/10  loss \d\.\d{{4}}  validation accuracy +[\d.]+%  +[\d,]+ samples/s", line)
    assert len({len(line) for line in epochs}) == 1
    assert re.search(r"^trained in \d+\.\d\d s$", output, re.MULTILINE)


def test_the_epoch_lines_tell_what_the_history_tells(folder: Path, capsys: pytest.CaptureFixture[str],
                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    records: list[dict[str, Any]] = []
    fit = Trainer.fit

    def recorded(self: Trainer, *data: Any, **options: Any) -> Any:
        records.extend(fit(self, *data, **options))
        return self.history

    monkeypatch.setattr(Trainer, "fit", recorded)
    assert mnist.main(["--data", str(folder), "--epochs", "2"]) == 0
    output = capsys.readouterr().out
    assert len(records) == 2
    for record in records:
        pattern = rf"loss {record['loss']:.4f}  validation accuracy +{record['val_accuracy']:.2%} "
        assert re.search(pattern + rf" +{record['samples_per_second']:,.0f} samples/s", output)


@pytest.mark.filterwarnings("default::fastmlp.DivergenceWarning")
def test_a_diverging_run_says_so_and_saves_nothing(folder: Path, tmp_path: Path,
                                                   capsys: pytest.CaptureFixture[str]) -> None:
    saved = tmp_path / "model"
    assert mnist.main(["--data", str(folder), "--learning-rate", "1e30", "--save", str(saved)]) == 1
    output, errors = capsys.readouterr()
    assert "learning_rate" in errors
    assert "Traceback" not in errors
    assert "test accuracy" not in output
    assert not saved.exists()


def test_a_loaded_model_has_the_same_test_accuracy(folder: Path, tmp_path: Path,
                                                   capsys: pytest.CaptureFixture[str]) -> None:
    saved = tmp_path / "model.safetensors"
    assert mnist.main(["--data", str(folder), "--epochs", "2", "--save", str(saved)]) == 0
    output = capsys.readouterr().out
    assert f"saved to {saved}" in output
    data = load_mnist(folder)
    right = int((MLP.load(saved).predict(data.X_test) == data.y_test).sum())
    assert f"({right} of 200)" in output
    assert accuracy_in(output) == pytest.approx(right / 200, abs=1e-9)


def test_a_model_that_cannot_be_saved(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                      monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(MLP, "save", no_space)
    assert mnist.main(["--data", str(folder), "--epochs", "1", "--save", str(tmp_path / "model")]) == 1
    output, errors = capsys.readouterr()
    assert "test accuracy" in output
    assert "saved" not in output
    assert "No space left on device" in errors


# ---- confusion matrix


def test_confusion_matrix_against_a_naive_count() -> None:
    rng = np.random.default_rng(0)
    y_true, y_predicted = rng.integers(0, 7, 500), rng.integers(0, 9, 500)
    matrix = confusion_matrix(y_true, y_predicted, 9)
    expected = np.zeros((9, 9), np.int64)
    for true, predicted in zip(y_true, y_predicted, strict=True):
        expected[true, predicted] += 1
    np.testing.assert_array_equal(matrix, expected)
    assert matrix.dtype == np.int64


def test_the_table_of_a_confusion_matrix() -> None:
    table = mnist.format_confusion_matrix(np.array([[10, 0, 1234], [0, 0, 0], [3, 0, 1]]))
    rows = [line.split() for line in table.splitlines()[1:]]
    assert rows == [
        ["0", "1", "2", "total", "recall"],
        ["0", "10", "0", "1234", "1244", "0.80%"],
        ["1", "0", "0", "0", "0", "-"],
        ["2", "3", "0", "1", "4", "25.00%"],
    ]
    assert len({len(line) for line in table.splitlines()[1:]}) == 1  # aligned to the right


def test_the_printed_matrix_is_that_of_the_test_images(folder: Path, tmp_path: Path,
                                                       capsys: pytest.CaptureFixture[str]) -> None:
    saved = tmp_path / "model"
    mnist.main(["--data", str(folder), "--epochs", "1", "--save", str(saved)])
    data = load_mnist(folder)
    matrix = confusion_matrix(data.y_test, MLP.load(saved).predict(data.X_test), 10)
    assert mnist.format_confusion_matrix(matrix) in capsys.readouterr().out


# ---- Ctrl-C


def interrupt(*_: Any, **__: Any) -> Any:
    raise KeyboardInterrupt


def test_a_second_ctrl_c_ends_at_once(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                      monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trainer, "fit", interrupt)
    monkeypatch.setattr(mnist, "confusion_matrix", interrupt)
    saved = tmp_path / "model"
    assert mnist.main(["--data", str(folder), "--save", str(saved)]) == 130
    output, errors = capsys.readouterr()
    assert "Interrupted after 0 steps (0 whole epochs)" in output
    assert "test accuracy" not in output
    assert errors == "Interrupted.\n"
    assert not saved.exists()


def test_ctrl_c_while_the_data_are_loaded(capsys: pytest.CaptureFixture[str],
                                          monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mnist, "load_mnist", interrupt)
    assert mnist.main([]) == 130
    assert capsys.readouterr().err == "Interrupted.\n"


@contextlib.contextmanager
def ended(process: subprocess.Popen[str]) -> Iterator[None]:
    """See that a process has ended with the body; it is killed if the body fails or takes two minutes."""
    limit = threading.Timer(120, process.kill)
    limit.start()
    try:
        with process:
            try:
                yield
            except BaseException:
                process.kill()
                raise
    finally:
        limit.cancel()


def start(*options: str, **streams: Any) -> subprocess.Popen[str]:
    """Start the script in a process of its own, which answers Ctrl-C whatever this one does."""
    code = ("import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
            "from fastmlp.mnist import main; sys.exit(main())")
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": ""}
    return subprocess.Popen([sys.executable, "-c", code, *options], env=environment, text=True, **streams)


@POSIX_ONLY
def test_ctrl_c_in_the_middle_of_training(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "noisy-patterns", train=100_000)
    saved = tmp_path / "model"
    process = start("--data", str(folder), "--epochs", "1000000", "--save", str(saved), stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    with ended(process):
        seen = ""
        while not seen.startswith("epoch"):
            seen = process.stdout.readline()
            assert seen, "the script ended before its first epoch"
        process.send_signal(signal.SIGINT)
        began = time.monotonic()
        output, errors = process.stdout.read(), process.stderr.read()
    assert time.monotonic() - began < 5
    assert process.returncode == 130
    assert errors == ""
    assert re.search(r"^Interrupted after [\d,]+ steps", output, re.MULTILINE)
    assert output.count("samples/s") < 50  # a line arrives when its epoch ends, not with the next hundred
    data = load_mnist(folder)
    right = int((MLP.load(saved).predict(data.X_test) == data.y_test).sum())
    assert f"({right} of 200)" in output
    assert right > 100


@POSIX_ONLY
def test_output_that_nobody_reads_to_its_end(folder: Path) -> None:
    process = start("--data", str(folder), "--epochs", "1000000", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    with ended(process):
        process.stdout.readline()
        process.stdout.close()
        errors = process.stderr.read()
    assert process.returncode == 1
    assert errors == ""


# ---- in a terminal


def screen(written: str) -> list[str]:
    """Return the lines that a terminal shows after these characters."""
    lines = []
    for text in written.replace("\r\n", "\n").split("\n"):
        line: list[str] = []
        for part in text.split("\r"):
            line[: len(part)] = part
        lines.append("".join(line).rstrip())
    return lines


@POSIX_ONLY
def test_in_a_terminal_a_bar_moves_below_the_lines(tmp_path: Path) -> None:
    import fcntl
    import pty
    import struct
    import termios

    folder = write_images(tmp_path / "noisy-patterns", train=20_000)
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 120, 0, 0))
    process = start("--data", str(folder), "--epochs", "3", stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    written = b""
    with ended(process), contextlib.suppress(OSError):  # how the end of a terminal is told
        while part := os.read(ours, 1 << 16):
            written += part
    os.close(ours)
    assert process.returncode == 0
    text = written.decode()
    assert "\repoch 1/3:" in text
    shown = screen(text)
    epochs = [line for line in shown if re.match(r"epoch \d/3  loss", line)]
    assert [line[:9] for line in epochs] == ["epoch 1/3", "epoch 2/3", "epoch 3/3"]
    assert all(line.endswith(" samples/s") for line in epochs)
    [bar] = [line for line in shown if "sample/s" in line]
    assert "100%" in bar
    assert any(line.startswith("test accuracy") for line in shown)


# ---- MNIST itself


@pytest.mark.skipif(REAL_DATA is None, reason="FASTMLP_DATA names no folder with MNIST")
def test_mnist_is_learned_to_98_per_cent(capsys: pytest.CaptureFixture[str]) -> None:
    data = load_mnist(REAL_DATA)
    if data.name != "MNIST":
        pytest.skip(f"FASTMLP_DATA holds {data.name}")
    assert mnist.main(["--data", str(REAL_DATA), "--seed", "0"]) == 0
    output = capsys.readouterr().out
    assert "data      MNIST: 55,000 images to train on, 5,000 for validation, 10,000 to test" in output
    assert "10 epochs, batch size 128" in output
    assert accuracy_in(output) >= 0.98


def test_the_embedded_digits_are_a_small_set() -> None:
    assert len(load_digits().X_train) < mnist.SMALL_SET < 60_000


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
def test_output_that_cannot_be_written(folder: Path) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-m", "fastmlp.mnist", "--data", str(folder)], stdout=full,
                              stderr=subprocess.PIPE, text=True, timeout=120, check=False,
                              env={**os.environ, "PYTHONPATH": str(REPOSITORY)})
    assert done.returncode == 1
    assert done.stderr.startswith("The output could not be written: ")
    assert done.stderr.count("\n") == 1
