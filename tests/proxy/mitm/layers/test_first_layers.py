"""The first layers: what is connected before a connection has said what it is. Events in, commands out."""

from __future__ import annotations

import pytest
from mitmproxy.connection import Client, ConnectionState
from mitmproxy.options import Options
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layer import NextLayerHook

from stoplist.core.decide import NOT_FORWARDED, PASS, PROTOCOL
from stoplist.proxy.mitm.layers.first_layers import Transparent
from stoplist.proxy.mitm.layers.next_layers import next_layer
from tests.proxy.judges import Store, judge_by
from tests.rulesets import ruleset, signed

WEB, OTHER = 80, 9051
STORE = Store.of(ruleset(signed("listed.example")))


class Redirected:
    """A connection that was redirected to the gate, before its first byte; to a server that answers nothing."""

    def __init__(self, port: int, *, ends_here: bool = False) -> None:
        self._ends_here = ends_here
        client = Client(
            peername=("198.51.100.2", 1),
            sockname=("198.51.100.1", 8080),
            timestamp_start=0,
            state=ConnectionState.OPEN,
        )
        self.judge, self.counted = judge_by(STORE)
        self.context = Context(client, Options())
        self.context.server.address = ("192.0.2.80", port)
        self.layer = Transparent(self.context)
        self.wakeups: list[commands.RequestWakeup] = []
        self.opened = 0
        self.closed = False
        self.to_server: list[bytes] = []
        self._handle(events.Start())

    def send(self, data: bytes) -> None:
        self._handle(events.DataReceived(self.context.client, data))

    def wait(self) -> None:
        """Until the time is over that the gate gives it."""
        self._handle(events.Wakeup(self.wakeups.pop()))

    def _handle(self, event: events.Event) -> None:
        waiting = [event]
        while waiting:
            for command in self.layer.handle_event(waiting.pop(0)):
                match command:
                    case NextLayerHook(data=undecided):
                        undecided.layer = next_layer(undecided, self.judge, lambda *_: PASS, ends_here=self._ends_here)
                        waiting.append(events.HookCompleted(command))
                    case commands.RequestWakeup():
                        self.wakeups.append(command)
                    case commands.OpenConnection():
                        self.opened += 1
                        command.connection.state = ConnectionState.OPEN
                        command.connection.timestamp_start = 1
                        waiting.append(events.OpenConnectionCompleted(command, None))
                    case commands.CloseConnection():
                        self.closed = True
                    case commands.SendData():
                        self.to_server.append(command.data)
                    case _:
                        raise AssertionError(command)


@pytest.mark.parametrize("port", [WEB, OTHER])
def test_half_a_request_line_connects_nothing(port: int) -> None:
    redirected = Redirected(port)
    for byte in b"GET / HTTP/1.1":
        redirected.send(bytes([byte]))
    assert redirected.opened == 0
    assert not redirected.closed


def test_a_word_goes_on_when_it_was_waited_for() -> None:
    redirected = Redirected(OTHER)
    redirected.send(b"JDWP-Handshake")
    redirected.wait()
    assert (redirected.opened, redirected.to_server, redirected.closed) == (1, [b"JDWP-Handshake"], False)


def test_where_the_web_is_a_word_ends_with_its_time_and_connects_nothing() -> None:
    redirected = Redirected(WEB)
    redirected.send(b"JDWP-Handshake")
    redirected.wait()
    assert (redirected.opened, redirected.to_server, redirected.closed) == (0, [], True)
    assert redirected.counted.verdicts == [PROTOCOL]


def test_where_the_web_is_text_waits_for_the_servers_first_words() -> None:
    redirected = Redirected(WEB)
    redirected.send(b"FOO\r\n\r\n")
    assert (redirected.opened, redirected.to_server, redirected.closed) == (1, [], False)


@pytest.mark.parametrize("said", [b"\xff\0binary", b"GET x\r\n\r\n", b"\x15\x02binary"])
def test_where_a_tunnel_ends_at_the_gate_nothing_is_relayed(said: bytes) -> None:
    redirected = Redirected(OTHER, ends_here=True)
    redirected.send(said)
    assert (redirected.opened, redirected.to_server, redirected.closed) == (0, [], True)
    assert redirected.counted.verdicts == [NOT_FORWARDED]


def test_nor_is_a_word_that_was_waited_for() -> None:
    redirected = Redirected(OTHER, ends_here=True)
    redirected.send(b"JDWP-Handshake")
    assert not redirected.closed
    redirected.wait()
    assert (redirected.opened, redirected.to_server, redirected.closed) == (0, [], True)
    assert redirected.counted.verdicts == [NOT_FORWARDED]
