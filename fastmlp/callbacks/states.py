"""The states of callbacks: what checkpoints hold of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def has_state(callback: object) -> bool:
    """Whether a callback has both of the methods ``state_dict`` and ``load_state_dict``."""
    return all(callable(getattr(callback, name, None)) for name in ("state_dict", "load_state_dict"))


def callback_states(callbacks: Iterable[Any]) -> list[dict[str, Any]]:
    """Return the states of the callbacks that have one.

    Returns
    -------
    list of dict
        "position": of the callback, from 0; "class": its name; "state": what its ``state_dict`` returned.
    """
    states = []
    for position, callback in enumerate(callbacks):
        state = callback.state_dict() if has_state(callback) else {}
        if state:
            states.append({"position": position, "class": type(callback).__name__, "state": state})
    return states


def load_callback_states(callbacks: list[Any], states: list[dict[str, Any]]) -> None:
    """Hand the states that `callback_states` returned to callbacks of the same positions and classes.

    Raises
    ------
    ValueError
        If a callback of that class does not stand at a state's position; then no state is handed over.
    TypeError, ValueError
        As ``load_state_dict``.
    """
    for entry in states:
        position, name = entry["position"], entry["class"]
        found = callbacks[position] if position < len(callbacks) else None
        if type(found).__name__ != name or not has_state(found):
            got = "none" if found is None else repr(found)
            raise ValueError(f"callbacks must be as in the call of fit that is resumed, with one of the class {name} "
                             f"at position {position}, got {got}")
    for entry in states:
        callbacks[entry["position"]].load_state_dict(entry["state"])


def check_state(state: Any, names: Iterable[str]) -> None:
    """Check that the argument of a ``load_state_dict`` is a dict with these keys."""
    names = list(names)
    allowed = f"a dict with the keys {', '.join(map(repr, names))}"
    if not isinstance(state, dict):
        raise TypeError(f"state must be {allowed}, got {type(state).__name__}")
    if set(state) != set(names):
        raise ValueError(f"state must be {allowed}, got {', '.join(map(repr, state)) or 'none'}")
