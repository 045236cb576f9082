"""The history in a CSV file, line by line as training goes on."""

from __future__ import annotations

import csv
import os
import warnings
from typing import IO, Any

from ..validation import check_flag, check_path
from .base import Callback


class CSVLogger(Callback):
    """Write the record of every epoch to a CSV file: a line each, at once, so that a crash loses none that is over.

    Parameters
    ----------
    path : str or os.PathLike
        The file. Its folder must exist.
    append : bool, default False
        Whether to go on with the file if there is one and it is not empty; by default every call of ``fit`` begins
        it anew.

    Raises
    ------
    TypeError, ValueError, OSError
        If an argument is not of its kind; in `on_train_begin`, if the file cannot be written, or is to be appended
        to and its first line has no column "epoch".

    Warns
    -----
    RuntimeWarning
        Once a run, if a record has values for which the file has no column.

    Notes
    -----
    The first record, or the file that is appended to, says which columns there are, for good: what a later record
    lacks is left empty, and what it has beyond them is left out, with a warning. So lines written are never touched
    again, and all have the same columns. A last line that a crash cut short is ended before others follow.
    """

    def __init__(self, path: str | os.PathLike[str], append: bool = False) -> None:
        check_path("path", path)
        self.path = path
        self.append = check_flag("append", append)
        self._columns: list[str] = []
        self._warned = False

    def on_train_begin(self, trainer: Any, logs: dict[str, Any]) -> None:
        """Begin the file, or look at what it holds."""
        self._columns, self._warned = [], False
        text = self._text_there() if self.append else ""
        if text:
            self._columns = next(csv.reader(text.splitlines()))
            if "epoch" not in self._columns:
                raise ValueError("path must be a file whose first line has a column 'epoch' to append to, got "
                                 f"{os.fspath(self.path)!r}")
        with self._open("a" if self.append else "w") as file:
            if text and not text.endswith("\n"):
                file.write("\n")

    def on_epoch_end(self, trainer: Any, logs: dict[str, Any]) -> None:
        """Write the epoch's line, below a first line with the names if the file is new."""
        # The file is open only here, so that there is nothing to close however training ends.
        with self._open("a") as file:
            writer = csv.writer(file, lineterminator="\n")
            if not self._columns:
                self._columns = list(logs)
                writer.writerow(self._columns)
            writer.writerow([logs.get(name, "") for name in self._columns])
        left_out = [name for name in logs if name not in self._columns]
        if left_out and not self._warned:
            self._warned = True
            message = f"{os.fspath(self.path)} has no column for {', '.join(map(repr, left_out))}; left out"
            warnings.warn(message, RuntimeWarning, stacklevel=2)

    def _text_there(self) -> str:
        try:
            with self._open("r") as file:
                return file.read()
        except FileNotFoundError:
            return ""

    def _open(self, mode: str) -> IO[str]:
        return open(self.path, mode, newline="", encoding="utf-8")
