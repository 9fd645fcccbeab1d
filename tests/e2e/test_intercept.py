"""`tls: intercept`: the same judgement inside TLS, for operators who must; never without being asked for."""

from __future__ import annotations

import re
import secrets
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import EITHER_WAY, LISTED
from tests.e2e.desk import Desk
from tests.e2e.network import GATEWAY_ADDRESS, STOPLIST, Gate, Network
from tests.e2e.traces import METRICS, left_by
from tests.e2e.ways import Door, View, ask_h2_streams, ask_inside_tls, get, secure, view


@pytest.fixture(scope="module")
def signed_by_it(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("signed") / "log"


@pytest.fixture(scope="module")
def gate(net: Network, signed_by_it: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    desk = Desk.new(tmp_path_factory.mktemp("intercept") / "desk", list(LISTED))
    with desk.policy.open("a") as policy:
        policy.write(f"tls: intercept\nupstream: {{ca: {net.origin_ca}}}\n")
    gate = net.gate(
        desk.policy,
        tmp_path_factory.mktemp("intercept") / "state",
        address=GATEWAY_ADDRESS,
        program=(sys.executable, str(Path(__file__).parent / "signing.py"), str(signed_by_it)),
    )
    yield gate
    gate.process.end()


def test_an_unlisted_site_is_decrypted_and_reached(net: Network, gate: Gate, signed_by_it: Path):
    answer = gate.curl("https://www.pass.test/inside")
    assert (answer.status, answer.body) == (200, "origin www.pass.test\n"), answer.error
    assert net.requests()[-1] == "request GET www.pass.test /inside"
    assert "www.pass.test" in signed_by_it.read_text()


def test_the_protocol_is_the_sites_choice(gate: Gate):
    assert "alpn h2" in gate.curl("https://www.pass.test:8443/", "--http2").body
    assert "alpn http/1.1" in gate.curl("https://www.pass.test:8443/", "--http1.1").body


@pytest.mark.parametrize("url", ["https://listed.test/", "https://www.listed.test/", "http://listed.test/"])
def test_a_listed_site_is_stopped_and_not_contacted(net: Network, gate: Gate, url: str):
    with net.nothing_reaches_the_origin():
        answer = gate.curl(url, "-H", "Accept: text/html")
    assert answer.status == 403
    assert "Access to this site was stopped" in answer.body


def test_a_listed_host_inside_the_tls_of_another_is_stopped(net: Network, gate: Gate):
    before = net.requests()
    for options in (("--http1.1",), ("--http2",)):
        answer = gate.curl(
            "https://www.pass.test:8443/", "-H", "Host: listed.test", "-H", "Accept: text/html", *options
        )
        assert answer.status == 403, answer.error
        assert "Access to this site was stopped" in answer.body
    assert net.requests() == before


def test_a_second_request_inside_tls_is_judged(net: Network, gate: Gate):
    before = net.requests()
    with Door(net, "regular", gate.port, gate.ca, net.origin_ca).enter(b"www.pass.test", 443) as tunnel:
        both = get(b"www.pass.test") + get(b"listed.test", more=b"Connection: close\r\n")
        answer = ask_inside_tls(tunnel, "www.pass.test", gate.ca, both)
    assert b"origin www.pass.test" in answer
    assert view(answer) is View.PAGE
    assert len(net.requests()) == len(before) + 1


def test_a_site_whose_certificate_is_wrong_is_not_shown(net: Network, gate: Gate):
    before = net.requests()
    assert gate.curl("https://wrong.example/").status in (0, 502)
    assert net.requests() == before


def test_nothing_of_it_is_in_the_log(net: Network, gate: Gate):
    gate.curl("https://secret.pass.test/secret-path")
    assert not any(word in gate.log() for word in ("pass.test", "secret", "listed.test"))


@pytest.mark.campaign
@pytest.mark.parametrize("workers", EITHER_WAY)
def test_what_it_decrypts_leaves_no_trace(net: Network, desk: Desk, tmp_path: Path, workers: tuple[str, ...]):
    """Paths, fields, bodies and names of sites that are not listed, over HTTP/1 and HTTP/2, whatever comes of them."""
    with desk.policy.open("a") as policy:
        policy.write(f"tls: intercept\nupstream: {{ca: {net.origin_ca}}}\n{METRICS}")
    home = tmp_path / "home"
    own = net.gate(desk.policy, home / "state", *workers, program=("env", f"HOME={home}", str(STOPLIST)))
    tokens = [f"q{secrets.token_hex(6)}z" for _ in range(60)]
    arrived = set[str]()
    sites = ("{}.pass.test", "{}.pass.test:8443", "{}.wrong.example", "{}.down.test:4444", "{}.listed.test")
    for number, token in enumerate(tokens):
        site = sites[number % len(sites)].format(token)
        fields = (f"Cookie: {token}={token}", f"X-{token}: {token}", f"Referer: https://{site}/{token}")
        body = ("--data-binary", f"{token}=1") if number % 3 else ()
        answer = own.curl(
            f"https://{site}/mirror/{token}?{token}",
            *(option for field in fields for option in ("-H", field)),
            *("--user", f"{token}:{token}", "--user-agent", token, *body),
            *(("--http2",) if number % 2 else ("--http1.1",)),
        )
        arrived |= {token} & set(re.findall("q[0-9a-f]{12}z", answer.body))
    assert len(arrived) >= len(tokens) // len(sites), "they were decrypted, and answered"
    for place, data in left_by(own, desk, home).items():
        found = [each for each in (*tokens, "pass.test", "wrong.example", "down.test") if each.encode() in data.lower()]
        assert not found, place


def test_it_is_warned_of_at_the_start(gate: Gate):
    assert "tls: intercept" in gate.log()


def test_without_it_no_certificate_is_made_for_an_unlisted_site(net: Network, own_gate: Gate):
    answer = own_gate.curl("https://www.pass.test/", trust=net.origin_ca)
    assert answer.status == 200
    assert own_gate.curl("https://www.pass.test/").exit_code == 60


def test_each_stream_of_http2_is_judged(net: Network, gate: Gate):
    """Two streams at once: one for the site, one that names a listed host."""
    before = net.requests()
    context = ssl.create_default_context(cafile=gate.ca)
    context.set_alpn_protocols(["h2"])
    with Door(net, "regular", gate.port, gate.ca, net.origin_ca).enter(b"www.pass.test", 8443) as tunnel:
        secured = secure(tunnel, "www.pass.test", context)
        answers = ask_h2_streams(secured, [b"www.pass.test:8443", b"listed.test", b"www.listed.test."])
    assert b"tls " in answers[0]
    assert [view(answer) for answer in answers[1:]] == [View.PAGE, View.PAGE]
    assert net.requests()[len(before) :] == ["request GET www.pass.test:8443 /"]
