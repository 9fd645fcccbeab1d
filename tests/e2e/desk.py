"""A desk: the files of a publisher and an operator, made as the command line makes them, without a process each."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from stoplist import clock
from stoplist.tools.publishing import publish
from stoplist.tools.publishing import signers as signing
from stoplist.tools.publishing.domains import read_domains
from tests.e2e.network import STOPLIST
from tests.fixed_time import EXPIRES

POLICY = """\
version: 1
lists:
  - file: test.stoplist
    key: {file: test.listkey}
    trusted_keys: [authority.pub, operator.pub]
    threshold: 2
stop_page:
  operator: Example School
  contact: it@school.example
  complaints: mailto:complaints@school.example
  legislation: {name: Example Act, link: "https://law.example/act"}
  help:
    - {topic: report, name: Example hotline, link: "https://hotline.example/"}
    - {topic: worry, name: Example helpline, link: "https://helpline.example/"}
    - {topic: thoughts, name: Example advice, link: "https://advice.example/"}
tests:
  - {host: check.stoplist.invalid, expect: stop}
"""


@dataclass
class Desk:
    folder: Path
    serial: int = 0
    signers: list[str] = field(default_factory=lambda: ["authority", "operator"])

    @classmethod
    def new(cls, folder: Path, domains: list[str]) -> Desk:
        folder.mkdir()
        desk = cls(folder)
        for key in desk.signers:
            publish.make_signing_key(folder / key, force=False)
        publish.make_list_key(folder / "test.listkey", force=False)
        desk.policy.write_text(POLICY)
        desk.publish(domains)
        return desk

    def run(self, *options: str, seconds: float = 30) -> subprocess.CompletedProcess[str]:
        """A gate that is to end by itself, with what it said."""
        return subprocess.run(
            [STOPLIST, "run", str(self.policy), "--state-dir", str(self.folder / "state"), *options],
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )

    @property
    def policy(self) -> Path:
        return self.folder / "policy.yaml"

    @property
    def list(self) -> Path:
        return self.folder / "test.stoplist"

    def stoplist(self, *arguments: str) -> str:
        done = subprocess.run(
            [STOPLIST, *arguments], cwd=self.folder, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def build(self, domains: list[str], name: str, *, signers: list[str] | None = None, serial: int) -> Path:
        """A signed list under `name`, beside the one in force."""
        publish.build_list(
            read_domains(domains, "domains"),
            list_id="test",
            serial=serial,
            expires=EXPIRES,
            list_key=self.folder / "test.listkey",
            signing_keys=[signing.from_file(self.folder / key) for key in signers or self.signers],
            recipient="",
            output=self.folder / name,
            now=clock.now(),
            force=True,
        )
        return self.folder / name

    def publish(self, domains: list[str]) -> None:
        """A list with the next serial, renamed over the one in force."""
        self.serial += 1
        self.build(domains, "next.stoplist", serial=self.serial).replace(self.list)
