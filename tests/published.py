"""A publisher's files, made in this process: one signing key, one list key, a policy that polls fast."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from securesystemslib.signer import CryptoSigner

from stoplist.core.lists.envelope import build
from stoplist.core.lists.keys import ListKey
from stoplist.tools.publishing.publish import public_pem

POLL_SECONDS = 1
POLICY = f"""\
version: 1
lists:
  - file: test.stoplist
    key: {{file: test.listkey}}
    trusted_keys: [authority.pub]
    threshold: 1
watch: {{poll: {POLL_SECONDS}s}}
stop_page:
  operator: Example School
  contact: it@school.example
  complaints: mailto:complaints@school.example
  legislation: {{name: Example Act, link: "https://law.example/act"}}
  help:
    - {{topic: report, name: Hotline, link: "https://hotline.example/"}}
    - {{topic: worry, name: Helpline, link: "https://helpline.example/"}}
    - {{topic: thoughts, name: Advice, link: "https://advice.example/"}}
"""


@dataclass
class Publisher:
    folder: Path
    now: datetime
    signer: CryptoSigner
    list_key: ListKey

    @classmethod
    def new(cls, folder: Path, now: datetime) -> Publisher:
        """`now` is the time at which its lists are made."""
        folder.mkdir()
        publisher = cls(folder, now, CryptoSigner.generate_ed25519(), ListKey(os.urandom(32)))
        (folder / "authority.pub").write_bytes(public_pem(publisher.signer))
        (folder / "test.listkey").write_bytes(publisher.list_key.to_text())
        (folder / "test.listkey").chmod(0o600)
        publisher.policy.write_text(POLICY)
        publisher.list.write_bytes(publisher.build(1))
        return publisher

    def poll_by_the_hour(self) -> None:
        """So that what is taken up in a test is taken up for another reason."""
        policy = self.policy.read_text()
        self.policy.write_text(policy.replace(f"poll: {POLL_SECONDS}s", "poll: 1h"))
        assert self.policy.read_text() != policy

    @property
    def policy(self) -> Path:
        return self.folder / "policy.yaml"

    @property
    def list(self) -> Path:
        return self.folder / "test.stoplist"

    def build(self, serial: int, *, seconds: float = 86400, domains: int = 5) -> bytes:
        """The bytes of a list that expires in `seconds`; every serial lists a domain of its own."""
        names = ["listed.test", f"serial{serial}.test", *(f"d{number}.test" for number in range(domains))]
        envelope = build(
            names,
            list_id="test",
            serial=serial,
            issued=self.now - timedelta(minutes=1),
            expires=self.now + timedelta(seconds=seconds),
            list_key=self.list_key,
        )
        return envelope.signed_by(self.signer).to_bytes()
