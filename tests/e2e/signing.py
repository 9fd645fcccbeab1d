"""The command line, with a log of every certificate that the gate's CA signs.

Run as ``python signing.py LOG run POLICY ...``: one line for each, with the names it is for.
"""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path

from cryptography import x509

from stoplist.certificates import CertificateAuthority
from stoplist.cli import main
from stoplist.core.hosts import Host

log = Path(sys.argv.pop(1)).open("a", buffering=1)  # noqa: SIM115  open as long as the gate
sign = CertificateAuthority.leaf


def leaf(self: CertificateAuthority, host: Host, now: datetime) -> x509.Certificate:
    certificate = sign(self, host, now)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    log.write(" ".join(str(name.value) for name in names) + "\n")
    return certificate


CertificateAuthority.leaf = leaf
main()
