"""Commands: the folder with the programs `stoplist` and `run-until` that their tests run."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli import run_until
from tests.cli.preloaded import preloaded


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with preloaded(tmp_path_factory.mktemp("programs") / "programs") as folder:
        program = folder / "run-until"
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -IS "{run_until.__file__}" "$@"\n')
        program.chmod(0o755)
        yield folder
