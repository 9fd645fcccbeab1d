"""Addresses: the gate is no way in to its own machine, whatever form an address is written in."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stoplist.core.addresses import DENIED, AddressRules, Network, forms, is_client

V4 = st.ip_addresses(v=4)
V6 = st.ip_addresses(v=6)
DEFAULT = AddressRules.of()


def rules(allow: str = "", deny: str = "") -> AddressRules:
    """The rules of a policy; networks are separated by spaces."""
    return AddressRules.of(networks(allow), networks(deny))


def networks(text: str) -> tuple[Network, ...]:
    return tuple(ip_network(network) for network in text.split())


def mapped(address: IPv4Address) -> IPv6Address:
    return IPv6Address(0xFFFF << 32 | int(address))


def nat64(address: IPv4Address) -> IPv6Address:
    return IPv6Address(0x64FF9B << 96 | int(address))


# What is denied by default


@pytest.mark.parametrize("network", [pytest.param(network, id=str(network)) for network in DENIED])
def test_nobody_reaches_a_network_that_is_denied_by_default(network: Network) -> None:
    for address in (network[0], network[-1], network[network.num_addresses // 2]):
        assert not DEFAULT.permit(address)


@pytest.mark.parametrize(
    "address",
    [
        pytest.param("127.0.0.1", id="loopback"),
        pytest.param("127.255.255.254", id="the far end of loopback"),
        pytest.param("0.0.0.0", id="this network, which Linux takes for loopback"),
        pytest.param("0.0.0.1", id="this network"),
        pytest.param("169.254.169.254", id="metadata"),
        pytest.param("169.254.170.2", id="metadata of containers"),
        pytest.param("100.100.100.200", id="metadata of Alibaba"),
        pytest.param("168.63.129.16", id="host of Azure"),
        pytest.param("192.0.0.192", id="metadata of Oracle"),
        pytest.param("224.0.0.1", id="multicast"),
        pytest.param("239.255.255.250", id="multicast of SSDP"),
        pytest.param("255.255.255.255", id="broadcast"),
        pytest.param("::", id="IPv6 unspecified"),
        pytest.param("::1", id="IPv6 loopback"),
        pytest.param("fe80::1", id="IPv6 link-local"),
        pytest.param("fe80::1%lo", id="IPv6 link-local with a zone"),
        pytest.param("fec0::1", id="IPv6 site-local"),
        pytest.param("fd00:ec2::254", id="metadata of Amazon, IPv6"),
        pytest.param("fd20:ce::254", id="metadata of Google, IPv6"),
        pytest.param("ff02::1", id="IPv6 multicast"),
        pytest.param("::ffff:127.0.0.1", id="loopback, mapped"),
        pytest.param("::ffff:169.254.169.254", id="metadata, mapped"),
        pytest.param("::ffff:0.0.0.0", id="this network, mapped"),
        pytest.param("::ffff:0:127.0.0.1", id="loopback, translated"),
        pytest.param("::127.0.0.1", id="loopback, compatible"),
        pytest.param("::169.254.169.254", id="metadata, compatible"),
        pytest.param("::2", id="this network, compatible"),
        pytest.param("64:ff9b::127.0.0.1", id="loopback, NAT64"),
        pytest.param("64:ff9b::169.254.169.254", id="metadata, NAT64"),
        pytest.param("64:ff9b:1::169.254.169.254", id="metadata, NAT64 of one's own"),
        pytest.param("64:ff9b:1:ffff:ffff:ffff:7f00:1", id="loopback, NAT64 of one's own, another prefix"),
        pytest.param("64:ff9b:1:7f00:0:100::", id="loopback, NAT64 of one's own, behind 48 bits"),
        pytest.param("64:ff9b:1:aa7f:0:1::", id="loopback, NAT64 of one's own, behind 56 bits"),
        pytest.param("64:ff9b:1:a:7f:0:100:0", id="loopback, NAT64 of one's own, behind 64 bits"),
        pytest.param("64:ff9b:1:a9fe:a9:fe00::", id="metadata, NAT64 of one's own, behind 48 bits"),
        pytest.param("64:ff9b:1::", id="this network, NAT64 of one's own"),
        pytest.param("2002:7f00:1::", id="loopback, 6to4"),
        pytest.param("2002:a9fe:a9fe::1", id="metadata, 6to4"),
        pytest.param("2002:0:0:ffff:ffff:ffff:ffff:ffff", id="this network, 6to4"),
        pytest.param("2001:0:808:808:0:0:80ff:fffe", id="loopback, Teredo"),
        pytest.param("2001:0:0:0:0:0:5601:5601", id="metadata, Teredo"),
    ],
)
def test_nobody_reaches_the_gates_own_machine_or_a_metadata_service(address: str) -> None:
    assert not DEFAULT.permit(ip_address(address))


@pytest.mark.parametrize(
    "address",
    [
        pytest.param("192.0.2.1", id="a public address"),
        pytest.param("10.0.0.1", id="a private network"),
        pytest.param("172.16.0.1", id="another private network"),
        pytest.param("192.168.0.1", id="a home network"),
        pytest.param("100.64.0.1", id="behind a carrier's NAT"),
        pytest.param("100.100.100.199", id="beside a metadata service"),
        pytest.param("1.0.0.0", id="after this network"),
        pytest.param("126.255.255.255", id="before loopback"),
        pytest.param("128.0.0.0", id="after loopback"),
        pytest.param("169.253.255.255", id="before link-local"),
        pytest.param("169.255.0.0", id="after link-local"),
        pytest.param("223.255.255.255", id="before multicast"),
        pytest.param("2001:db8::1", id="a public address, IPv6"),
        pytest.param("fd00::1", id="a private network, IPv6"),
        pytest.param("fe00::1", id="before link-local, IPv6"),
        pytest.param("::ffff:192.0.2.1", id="a public address, mapped"),
        pytest.param("64:ff9b::192.0.2.1", id="a public address, NAT64"),
        pytest.param("64:ff9b:1:c000:2:100::", id="a public address, NAT64 of one's own, behind 48 bits"),
        pytest.param("64:ff9b:1:a:c0:2:100:0", id="a public address, NAT64 of one's own, behind 64 bits"),
        pytest.param("2002:c000:201::1", id="a public address, 6to4"),
        pytest.param("2001:0:7f00:1:0:0:3fff:fdfe", id="a public address through a Teredo server of any address"),
    ],
)
def test_what_is_not_denied_is_reached(address: str) -> None:
    assert DEFAULT.permit(ip_address(address))


# What else an address carries


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        pytest.param("192.0.2.1", ["192.0.2.1"], id="IPv4"),
        pytest.param("2001:db8::1", ["2001:db8::1"], id="IPv6"),
        pytest.param("::", ["::"], id="unspecified carries nothing"),
        pytest.param("::1", ["::1"], id="loopback carries nothing"),
        pytest.param("::ffff:192.0.2.1", ["192.0.2.1"], id="mapped is the IPv4 address"),
        pytest.param("::ffff:0:192.0.2.1", ["::ffff:0:c000:201", "192.0.2.1"], id="translated"),
        pytest.param("::192.0.2.1", ["::c000:201", "192.0.2.1"], id="compatible"),
        pytest.param("64:ff9b::192.0.2.1", ["64:ff9b::c000:201", "192.0.2.1"], id="NAT64"),
        pytest.param("64:ff9b:1:a::192.0.2.1", ["64:ff9b:1:a::c000:201", "192.0.2.1"], id="NAT64 of one's own"),
        pytest.param(
            "64:ff9b:1:c000:2:100::",
            ["64:ff9b:1:c000:2:100::", "192.0.2.1"],
            id="NAT64 of one's own, behind 48 bits",
        ),
        pytest.param(
            "64:ff9b:1:c000:102:100::",
            ["64:ff9b:1:c000:102:100::", "0.0.0.0"],
            id="NAT64 of one's own, with bits where there are none",
        ),
        pytest.param("64:ff9b:0:1::192.0.2.1", ["64:ff9b:0:1::c000:201"], id="beside NAT64"),
        pytest.param("64:ff9b:2::192.0.2.1", ["64:ff9b:2::c000:201"], id="after NAT64 of one's own"),
        pytest.param("2002:c000:201:a::b", ["2002:c000:201:a::b", "192.0.2.1"], id="6to4"),
        pytest.param("2003:c000:201::1", ["2003:c000:201::1"], id="after 6to4"),
        pytest.param(
            "2001:0:c633:6401:0:0:3fff:fdfe", ["2001:0:c633:6401::3fff:fdfe", "192.0.2.1"], id="Teredo, inverted"
        ),
        pytest.param("2001:1::3fff:fdfe", ["2001:1::3fff:fdfe"], id="after Teredo"),
    ],
)
def test_an_address_has_the_forms_that_it_carries(address: str, expected: list[str]) -> None:
    assert forms(ip_address(address)) == tuple(ip_address(form) for form in expected)


# The policy's networks


@pytest.mark.parametrize(
    ("allow", "deny", "address", "permitted"),
    [
        pytest.param("", "10.0.0.0/8", "10.1.2.3", False, id="denied"),
        pytest.param("", "10.0.0.0/8", "11.0.0.0", True, id="beside what is denied"),
        pytest.param("10.1.0.0/16", "10.0.0.0/8", "10.1.2.3", True, id="allowed inside what is denied"),
        pytest.param("10.1.0.0/16", "10.0.0.0/8", "10.2.0.0", False, id="denied outside what is allowed"),
        pytest.param("10.0.0.0/8", "10.1.0.0/16", "10.1.2.3", False, id="denied inside what is allowed"),
        pytest.param("10.0.0.0/8", "10.1.0.0/16", "10.2.0.0", True, id="allowed outside what is denied"),
        pytest.param("10.0.0.0/8", "10.0.0.0/8", "10.1.2.3", False, id="of two that are equal, the denying one"),
        pytest.param("10.1.2.3/32 10.0.0.0/8", "10.1.2.0/24", "10.1.2.3", True, id="three levels, the innermost"),
        pytest.param("10.1.2.3/32 10.0.0.0/8", "10.1.2.0/24", "10.1.2.4", False, id="three levels, the middle one"),
        pytest.param("10.1.2.3/32 10.0.0.0/8", "10.1.2.0/24", "10.1.3.0", True, id="three levels, the outermost"),
        pytest.param("127.0.0.1/32", "", "127.0.0.1", True, id="one loopback address is allowed"),
        pytest.param("127.0.0.1/32", "", "127.0.0.2", False, id="and no other"),
        pytest.param("127.0.0.0/8", "", "127.0.0.2", True, id="a default gives way to the very same network"),
        pytest.param("127.0.0.0/8", "127.0.0.0/8", "127.0.0.2", False, id="but not where the policy denies it too"),
        pytest.param("0.0.0.0/0", "", "127.0.0.1", False, id="all of IPv4 does not open loopback"),
        pytest.param("126.0.0.0/7", "", "127.0.0.1", False, id="a wider network does not open loopback"),
        pytest.param("0.0.0.0/0", "", "169.254.169.254", False, id="all of IPv4 does not open metadata"),
        pytest.param("0.0.0.0/1 128.0.0.0/1", "", "127.0.0.1", False, id="nor do its halves"),
        pytest.param("169.254.169.254/32", "", "169.254.169.254", True, id="metadata is opened by its address"),
        pytest.param("192.0.2.0/24", "0.0.0.0/0", "192.0.2.1", True, id="only what is allowed: allowed"),
        pytest.param("192.0.2.0/24", "0.0.0.0/0", "198.51.100.1", False, id="only what is allowed: denied"),
        pytest.param("192.0.2.0/24", "0.0.0.0/0", "2001:db8::1", True, id="IPv4 says nothing of IPv6"),
        pytest.param("", "::/0", "2001:db8::1", False, id="IPv6 denied"),
        pytest.param("", "::/0", "192.0.2.1", True, id="IPv6 says nothing of IPv4"),
        pytest.param("2001:db8::/32", "::/0", "2001:db8::1", True, id="IPv6 allowed inside"),
        pytest.param("::1/128", "", "::1", True, id="IPv6 loopback is allowed"),
        pytest.param("::1/128", "", "127.0.0.1", False, id="IPv4 loopback is not, with that"),
        pytest.param("127.0.0.1/32", "", "::1", False, id="nor the other way round"),
        pytest.param("::/0", "", "::1", False, id="all of IPv6 does not open loopback"),
        pytest.param("fd00:ec2::/32", "", "fd00:ec2::254", True, id="a default of IPv6 gives way"),
        # Carried addresses
        pytest.param("127.0.0.1/32", "", "::ffff:127.0.0.1", True, id="mapped, allowed as IPv4"),
        pytest.param("", "10.0.0.0/8", "::ffff:10.1.2.3", False, id="mapped, denied as IPv4"),
        pytest.param("", "::ffff:0:0/96", "192.0.2.1", True, id="a network of mapped addresses is none of IPv4"),
        pytest.param("", "10.0.0.0/8", "64:ff9b::10.1.2.3", False, id="NAT64, denied as IPv4"),
        pytest.param("64:ff9b::/96", "10.0.0.0/8", "64:ff9b::10.1.2.3", False, id="NAT64, allowed as IPv6 alone"),
        pytest.param("10.1.2.3/32", "64:ff9b::/96", "64:ff9b::10.1.2.3", False, id="NAT64, allowed as IPv4 alone"),
        pytest.param("::/0 127.0.0.1/32", "", "64:ff9b::127.0.0.1", True, id="NAT64, allowed as both"),
        pytest.param("64:ff9b::127.0.0.1/128", "", "64:ff9b::127.0.0.1", False, id="loopback through NAT64"),
        pytest.param("", "10.0.0.0/8", "2002:a01:203::1", False, id="6to4, denied as IPv4"),
        pytest.param("", "2002::/16", "2002:c000:201::1", False, id="6to4, denied as IPv6"),
    ],
)
def test_the_most_specific_network_decides(allow: str, deny: str, address: str, permitted: bool) -> None:
    assert rules(allow, deny).permit(ip_address(address)) is permitted


def test_the_order_of_networks_changes_nothing() -> None:
    one = rules("10.1.2.3/32 10.0.0.0/8 ::1/128", "10.1.2.0/24 10.0.0.0/8")
    other = rules("::1/128 10.0.0.0/8 10.1.2.3/32", "10.0.0.0/8 10.1.2.0/24")
    for address in ("10.1.2.3", "10.1.2.4", "10.9.9.9", "::1", "127.0.0.1"):
        assert one.permit(ip_address(address)) is other.permit(ip_address(address))


V4_NETWORKS = st.builds(
    lambda address, length: ip_network((int(address), length), strict=False), V4, st.integers(0, 32)
)
V6_NETWORKS = st.builds(
    lambda address, length: ip_network((address.packed, length), strict=False), V6, st.integers(0, 128)
)
NETWORKS = st.lists(V4_NETWORKS | V6_NETWORKS | st.sampled_from(DENIED), max_size=4)


@given(NETWORKS, NETWORKS, V4)
@example([], [], IPv4Address("127.0.0.1"))
@example([ip_network("127.0.0.1/32")], [], IPv4Address("127.0.0.1"))
@example([ip_network("::/0")], [], IPv4Address("127.0.0.1"))
@example([ip_network("::ffff:7f00:1/128")], [], IPv4Address("127.0.0.1"))
def test_a_mapped_address_is_judged_as_the_address_that_it_is(
    allow: list[Network], deny: list[Network], address: IPv4Address
) -> None:
    judged = AddressRules.of(allow, deny)
    assert judged.permit(mapped(address)) is judged.permit(address)


@given(NETWORKS, NETWORKS, V4)
@example([], [], IPv4Address("169.254.169.254"))
def test_no_form_reaches_what_the_address_itself_does_not(
    allow: list[Network], deny: list[Network], address: IPv4Address
) -> None:
    judged = AddressRules.of(allow, deny)
    teredo = IPv6Address(0x20010000 << 96 | (int(address) ^ 0xFFFFFFFF))
    six_to_four = IPv6Address(0x2002 << 112 | int(address) << 80 | 1)
    compatible = IPv6Address(int(address))
    for form in (mapped(address), nat64(address), teredo, six_to_four, *([compatible] if int(address) > 1 else [])):
        assert judged.permit(address) or not judged.permit(form)


@given(NETWORKS, V4 | V6)
def test_denying_never_permits(deny: list[Network], address: IPv4Address | IPv6Address) -> None:
    if not DEFAULT.permit(address) or any(form in network for form in forms(address) for network in deny):
        assert not AddressRules.of((), deny).permit(address)


@given(NETWORKS, NETWORKS, V4 | V6)
def test_a_rule_for_one_address_decides_for_it(
    allow: list[Network], deny: list[Network], address: IPv4Address | IPv6Address
) -> None:
    own = [ip_network(form) for form in forms(address)]
    assert not AddressRules.of(allow, [*deny, *own]).permit(address)
    if not set(own) & set(deny):
        assert AddressRules.of([*allow, *own], deny).permit(address)


# Clients. 192.88.99.1 and 4000::1 are public for Python and nobody's; documentation addresses are not public.


@pytest.mark.parametrize(
    ("address", "served"),
    [
        pytest.param("127.0.0.1", True, id="loopback"),
        pytest.param("10.0.0.1", True, id="private"),
        pytest.param("172.31.255.255", True, id="private, the far end"),
        pytest.param("192.168.1.1", True, id="home"),
        pytest.param("100.64.0.1", True, id="behind a carrier's NAT"),
        pytest.param("169.254.1.1", True, id="link-local"),
        pytest.param("172.32.0.0", False, id="after a private network"),
        pytest.param("192.88.99.1", False, id="public"),
        pytest.param("::1", True, id="loopback, IPv6"),
        pytest.param("fd00::1", True, id="private, IPv6"),
        pytest.param("fe80::1", True, id="link-local, IPv6"),
        pytest.param("fe80::1%eth0", True, id="link-local, IPv6, with its zone"),
        pytest.param("4000::1", False, id="public, IPv6"),
        pytest.param("::ffff:10.0.0.1", True, id="private, mapped"),
        pytest.param("::ffff:192.88.99.1", False, id="public, mapped"),
        pytest.param("64:ff9b::192.88.99.1", False, id="public, NAT64"),
        pytest.param("2002:c058:6301::1", False, id="public, 6to4"),
        pytest.param("2001:0:c058:6301:0:0:3fa7:9cfe", False, id="public, Teredo"),
    ],
)
def test_without_a_list_clients_that_are_not_public_are_served(address: str, served: bool) -> None:
    assert is_client(ip_address(address), None) is served


@pytest.mark.parametrize(
    ("address", "listed", "served"),
    [
        pytest.param("10.0.0.1", "10.0.0.0/8", True, id="inside"),
        pytest.param("11.0.0.0", "10.0.0.0/8", False, id="outside"),
        pytest.param("192.168.0.1", "10.0.0.0/8", False, id="private, and not listed"),
        pytest.param("127.0.0.1", "10.0.0.0/8", False, id="loopback, and not listed"),
        pytest.param("192.0.2.1", "10.0.0.0/8 192.0.2.1/32", True, id="the second network"),
        pytest.param("192.88.99.1", "192.88.99.0/24", True, id="public, and listed"),
        pytest.param("::ffff:10.0.0.1", "10.0.0.0/8", True, id="mapped, as a socket of both families says it"),
        pytest.param("::ffff:11.0.0.1", "10.0.0.0/8 ::/0", False, id="mapped is no IPv6"),
        pytest.param("64:ff9b::10.0.0.1", "10.0.0.0/8", False, id="NAT64 is no IPv4"),
        pytest.param("2002:a00:1::1", "10.0.0.0/8", False, id="6to4 is no IPv4"),
        pytest.param("2001:db8::1", "2001:db8::/32", True, id="inside, IPv6"),
        pytest.param("2001:db9::1", "2001:db8::/32", False, id="outside, IPv6"),
        pytest.param("fe80::1%eth0", "fe80::/10", True, id="link-local with its zone"),
        pytest.param("10.0.0.1", "::/0", False, id="all of IPv6 is no IPv4"),
        pytest.param("10.0.0.1", "", False, id="no network, nobody"),
    ],
)
def test_with_a_list_only_listed_clients_are_served(address: str, listed: str, served: bool) -> None:
    assert is_client(ip_address(address), networks(listed)) is served


@given(V4, st.none() | NETWORKS.map(tuple))
def test_a_mapped_client_is_the_client_that_it_is(address: IPv4Address, listed: tuple[Network, ...] | None) -> None:
    assert is_client(mapped(address), listed) is is_client(address, listed)
