"""What holds for all tests: a machine may be slow, and whoever starts pytest may ignore signals."""

from __future__ import annotations

import signal

from hypothesis import HealthCheck, settings

IGNORED_BY_PYTHON = {signal.SIGPIPE, signal.SIGXFSZ}

# A deadline is an assertion on speed, and so is the limit on how long hypothesis may take to make its data.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


def pytest_configure() -> None:
    """Give signals back what they do by default: tests send them to processes that inherit what is ignored here.

    A shell without job control starts what runs in the background with SIGINT and SIGQUIT ignored (POSIX, 2.11),
    nohup(1) does so with SIGHUP. The workers of pytest-xdist come here as well.
    """
    for number in signal.valid_signals() - IGNORED_BY_PYTHON:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
