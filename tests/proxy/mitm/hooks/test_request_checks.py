"""Which names mitmproxy can send on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from OpenSSL import SSL

from stoplist.core.hosts import Host, HostError
from stoplist.proxy.mitm.hooks.request_checks import has_a_form_in_certificates

CONTEXT = SSL.Context(SSL.TLS_METHOD)


def openssl_takes(name: str) -> bool:
    """Whether OpenSSL takes a name for that of a server, as mitmproxy asks it."""
    connection, data = SSL.Connection(CONTEXT), name.encode("idna")
    parameters = SSL._lib.SSL_get0_param(connection._ssl)
    return bool(SSL._lib.X509_VERIFY_PARAM_set1_host(parameters, data, len(data)))


@given(st.text("ab1-_.*, xé~", min_size=1, max_size=9))
def test_a_name_that_is_taken_is_one_for_openssl(text: str) -> None:
    try:
        host = Host.parse(text)
    except HostError:
        return
    if has_a_form_in_certificates(host) and not host.is_address:
        assert openssl_takes(host.name)


@pytest.mark.parametrize(
    "name", ["www.example", "intranet", "a_b.example", "_x.example", "xn--bcher-kva.test", "1.test"]
)
def test_names_of_sites_are_taken(name: str) -> None:
    assert has_a_form_in_certificates(Host.parse(name))
    assert openssl_takes(name)


@pytest.mark.parametrize("name", ["*.example", "a*.example", "-a.example", "a-.example", "a,b.example"])
def test_others_are_not(name: str) -> None:
    assert not has_a_form_in_certificates(Host.parse(name))
