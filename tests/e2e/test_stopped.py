"""Promise 1: a listed host gets the stop page, over HTTP and HTTPS, and nothing goes towards it."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from tests.e2e.desk import Desk
from tests.e2e.network import Gate, Network
from tests.e2e.ways import View, ask, get, read_head, secure, view

LISTED = [
    pytest.param("http://listed.test/", id="http"),
    pytest.param("https://listed.test/", id="https"),
    pytest.param("http://www.listed.test/page?query", id="http subdomain"),
    pytest.param("https://a.b.listed.test/page", id="https subdomain"),
    pytest.param("http://LISTED.test./", id="upper case and trailing dot"),
    pytest.param("https://listed.test:8443/", id="another port"),
    pytest.param("http://stopped.example/", id="the other domain"),
]


@pytest.mark.parametrize("url", LISTED)
def test_listed_host_gets_the_page_and_is_not_contacted(net: Network, gate: Gate, url: str):
    with net.nothing_reaches_the_origin():
        answer = gate.curl(url, "-H", "Accept: text/html")
    assert answer.status == 403, answer.error
    assert "Access to this site was stopped" in answer.body
    assert "Example School" in answer.body
    assert "listed.test" not in answer.body


def test_page_is_served_under_a_certificate_of_the_gates_ca_only(net: Network, gate: Gate):
    with net.nothing_reaches_the_origin():
        answer = gate.curl("https://listed.test/", trust=net.origin_ca)
    assert answer.exit_code == 60  # the server's certificate is not trusted
    assert "listed.test" not in gate.log()


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(("-H", "Host: www.listed.test"), id="listed Host, unlisted target"),
        pytest.param(("-p",), id="plain HTTP in a tunnel"),
        pytest.param(("-p", "-H", "Host: listed.test"), id="listed Host in a tunnel to an unlisted host"),
        pytest.param(("--http1.0",), id="HTTP/1.0"),
        pytest.param(("-X", "HEAD", "-I"), id="HEAD"),
        pytest.param(("-d", "x=1"), id="POST"),
    ],
)
def test_every_name_and_way_in_is_stopped(net: Network, gate: Gate, options: tuple[str, ...]):
    unlisted = any("Host" in option for option in options)
    before = net.requests()
    answer = gate.curl("http://pass.test/" if unlisted else "http://listed.test/", *options)
    assert answer.status == 403
    assert net.requests() == before


def test_listed_sni_in_a_tunnel_to_an_unlisted_host_is_stopped(net: Network, gate: Gate):
    before = net.requests()
    answer = gate.curl(
        "https://listed.test/", "--connect-to", "listed.test:443:pass.test:443", "-H", "Accept: text/html"
    )
    assert answer.status == 403
    assert "Access to this site was stopped" in answer.body
    assert net.requests() == before


def test_bytes_that_are_no_http_or_tls_go_nowhere(net: Network, gate: Gate):
    with net.nothing_reaches_the_origin():
        answer = gate.curl("telnet://listed.test:443", "-p", "--max-time", "3")
    assert answer.status == 0


def test_an_endless_upload_to_a_listed_host_is_cut_off(net: Network, gate: Gate):
    with net.nothing_reaches_the_origin():
        head = b"POST http://listed.test/ HTTP/1.1\r\nHost: listed.test\r\n"
        assert gate.send(head + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n") == b""
        assert gate.send(head + b"Content-Length: 9999999999\r\n\r\nhello") == b""


def test_the_check_host_is_always_stopped(net: Network, gate: Gate):
    with net.nothing_reaches_the_origin():
        assert gate.curl("https://check.stoplist.invalid/").status == 403


def test_a_host_that_cannot_be_read_is_refused(net: Network, gate: Gate):
    with net.nothing_reaches_the_origin():
        assert gate.curl("http://pass.test/", "-H", "Host: listed test").status == 400


def test_two_host_fields_are_refused(net: Network, gate: Gate):
    with net.nothing_reaches_the_origin():
        answer = gate.send(b"GET http://pass.test/ HTTP/1.1\r\nHost: pass.test\r\nHost: listed.test\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")


# What an answer tells of the list

SECOND = "{file: other.stoplist, key: {file: test.listkey}, trusted_keys: [authority.pub], threshold: 1}"
STOPPED = (
    *(b"listed.test", b"a.listed.test", b"b.listed.test", b"x.y.listed.test", b"stopped.example"),
    *(b"www.stopped.example", b"other.example", b"www.other.example"),
)
"""By three entries of two lists."""


@pytest.fixture(params=["page", "refuse"])
def two_lists(request: pytest.FixtureRequest, net: Network, desk: Desk, tmp_path: Path) -> Iterator[Gate]:
    """A gate with a second list, which shows pages over HTTPS, or refuses it."""
    (desk.folder / "other.txt").write_text("other.example\n")
    desk.stoplist(
        *("list", "build", "other.txt", "--list", "other", "--serial", "17", "--expires", "2098-12-31"),
        *("--list-key", "test.listkey", "--sign-with", "authority", "-o", "other.stoplist"),
    )
    text = desk.policy.read_text().replace("stop_page:", f"  - {SECOND}\nstop_page:")
    desk.policy.write_text(f"{text}https: {request.param}\n")
    gate = net.gate(desk.policy, tmp_path / "state")
    yield gate
    gate.process.end()


def _asked_inside_tls(gate: Gate, host: bytes) -> tuple[bytes, tuple[str, ...]]:
    """The answer to a CONNECT, with that to a request in its tunnel, and the names in the certificate shown there."""
    with gate.connect() as connection:
        connection.sendall(b"CONNECT %b:443 HTTP/1.1\r\nHost: %b:443\r\nAccept: text/html\r\n\r\n" % (host, host))
        answer = read_head(connection)
        if b" 200 " not in answer:
            return answer + connection.recv(65536), ()
        secured = secure(connection, host.decode(), ssl.create_default_context(cafile=gate.ca))
        shown = x509.load_der_x509_certificate(secured.tls.getpeercert(binary_form=True))
        names = shown.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return answer + ask(secured, get(host)), tuple(str(name.value) for name in names)


def test_an_answer_tells_that_a_name_is_stopped_and_not_by_which_entry_of_which_list(two_lists: Gate):
    plain, inside = set[bytes](), set[bytes]()
    for host in STOPPED:
        with two_lists.connect() as connection:
            plain.add(ask(connection, get(host, target=b"http://%b/" % host)))
        answer, names = _asked_inside_tls(two_lists, host)
        inside.add(answer)
        assert names in ((), (host.decode(),)), "the name that was asked for, and no entry of a list"
    assert [view(answer) for answer in plain] == [View.PAGE]
    assert len(inside) == 1
    for answer in plain | inside:
        assert not [word for word in (b"listed.test", b"stopped.example", b"other.example") if word in answer]
