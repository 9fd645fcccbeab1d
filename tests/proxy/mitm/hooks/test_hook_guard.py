"""The guard of hooks: what a hook refuses is refused, and what it cannot do as well."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from mitmproxy.exceptions import AddonHalt
from mitmproxy.test import tflow

from stoplist.core.decide import TOO_MANY, Verdict
from stoplist.core.wire.conversations import RefusedError
from stoplist.proxy.mitm.hooks.hook_guard import guarded, refuse_flow


class Hooks:
    def __init__(self, error: Exception) -> None:
        self.counted: list[Verdict | str] = []
        self.context = SimpleNamespace(
            judge=SimpleNamespace(count=self.counted.append),
            count_fault=lambda: self.counted.append("fault"),
            faults=SimpleNamespace(add=lambda name, error: None),
        )
        self._error = error

    @guarded(refuse_flow)
    def requestheaders(self, flow):
        raise self._error


def test_a_connection_with_too_many_hosts_is_refused_and_is_no_fault():
    hooks, flow = Hooks(RefusedError(TOO_MANY)), tflow.tflow()
    with pytest.raises(AddonHalt):
        hooks.requestheaders(flow)
    assert flow.response.status_code == 503
    assert "too many hosts" in flow.response.text
    assert hooks.counted == [TOO_MANY]


def test_a_hook_that_raises_refuses_and_counts_a_fault():
    hooks, flow = Hooks(ValueError()), tflow.tflow()
    with pytest.raises(AddonHalt):
        hooks.requestheaders(flow)
    assert flow.response.status_code == 503
    assert hooks.counted == ["fault"]
