"""Running gate: which gate uses a state directory now."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from stoplist.errors import StoplistError
from stoplist.state_directory import Holder, holder


@dataclass(frozen=True, slots=True)
class RunningGate:
    """The gate that uses a state directory; None if there is none, or nobody can know. `needs` says what is wrong."""

    gate: Holder | None
    needs: tuple[str, ...]


def status(state_dir: Path) -> RunningGate:
    try:
        gate = holder(state_dir)
    except StoplistError as error:
        return RunningGate(None, (str(error),))
    return RunningGate(
        gate, () if gate is not None else ("no gate is running here; start it, or name its --state-dir",)
    )
