"""Modes as operators write them, with the address that each gets."""

from __future__ import annotations

import pytest

from stoplist.core.policy.values import ListenAddress
from stoplist.errors import StoplistError
from stoplist.proxy.mitm.modes import at_ports, check_passwords_can_be_asked, place

LISTEN = ListenAddress("127.0.0.1", 8080)


@pytest.mark.parametrize(
    ("modes", "placed"),
    [
        pytest.param(["regular"], ["regular@127.0.0.1:8080"], id="where the policy says"),
        pytest.param(["regular", "socks5@1080"], ["regular@127.0.0.1:8080", "socks5@127.0.0.1:1080"], id="a port"),
        pytest.param(["regular@0.0.0.0:3128"], ["regular@0.0.0.0:3128"], id="an address"),
        pytest.param(["dns@::1:53"], ["dns@::1:53"], id="IPv6"),
        pytest.param(
            ["upstream:http://proxy.example:3128"],
            ["upstream:http://proxy.example:3128@127.0.0.1:8080"],
            id="a parent with a port of its own",
        ),
        pytest.param(
            ["upstream:http://proxy.example:3128@8081"],
            ["upstream:http://proxy.example:3128@127.0.0.1:8081"],
            id="a parent, and a port",
        ),
        pytest.param(["regular", "tun:gate0"], ["regular@127.0.0.1:8080", "tun:gate0"], id="a device has no port"),
        pytest.param(["regular@0", "socks5@0"], ["regular@127.0.0.1:0", "socks5@127.0.0.1:0"], id="any free ports"),
    ],
)
def test_a_mode_listens_where_it_says_or_where_the_policy_does(modes: list[str], placed: list[str]):
    assert place(modes, LISTEN) == placed


def test_a_gate_on_ipv6_is_placed():
    assert place(["regular"], ListenAddress("::1", 8080)) == ["regular@::1:8080"]


@pytest.mark.parametrize(
    ("modes", "words"),
    [
        pytest.param(["nothing"], "'nothing' is no mode", id="unknown"),
        pytest.param(["regular:x"], "takes no arguments", id="arguments"),
        pytest.param(["socks5@70000"], "invalid port", id="port"),
        pytest.param(["upstream"], "Invalid server specification;", id="no parent"),
        pytest.param(["reverse:http://site.example"], "does not lead out of a network", id="reverse"),
        pytest.param(["regular", "socks5"], "would listen on 127.0.0.1:8080, as 'regular' does", id="one address"),
        pytest.param(["regular@9000", "dns@127.0.0.1:9000"], "would listen on 127.0.0.1:9000", id="another way"),
    ],
)
def test_what_cannot_be_is_an_error_with_a_remedy(modes: list[str], words: str):
    with pytest.raises(StoplistError) as caught:
        place(modes, LISTEN)
    assert words in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize("mode", ["transparent", "dns@53", "tun", "wireguard"])
def test_passwords_are_for_modes_that_can_ask(mode: str):
    check_passwords_can_be_asked(["regular", "socks5@1080", "upstream:http://proxy.example:3128@8081"])
    with pytest.raises(StoplistError, match="cannot be asked for a password"):
        check_passwords_can_be_asked(["regular", mode])


def test_modes_that_several_processes_serve_are_at_the_ports_that_were_found_for_them():
    placed = ["regular@127.0.0.1:0", "socks5@127.0.0.1:1080", "dns@127.0.0.1:0", "tun:gate0"]
    ports = {("127.0.0.1", 0): 40123, ("127.0.0.1", 1080): 1080}
    assert at_ports(placed, ports) == ["regular@127.0.0.1:40123", *placed[1:]]
