"""The network of these tests tells the truth: what reaches the world is seen, and nothing else is."""

from __future__ import annotations

import hashlib
import socket
import ssl
import sys
from pathlib import Path

import pytest

from tests.e2e.desk import Desk
from tests.e2e.network import (
    DEAD_ADDRESS,
    GATEWAY_ADDRESS,
    LISTED_ADDRESS,
    META_ADDRESS,
    ORIGIN_ADDRESS,
    OUTER_ADDRESS,
    RECORDS,
    SECONDS,
    Network,
    network,
)
from tests.e2e.origin import pattern


def _listen(net: Network, address: str) -> socket.socket:
    return net.gateway.call(lambda: socket.create_server((address, 0)))


def _read(connection: socket.socket) -> bytes:
    """All that comes until the other side ends."""
    return b"".join(iter(lambda: connection.recv(65536), b""))


def test_a_request_is_seen_by_all_three_witnesses(net: Network):
    packets, journal, queries = net.packets(), net.journal(), net.queries()
    assert net.curl("http://seen.test/path").body == "origin seen.test\n"
    assert net.packets() > packets
    assert net.journal()[len(journal) :] == [f"connection 80 {ORIGIN_ADDRESS}", "request GET seen.test /path"]
    assert f"query[A] seen.test from {OUTER_ADDRESS}" in net.queries()[len(queries) :]


def test_an_idle_network_is_silent(net: Network):
    for _ in range(3):
        with net.nothing_reaches_the_origin():
            pass


@pytest.mark.parametrize("address", [ORIGIN_ADDRESS, LISTED_ADDRESS, META_ADDRESS, DEAD_ADDRESS, "192.0.2.77"])
def test_one_datagram_to_anywhere_is_noticed(net: Network, address: str):
    with (
        net.gateway.call(lambda: socket.socket(type=socket.SOCK_DGRAM)) as sender,
        pytest.raises(AssertionError, match=r"^1 packets reached the world"),
        net.nothing_reaches_the_origin(),
    ):
        sender.sendto(b"x", (address, 9))


def test_a_query_is_named_when_it_is_noticed(net: Network):
    with pytest.raises(AssertionError, match=r"query\[A\] noticed\.test"), net.nothing_reaches_the_origin():
        net.curl("http://noticed.test/")


def test_connections_that_still_close_are_waited_for(net: Network):
    with net.gateway.connect(ORIGIN_ADDRESS, 80) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: closing.test\r\n\r\n")
    with net.nothing_reaches_the_origin():
        pass


def test_nobody_answers_at_the_dead_address(net: Network):
    packets = net.packets()
    with pytest.raises(TimeoutError):
        net.gateway.connect(DEAD_ADDRESS, 80, seconds=0.2)
    assert net.packets() > packets


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_is_answered_in_its_order(net: Network, name: str):
    ask = "import socket, sys; print(*socket.gethostbyname_ex(sys.argv[1])[2])"
    assert net.gateway.run(sys.executable, "-c", ask, name).split() == RECORDS[name]


def test_the_client_reaches_the_gateway_and_not_the_world(net: Network):
    with (
        _listen(net, GATEWAY_ADDRESS) as server,
        net.client.connect(GATEWAY_ADDRESS, server.getsockname()[1]) as connection,
    ):
        connection.sendall(b"hello")
        connection.shutdown(socket.SHUT_WR)
        with server.accept()[0] as accepted:
            assert _read(accepted) == b"hello"
    with net.nothing_reaches_the_origin():
        for address in (ORIGIN_ADDRESS, META_ADDRESS):
            with pytest.raises(TimeoutError):
                net.client.connect(address, 80, seconds=0.2)
        answer = net.curl(f"http://{ORIGIN_ADDRESS}/", "--connect-timeout", "0.2", space=net.client)
        assert answer.exit_code == 28  # time out


def test_a_gate_can_serve_the_client(net: Network, desk: Desk, tmp_path: Path):
    gate = net.gate(desk.policy, tmp_path / "state", address=GATEWAY_ADDRESS)
    assert gate.curl("http://pass.test/", space=net.client).body == "origin pass.test\n"
    with net.nothing_reaches_the_origin():
        assert gate.curl("https://listed.test/", space=net.client).status == 403
        assert gate.send(b"GET / HTTP/1.1\r\nHost: listed.test\r\n\r\n", space=net.client)
    gate.process.end()


def test_redirected_ports_of_the_client_arrive_at_the_gateway(net: Network):
    with _listen(net, GATEWAY_ADDRESS) as server, net.nothing_reaches_the_origin():
        port = server.getsockname()[1]
        with net.redirect([80, 443], port), net.client.connect(LISTED_ADDRESS, 443), server.accept()[0] as accepted:
            original = accepted.getsockopt(socket.SOL_IP, 80, 16)  # SO_ORIGINAL_DST
            assert socket.inet_ntoa(original[4:8]) == LISTED_ADDRESS
            assert int.from_bytes(original[2:4]) == 443
        with pytest.raises(TimeoutError):
            net.client.connect(LISTED_ADDRESS, 443, seconds=0.2)


def test_what_was_started_ends_with_the_network(tmp_path: Path):
    with network(tmp_path / "net") as net:
        spaces = {_network_of(Path(f"/proc/{space.pid}")) for space in (net.client, net.gateway, net.world)}
        net.client.start("sleep", "60")
    assert len(spaces) == 3
    assert not {process for process in Path("/proc").glob("[0-9]*") if _network_of(process) in spaces}


def _network_of(process: Path) -> int | None:
    try:
        return (process / "ns" / "net").stat().st_ino
    except OSError:
        return None


def test_half_closed_connections_are_answered_in_full(net: Network):
    sent = b"".join(pattern(200_000))
    with net.gateway.connect(ORIGIN_ADDRESS, 7) as connection:
        connection.sendall(sent)
        connection.settimeout(0.1)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        connection.settimeout(SECONDS)
        connection.shutdown(socket.SHUT_WR)
        assert _read(connection) == sent


@pytest.mark.parametrize(
    ("port", "banner", "echo"), [(22, b"SSH-2.0-origin\r\n", b"Hello\r\n"), (25, b"220 origin ESMTP\r\n", b"HELLO\r\n")]
)
def test_a_server_that_speaks_first_and_then_echoes(net: Network, port: int, banner: bytes, echo: bytes):
    with net.gateway.connect(LISTED_ADDRESS, port) as connection:
        assert connection.recv(100) == banner
        connection.sendall(b"Hello\r\n")
        assert connection.recv(100) == echo
    assert net.journal()[-1] == f"connection {port} {LISTED_ADDRESS}"


def test_a_redirect_and_no_answer(net: Network):
    answer = net.curl("http://pass.test/redirect?to=http://listed.test/%3Fa")
    assert answer.status == 302
    assert "\nLocation: http://listed.test/?a\n" in answer.headers.replace("\r", "")
    assert net.curl("http://pass.test/drop").exit_code == 52  # empty reply


def test_a_big_body_can_be_checked(net: Network):
    seen = net.gateway.run("sh", "-c", "curl -sS 'http://pass.test/big?bytes=3000000' | sha256sum").split()[0]
    expected = hashlib.sha256()
    for part in pattern(3_000_000):
        expected.update(part)
    assert seen == expected.hexdigest()


def test_a_stream_comes_line_by_line(net: Network):
    for seconds in (0.5, 2, 8):
        answer = net.curl("http://pass.test/stream", "--no-buffer", "--max-time", str(seconds))
        assert answer.exit_code == 28
        if answer.body.count("line\n") >= 2:
            break
    lines = answer.body.count("line\n")
    assert answer.body == "line\n" * lines
    assert 2 <= lines <= 5 * seconds + 1


@pytest.mark.parametrize("options", [(), ("-H", "Transfer-Encoding: chunked")], ids=["length", "chunked"])
def test_a_body_is_counted(net: Network, tmp_path: Path, options: tuple[str, ...]):
    (tmp_path / "body").write_bytes(b"x" * 300_000)
    answer = net.curl("http://pass.test/", "--data-binary", f"@{tmp_path}/body", *options)
    assert answer.body == "received 300000\n"


def test_a_web_socket_echoes_messages(net: Network):
    with net.gateway.connect(ORIGIN_ADDRESS, 80) as connection:
        connection.sendall(
            b"GET /ws HTTP/1.1\r\nHost: pass.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        answer = connection.recv(65536)
        assert answer.startswith(b"HTTP/1.1 101 ")
        assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in answer  # RFC 6455, 1.3
        connection.sendall(bytes.fromhex("8185 37fa213d 7f9f4d5158"))  # "Hello", masked: RFC 6455, 5.7
        assert connection.recv(100) == b"\x81\x05Hello"


@pytest.mark.parametrize(
    ("url", "options", "seen"),
    [
        pytest.param(
            "https://www.pass.test:8443/", (), "tls TLSv1.3 alpn h2 resumed False client None", id="the best of all"
        ),
        pytest.param(
            "https://www.pass.test:8443/",
            ("--http1.1", "--tls-max", "1.2"),
            "tls TLSv1.2 alpn http/1.1 resumed False client None",
            id="TLS 1.2 and HTTP/1.1",
        ),
        pytest.param(
            "https://www.pass.test:8444/",
            ("--http1.1",),
            "tls TLSv1.3 alpn http/1.1 resumed False client None",
            id="no client certificate where one is asked for",
        ),
    ],
)
def test_the_origin_says_what_tls_it_saw(net: Network, url: str, options: tuple[str, ...], seen: str):
    answer = net.curl(url, "--cacert", str(net.origin_ca), *options)
    assert answer.body == f"{seen} sni www.pass.test\n", answer.error
    assert answer.body.strip() in net.journal()


def test_the_origin_says_who_the_client_is(net: Network):
    answer = net.curl(
        "https://www.pass.test:8444/", "--cacert", str(net.origin_ca), "--cert", str(net.client_certificate)
    )
    assert answer.body == "tls TLSv1.3 alpn h2 resumed False client client sni www.pass.test\n", answer.error


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_the_origin_resumes_sessions(net: Network, version: ssl.TLSVersion):
    context = ssl.create_default_context(cafile=str(net.origin_ca))
    context.minimum_version = context.maximum_version = version

    def ask(session: ssl.SSLSession | None) -> tuple[str, ssl.SSLSession]:
        with (
            net.gateway.connect(ORIGIN_ADDRESS, 8443) as plain,
            context.wrap_socket(plain, server_hostname="www.pass.test", session=session) as connection,
        ):
            connection.sendall(b"GET / HTTP/1.1\r\nHost: www.pass.test\r\n\r\n")
            return _read(connection).decode(), connection.session

    answer, session = ask(None)
    assert "alpn None resumed False" in answer
    assert "alpn None resumed True" in ask(session)[0]
