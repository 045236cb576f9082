"""The record of training: by row, by column, and what it says when asked for what it does not have."""

from __future__ import annotations

import copy
import pickle

import pytest

from fastmlp.history import History


@pytest.fixture
def history() -> History:
    """Two epochs without validation data, then one with."""
    history = History()
    history.append({"epoch": 0, "loss": 0.5, "accuracy": 0.75})
    history.append({"epoch": 1, "loss": 0.25, "accuracy": 0.875})
    history.append({"epoch": 2, "loss": 0.123456789, "val_loss": 0.3})
    return history


def test_rows(history: History) -> None:
    assert len(history) == 3
    assert history[0] == {"epoch": 0, "loss": 0.5, "accuracy": 0.75}
    assert history[-1] == {"epoch": 2, "loss": 0.123456789, "val_loss": 0.3}
    assert list(history) == history.records == [history[0], history[1], history[2]]
    assert history[1:] == history.records[1:]
    with pytest.raises(IndexError):
        history[3]


def test_columns_have_none_where_a_record_lacks_the_value(history: History) -> None:
    assert history["loss"] == [0.5, 0.25, 0.123456789]
    assert history["accuracy"] == [0.75, 0.875, None]
    assert history["val_loss"] == [None, None, 0.3]


def test_unknown_column_names_those_there_are(history: History) -> None:
    with pytest.raises(KeyError) as caught:
        history["val_accuracy"]
    message = str(caught.value)
    for name in ("val_accuracy", "epoch", "loss", "accuracy", "val_loss"):
        assert repr(name) in message
    with pytest.raises(KeyError, match="nothing yet"):
        History()["loss"]


def test_contains_asks_for_names(history: History) -> None:
    assert "val_loss" in history
    assert "val_accuracy" not in history


def test_to_dict(history: History) -> None:
    columns = history.to_dict()
    assert columns == {
        "epoch": [0, 1, 2],
        "loss": [0.5, 0.25, 0.123456789],
        "accuracy": [0.75, 0.875, None],
        "val_loss": [None, None, 0.3],
    }
    assert list(columns) == ["epoch", "loss", "accuracy", "val_loss"]
    assert History().to_dict() == {}


def test_append_keeps_a_copy() -> None:
    history = History()
    record = {"loss": 0.5}
    history.append(record)
    record["loss"] = 99.0
    assert history["loss"] == [0.5]


@pytest.mark.parametrize("record", [None, 0.5, [("loss", 0.5)], {0: 0.5}])
def test_append_refuses_what_is_no_record(record: object) -> None:
    history = History()
    with pytest.raises(TypeError, match="record must"):
        history.append(record)  # type: ignore[arg-type]
    assert len(history) == 0


def test_repr(history: History) -> None:
    assert repr(history) == "<History: 3 epochs; last: epoch=2, loss=0.1235, val_loss=0.3>"
    assert repr(History()) == "<History: no epochs yet>"
    one = History()
    one.append({"epoch": 0})
    assert repr(one) == "<History: 1 epoch; last: epoch=0>"


def test_copies_and_pickles(history: History) -> None:
    assert copy.deepcopy(history).records == history.records
    assert pickle.loads(pickle.dumps(history)).records == history.records
