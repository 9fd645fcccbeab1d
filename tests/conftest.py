"""What holds for all tests: the machine may be slow, chance decides nothing, and the one who starts pytest may ignore
signals, or have set Python's variables.
"""

from __future__ import annotations

import os
import signal
import sys

import pytest
from hypothesis import HealthCheck, settings

from tests.examples import FEW

IGNORED_BY_PYTHON = {signal.SIGPIPE, signal.SIGXFSZ}

# A deadline is an assertion on speed, and so is the limit on how long hypothesis may take to make its data. The same
# examples come in each run; "explore" draws new ones (pytest --hypothesis-profile explore), and "few examples" is for
# runs in which something else than the examples is tried, such as the clock.
settings.register_profile("explore", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("same examples", settings.get_profile("explore"), derandomize=True)
settings.register_profile("few examples", settings.get_profile("same examples"), max_examples=FEW)
settings.load_profile("same examples")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A campaign may take half an hour on a slow machine."""
    for item in items:
        if item.get_closest_marker("campaign"):
            item.add_marker(pytest.mark.timeout(1800))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Two for each core that it may use, unless pytest-xdist's own variable says how many: whole gates mostly wait."""
    return int(os.environ.get("PYTEST_XDIST_AUTO_NUM_WORKERS", 2 * len(os.sched_getaffinity(0))))


os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # each of hundreds of processes would compile what it imports
sys.dont_write_bytecode = False


def pytest_configure() -> None:
    """Give signals back what they do by default: tests send them to processes that inherit what is ignored here.

    A shell without job control starts what runs in the background with SIGINT and SIGQUIT ignored (POSIX, 2.11),
    nohup(1) does so with SIGHUP. The workers of pytest-xdist come here as well.
    """
    for number in signal.valid_signals() - IGNORED_BY_PYTHON:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
