"""The record of a training run: what `Trainer.fit` measured, epoch by epoch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, overload


class History:
    """A list of records, one dict an epoch.

    The records can be read by row and by column: ``history[-1]`` is the last epoch's record and
    ``history["loss"]`` is the loss by epoch. ``pandas.DataFrame(history.to_dict())`` makes a table of it.

    Attributes
    ----------
    records : list of dict
        A record an epoch, oldest first, for example ``{"epoch": 0, "loss": 0.31, "val_loss": 0.35}``.
        Records need not have the same keys: the second of two runs may have validation data.

    Examples
    --------
    >>> history = History()
    >>> history.append({"epoch": 0, "loss": 0.5})
    >>> history.append({"epoch": 1, "loss": 0.25, "val_loss": 0.3})
    >>> history[-1]["loss"]
    0.25
    >>> history["val_loss"]
    [None, 0.3]
    >>> history
    <History: 2 epochs; last: epoch=1, loss=0.25, val_loss=0.3>
    """

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []

    def append(self, record: Mapping[str, Any]) -> None:
        """Add the record of one epoch; a copy is kept.

        Parameters
        ----------
        record : mapping of str to value
            The epoch's values by name.

        Raises
        ------
        TypeError
            If `record` is not a mapping with names as keys.
        """
        if not isinstance(record, Mapping):
            raise TypeError(f"record must be a dict of values by name, got {type(record).__name__}")
        for name in record:
            if not isinstance(name, str):
                raise TypeError(f"record must have names (str) as keys, got {name!r}")
        self.records.append(dict(record))

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.records)

    def __contains__(self, name: object) -> bool:
        """Whether any record has a value of that name, so that ``"val_loss" in history`` is meaningful."""
        return any(name in record for record in self.records)

    @overload
    def __getitem__(self, key: int) -> dict[str, Any]: ...

    @overload
    def __getitem__(self, key: slice) -> list[dict[str, Any]]: ...

    @overload
    def __getitem__(self, key: str) -> list[Any]: ...

    def __getitem__(self, key: int | slice | str) -> dict[str, Any] | list[Any]:
        """The record at a position, those of a slice, or the values of a name by epoch.

        Parameters
        ----------
        key : int, slice or str
            A position in the list of records (negative: from the end), a slice of it, or the name of a value.

        Returns
        -------
        dict or list
            The record; the records; or a list as long as the history, None where a record lacks the name.

        Raises
        ------
        IndexError
            If there is no record at that position.
        KeyError
            If no record has that name; the message lists the names there are.
        """
        if not isinstance(key, str):
            return self.records[key]
        if key not in self:
            names = ", ".join(map(repr, self._names())) or "nothing yet"
            raise KeyError(f"no record of the history has {key!r}; it has: {names}")
        return [record.get(key) for record in self.records]

    def to_dict(self) -> dict[str, list[Any]]:
        """The history column by column.

        Returns
        -------
        dict of str to list
            For every name in any record its values by epoch, None where a record lacks it. All lists are
            as long as the history; names stand in the order in which they first appeared.
        """
        return {name: self[name] for name in self._names()}

    def _names(self) -> list[str]:
        return list(dict.fromkeys(name for record in self.records for name in record))

    def __repr__(self) -> str:
        if not self.records:
            return "<History: no epochs yet>"
        count = "1 epoch" if len(self) == 1 else f"{len(self)} epochs"
        last = ", ".join(f"{name}={_short(value)}" for name, value in self.records[-1].items())
        return f"<History: {count}; last: {last}>"


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
