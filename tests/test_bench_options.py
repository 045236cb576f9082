"""``python -m bench options``: every option trains, is measured beside plain training, and has its line."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from bench import __main__ as command
from bench import options
from bench.compare.timing import Effort
from fastmlp import get_num_threads
from fastmlp.activations import ACTIVATIONS
from fastmlp.optimizers import OPTIMIZERS


def lines(capsys: pytest.CaptureFixture[str]) -> list[list[str]]:
    """The words of each line of the table, without what stands above it."""
    machine, head, *rest = capsys.readouterr().out.splitlines()
    assert machine.endswith("threads: 1")
    assert head.split() == ["option", "plain", "step", "with", "it", "ratio"]
    return [line.split() for line in rest]


@pytest.mark.parametrize("name", options.OPTIONS)
def test_every_option_makes_the_steps_of_plain_training(name: str) -> None:
    trainer = options.trainer_with(**options.OPTIONS[name])
    trainer.fit(*options.data(steps=2), epochs=1, progress=False)
    assert trainer.steps == 2
    plain = options.trainer_with()
    assert trainer.model.layers != plain.model.layers or any(
        getattr(trainer, argument) != getattr(plain, argument) for argument in options.OPTIONS[name])


def test_nothing_is_left_out() -> None:
    assert set(options.OPTIONS) >= (set(ACTIVATIONS) | set(OPTIMIZERS)) - {"relu", "adam"}


def test_a_ratio_is_the_time_of_a_step_by_that_of_a_plain_one(monkeypatch: pytest.MonkeyPatch,
                                                              capsys: pytest.CaptureFixture[str]) -> None:
    def measure(sides: Mapping[str, Callable[[], object]], effort: Effort) -> dict[str, float]:
        assert effort == options.EFFORT
        return {side: options.STEPS * (2e-4 if side == "plain" else 3e-4) for side in sides}

    monkeypatch.setattr(options, "measure", measure)
    assert command.main(["options", "l1", "gelu"]) == 0
    assert lines(capsys) == [[name, "200", "us", "300", "us", "1.50"] for name in ("l1", "gelu")]


def test_a_smoke_run_prints_some_lines_and_leaves_the_threads_as_they_were(capsys: pytest.CaptureFixture[str]) -> None:
    before = get_num_threads()
    assert command.main(["options", "--quick"]) == 0
    assert get_num_threads() == before
    table = lines(capsys)
    assert [words[0] for words in table] == list(options.SMOKE)
    assert all(float(words[-1]) > 0 for words in table)


@pytest.mark.parametrize("arguments, message", ((["relu"], "NAME must be of identity, "),
                                                (["--threads", "0"], "--threads: invalid choice"),
                                                (["--threads", "100000"], "--threads: invalid choice")), ids=str)
def test_what_cannot_be_measured_is_refused(arguments: list[str], message: str,
                                            capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        command.main(["options", *arguments])
    assert message in capsys.readouterr().err
