"""Addresses: those that clients may come from, and those that they may reach through the gate.

A proxy can be a way in: the gate may reach an address that a client cannot reach by itself. By default clients reach
nothing on the gate's own machine, nothing link-local, no cloud metadata service, no multicast.

Rules
  - The most specific network that holds an address decides. Of two equal networks, the denying one decides.
  - If an IPv6 address carries an IPv4 address (mapped, NAT64, 6to4, Teredo), the rules must permit both.
  - The rules judge a name by the addresses that it resolves to and that the gate then uses (see
    proxy/outbound/connector.py). This module resolves nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

type Address = IPv4Address | IPv6Address
type Network = IPv4Network | IPv6Network

DENIED: tuple[Network, ...] = tuple(
    ip_network(network)
    for network in (
        "0.0.0.0/8",  # this network: Linux takes 0.0.0.0 for loopback
        "127.0.0.0/8",
        "169.254.0.0/16",  # link-local, and the metadata service of most clouds
        "100.100.100.200/32",  # metadata: Alibaba Cloud
        "168.63.129.16/32",  # Azure's host
        "192.0.0.192/32",  # metadata: Oracle Cloud, classic
        "224.0.0.0/4",
        "255.255.255.255/32",
        "::/128",
        "::1/128",
        "fe80::/10",
        "fec0::/10",  # site-local, deprecated
        "fd00:ec2::/32",  # metadata: Amazon
        "fd20:ce::254/128",  # metadata: Google Cloud
        "ff00::/8",
    )
)
"""Addresses that no client reaches by default. Private networks are not among them: clients may reach intranets."""

_CARRIERS = (
    (IPv6Network("::ffff:0:0/96"), 0),  # mapped, RFC 4291
    (IPv6Network("::ffff:0:0:0/96"), 0),  # translated, RFC 2765
    (IPv6Network("::/96"), 0),  # compatible, RFC 4291, deprecated
    (IPv6Network("64:ff9b::/96"), 0),  # NAT64, RFC 6052
    (IPv6Network("2002::/16"), 80),  # 6to4, RFC 3056
)
"""IPv6 networks whose addresses carry an IPv4 address, and how far it stands from the right, in bits."""
_TEREDO = IPv6Network("2001::/32")
_LOCAL_NAT64 = IPv6Network("64:ff9b:1::/48")
"""The network for local NAT64 prefixes (RFC 8215), of any length that RFC 6052 knows and that fits."""
_NAT64_LENGTHS = (48, 56, 64)
"""The possible lengths of such a prefix except 96, in bits."""


type _Numbers = tuple[tuple[int, int, bool], ...]
"""Networks as (first address, mask, permitted): ipaddress takes ten times as long to find the network of an address."""


@dataclass(frozen=True, slots=True)
class AddressRules:
    """The part of a policy's `upstream` about addresses: the networks of each IP version, the most specific first."""

    networks: Mapping[int, _Numbers]

    @classmethod
    def of(cls, allow: Iterable[Network] = (), deny: Iterable[Network] = ()) -> AddressRules:
        entries = [(network, True) for network in allow] + [(network, False) for network in (*deny, *DENIED)]
        wanted = set(allow)
        # A default gives way to an `allow` of the very same network; a `deny` of the policy does not.
        kept = [entry for entry in entries if entry[1] or entry[0] not in wanted or entry[0] in set(deny)]
        kept.sort(key=lambda entry: (-entry[0].prefixlen, entry[1]))
        return cls({version: _numbers(kept, version) for version in (4, 6)})

    def permit(self, address: Address) -> bool:
        """Whether a client may be connected to this address."""
        return all(self._permit(form) for form in forms(address))

    def _permit(self, address: Address) -> bool:
        number = int(address)
        for first, mask, permitted in self.networks[address.version]:
            if number & mask == first:
                return permitted
        return True


def _numbers(entries: Iterable[tuple[Network, bool]], version: int) -> _Numbers:
    return tuple(
        (int(network.network_address), int(network.netmask), permitted)
        for network, permitted in entries
        if network.version == version
    )


def forms(address: Address) -> tuple[Address, ...]:
    """The address, and the IPv4 address that it carries, if any. A mapped address gives the IPv4 address alone."""
    if isinstance(address, IPv4Address):
        return (address,)
    number = int(address)
    carried = [IPv4Address(number >> shift & 0xFFFFFFFF) for network, shift in _CARRIERS if address in network]
    if address in _TEREDO:
        carried.append(IPv4Address(number & 0xFFFFFFFF ^ 0xFFFFFFFF))
    if address in _LOCAL_NAT64:
        carried.append(_of_local_nat64(number))
    if number < 2:
        carried = []  # :: and ::1 carry nothing
    if address.ipv4_mapped is not None:
        return (address.ipv4_mapped,)
    return (address, *carried)


def _of_local_nat64(number: int) -> IPv4Address:
    """The IPv4 address that an IPv6 address carries behind a NAT64 prefix whose length nobody knows.

    It stands behind the prefix and leaves out bits 64 to 71, which are zero. All that follows it is zero as well
    (RFC 6052, section 2.2). The function takes the shortest prefix at which that holds, or else one of 96 bits.
    Where the address ends in .0, it can take a longer prefix for a shorter one.

    >>> _of_local_nat64(int(IPv6Address("64:ff9b:1:c000:2:100::")))
    IPv4Address('192.0.2.1')
    >>> _of_local_nat64(int(IPv6Address("64:ff9b:1::192.0.2.1")))
    IPv4Address('192.0.2.1')
    """
    if not number >> 56 & 0xFF:
        joined = number >> 64 << 56 | number & (1 << 56) - 1
        for length in _NAT64_LENGTHS:
            following = 120 - length - 32
            if not joined & (1 << following) - 1:
                return IPv4Address(joined >> following & 0xFFFFFFFF)
    return IPv4Address(number & 0xFFFFFFFF)


_PRIVATE = {
    4: _numbers(
        [(IPv4Network(text), True) for text in ("10.0.0.0/8", "192.168.0.0/16", "172.16.0.0/12", "127.0.0.0/8")], 4
    ),
    6: _numbers([(IPv6Network("fd00::/8"), True)], 6),
}
"""The networks of nearly all clients (RFC 1918, RFC 4193); the code tests for other non-public networks last."""


def is_client(address: Address, networks: tuple[Network, ...] | None) -> bool:
    """Whether the gate serves a client at `address`: it is in one of `networks`, or not public if `networks` is
    None."""
    if networks is None:
        number = int(address)
        is_private = any(number & mask == first for first, mask, _ in _PRIVATE[address.version])
        return is_private or not any(form.is_global for form in forms(address))
    return is_within(address, networks)


def is_within(address: Address, networks: Iterable[Network]) -> bool:
    """Whether a client at `address` is in one of `networks`, also when it comes by IPv4 in IPv6."""
    return any(forms(address)[0] in network for network in networks)
