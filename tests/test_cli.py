"""The command line: subcommands, versions, and the report on this computer."""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import llvmlite
import numba
import numpy as np
import pytest

import fastmlp
from fastmlp import cli, mnist, threads
from fastmlp.datasets import mnist as mnist_data
from fastmlp.kernels import simd

REPOSITORY = Path(fastmlp.__file__).parents[1]


@pytest.fixture(autouse=True)
def clean_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FASTMLP_DATA", raising=False)
    monkeypatch.setattr(threads, "_chosen", None)


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, timeout=120,
                          check=False)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"fastmlp {fastmlp.__version__}\n"


def test_the_package_can_be_run() -> None:
    done = python("-m", "fastmlp", "--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"fastmlp {fastmlp.__version__}\n", "")
    done = python("-m", "fastmlp", "mnist", "--epochs", "0")
    assert done.returncode == 2
    assert "fastmlp mnist: error: argument --epochs: " in done.stderr


def test_the_script_can_be_run_as_a_module() -> None:
    done = python("-m", "fastmlp.mnist", "--epochs", "0")
    assert done.returncode == 2
    assert "python -m fastmlp.mnist: error: argument --epochs: " in done.stderr


@pytest.mark.parametrize("arguments", [[], ["train"], ["--epochs", "1"], ["info", "--epochs", "1"]])
def test_wrong_commands(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    assert "usage: fastmlp" in capsys.readouterr().err


def test_help_tells_of_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["--help"])
    assert ended.value.code == 0
    output = capsys.readouterr().out
    assert "mnist" in output
    assert "info" in output


def test_mnist_has_the_options_of_the_script_and_passes_its_exit_code_on(monkeypatch: pytest.MonkeyPatch) -> None:
    options = ["--hidden", "16,8", "--seed", "3"]
    parser = argparse.ArgumentParser()
    mnist.add_arguments(parser)
    seen: list[dict[str, Any]] = []

    def run(arguments: argparse.Namespace, error: Any) -> int:
        seen.append(vars(arguments))
        return 130

    monkeypatch.setattr(mnist, "run", run)
    assert cli.main(["mnist", *options]) == 130
    assert seen == [{**vars(parser.parse_args(options)), "command": "mnist"}]


def test_errors_of_mnist_name_the_subcommand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["mnist", "--data", str(tmp_path)])
    assert ended.value.code == 2
    assert "fastmlp mnist: error: argument --data: " in capsys.readouterr().err


def test_the_core_does_not_import_the_command_line() -> None:
    done = python("-c", "import sys, fastmlp, fastmlp.datasets; print(*sys.modules)")
    modules = done.stdout.split()
    assert "fastmlp.trainer" in modules
    assert not {"fastmlp.cli", "fastmlp.mnist"} & set(modules)


# ---- info


def findings(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    assert cli.main(["info"]) == 0
    output, errors = capsys.readouterr()
    assert errors == ""
    return {line[:17].rstrip(): line[17:] for line in output.splitlines()}


def test_info(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_chosen", 1)
    found = findings(capsys)
    assert list(found) == [
        "fastmlp", "python", "numpy", "numba", "llvmlite", "platform", "processor", "instruction set", "cpu features",
        "tile float32", "tile float64", "threads", "threading layer", "kernel cache", "data cache", "FASTMLP_DATA",
    ]
    assert found["fastmlp"] == fastmlp.__version__
    assert found["python"].split()[0] == platform.python_version()
    assert found["numpy"] == np.__version__
    assert found["numba"] == numba.__version__
    assert found["llvmlite"] == llvmlite.__version__
    assert found["platform"] == platform.platform()
    assert found["processor"] == (numba.config.CPU_NAME or llvmlite.binding.get_host_cpu_name())
    assert found["threads"] == f"1 of {threads.available_threads()}"
    assert found["threading layer"].split(",")[0] == threads.threading_layer()
    assert found["FASTMLP_DATA"] == "not set"
    assert not any(value.startswith("unknown") for value in found.values())
    assert all(found.values())


@pytest.mark.parametrize(
    ("name", "description", "tiles"),
    [
        ("AVX-512", "AVX-512, registers of 64 bytes, with fused multiply-add", ("13 x 32", "13 x 16")),
        ("AVX", "AVX, registers of 32 bytes, without fused multiply-add", ("6 x 16", "6 x 8")),
        ("NEON", "NEON, registers of 16 bytes, with fused multiply-add", ("12 x 8", "12 x 4")),
    ],
)
def test_info_on_other_processors(name: str, description: str, tiles: tuple[str, str],
                                  capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    row = next(row for row in simd.INSTRUCTION_SETS if row.name == name)
    monkeypatch.setattr(simd, "INSTRUCTION_SET", row)
    monkeypatch.setattr(simd, "TILE_ROWS", row.tile_rows)
    monkeypatch.setattr(simd, "TILE_VECTORS", row.tile_vectors)
    monkeypatch.setattr(simd, "CPU_FEATURES", row.needs | {"popcnt"})
    found = findings(capsys)
    assert found["instruction set"] == description
    assert (found["tile float32"], found["tile float64"]) == tiles
    assert found["cpu features"] == ", ".join(sorted(row.needs))


@pytest.mark.parametrize(
    ("system", "remedy"), [("linux", "libgomp.so.1"), ("darwin", "libomp"), ("win32", "pip install tbb")])
def test_info_says_what_to_install_for_a_better_threading_layer(
    system: str, remedy: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "threading_layer", lambda: "workqueue")
    monkeypatch.setattr(cli.sys, "platform", system)
    line = findings(capsys)["threading layer"]
    assert line.startswith("workqueue, ")
    assert remedy in line
    monkeypatch.setattr(threads, "threading_layer", lambda: "omp")
    assert findings(capsys)["threading layer"] == "omp"


def test_info_never_fails(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Any:
        raise RuntimeError("not to be had")

    whole = findings(capsys)
    monkeypatch.setattr(threads, "threading_layer", fail)
    monkeypatch.setattr(mnist_data, "cache_folder", fail)
    monkeypatch.setattr(platform, "platform", fail)
    found = findings(capsys)
    failed = {"threading layer", "data cache", "platform"}
    assert list(found) == list(whole)
    for name, value in found.items():
        assert value == ("unknown (RuntimeError: not to be had)" if name in failed else whole[name])


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
def test_output_that_cannot_be_written() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-m", "fastmlp", "info"], stdout=full, stderr=subprocess.PIPE, text=True,
                              env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, timeout=120, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("The output could not be written: ")


def test_output_that_nobody_reads() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as pipe:
        done = subprocess.run([sys.executable, "-m", "fastmlp", "info"], stdout=pipe, stderr=subprocess.PIPE, text=True,
                              env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (1, "")


def test_info_knows_where_the_kernels_are_cached() -> None:
    done = python("-c", "import fastmlp.cli; from fastmlp.kernels.epoch import run; print(fastmlp.cli.info()); "
                        "print(run._cache.cache_path)")
    *lines, path = done.stdout.splitlines()
    assert f"kernel cache     {path}" in lines


def test_info_tells_whether_mnist_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                           monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mnist_data, "cache_folder", lambda: tmp_path)
    contents = {name: name.encode() for name in mnist_data.ORIGINALS}
    monkeypatch.setattr(mnist_data, "ORIGINALS", {
        name: (len(content), hashlib.sha256(content).hexdigest()) for name, content in contents.items()})
    assert findings(capsys)["data cache"] == f"{tmp_path} (without MNIST)"
    (tmp_path / "mnist").mkdir()
    for name, content in contents.items():
        (tmp_path / "mnist" / name).write_bytes(content)
    assert findings(capsys)["data cache"] == f"{tmp_path} (with MNIST)"
    (tmp_path / "mnist" / name).write_bytes(b"something else")
    assert findings(capsys)["data cache"] == f"{tmp_path} (without MNIST)"

    monkeypatch.setenv("FASTMLP_DATA", "a folder")
    assert findings(capsys)["FASTMLP_DATA"] == "a folder"
