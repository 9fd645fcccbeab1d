"""Promise 2: what is not listed passes, and its TLS is never decrypted."""

from __future__ import annotations

import hashlib
import ssl
import subprocess

import pytest

from tests.e2e.network import ORIGIN_ADDRESS, Gate, Network


def test_unlisted_https_shows_the_origins_own_certificate(net: Network, gate: Gate):
    shown = subprocess.run(
        net.enter(
            *("openssl", "s_client", "-proxy", f"127.0.0.1:{gate.port}", "-connect", "www.pass.test:443"),
            *("-servername", "www.pass.test"),
        ),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    ).stdout
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    pem = begin + shown.partition(begin)[2].partition(end)[0] + end
    seen = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()
    assert seen == hashlib.sha256(ssl.PEM_cert_to_DER_cert(net.certificate.decode())).hexdigest()


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("http://pass.test/", id="http"),
        pytest.param("https://www.pass.test/", id="https"),
        pytest.param("https://notlisted.test/", id="listed domain as the end of a label"),
        pytest.param("https://www.pass.test/listed.test?listed.test#listed.test", id="listed name as path"),
        pytest.param("http://listed.test.pass.test/", id="listed domain as a subdomain of another"),
        pytest.param(f"http://{ORIGIN_ADDRESS}/", id="address"),
    ],
)
def test_unlisted_host_passes(net: Network, gate: Gate, url: str):
    answer = gate.curl(url, trust=net.origin_ca)
    assert answer.status == 200, answer.error
    assert answer.body.startswith("origin ")


def test_bodies_arrive_whole_both_ways(net: Network, gate: Gate, tmp_path):
    body = tmp_path / "body"
    body.write_bytes(b"x" * 5_000_000)
    for url in ("http://pass.test/", "https://www.pass.test/"):
        answer = gate.curl(url, "--data-binary", f"@{body}", trust=net.origin_ca)
        assert answer.body == "received 5000000\n"


def test_a_site_that_is_down_is_an_error_of_the_proxy(gate: Gate):
    answer = gate.curl("https://www.pass.test:4444/")
    assert answer.proxy_status == 502


def test_each_request_of_a_kept_connection_is_judged(net: Network, gate: Gate):
    urls = ["http://pass.test/1", "http://listed.test/2", "http://pass.test/3"]
    discard = [option for _ in urls for option in ("-o", "/dev/null")]
    done = subprocess.run(
        net.enter("curl", "-sS", "-x", gate.url, *discard, "-w", "%{http_code} %{num_connects} ", *urls),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.stdout == "200 1 403 0 200 0 "
