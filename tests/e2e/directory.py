"""A real directory (LDAP) on the gateway, that knows people and their passwords."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.e2e.network import Network, need, wait_until

PORT = 3890
_BASE = "dc=directory,dc=example"
_CONFIG = """\
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
database mdb
suffix "{base}"
rootdn "cn=gate,{base}"
rootpw binding
directory {folder}
"""
_ROOT = """\
dn: {base}
objectClass: dcObject
objectClass: organization
o: Example
dc: directory

"""
_PERSON = """\
dn: uid={name},{base}
objectClass: inetOrgPerson
cn: {name}
sn: Example
uid: {name}
userPassword: {password}

"""


@contextmanager
def directory(net: Network, folder: Path, policies: Path, people: Mapping[str, str]) -> Iterator[str]:
    """Serve it from a new `folder`; the line of a policy in the folder `policies` that asks it."""
    need("slapd", "slapadd")
    (folder / "data").mkdir(parents=True)
    config = folder / "slapd.conf"
    config.write_text(_CONFIG.format(base=_BASE, folder=folder / "data"))
    entries = (_PERSON.format(base=_BASE, name=name, password=password) for name, password in people.items())
    net.gateway.run("slapadd", "-f", str(config), stdin=_ROOT.format(base=_BASE) + "".join(entries))
    process = net.start("slapd", "-d", "0", "-f", str(config), "-h", f"ldap://127.0.0.1:{PORT}")
    try:
        wait_until(lambda: net.listens(PORT), "the directory")
        (policies / "ldap.password").write_text("binding\n")
        yield (
            f"proxy_auth: {{ldap: {{server: 'ldap://127.0.0.1:{PORT}', bind_dn: 'cn=gate,{_BASE}', "
            f"password_file: ldap.password, base_dn: '{_BASE}'}}}}\n"
        )
    finally:
        process.end()
