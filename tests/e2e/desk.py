"""A desk: the files of a publisher and an operator, made with the real command line."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e.network import STOPLIST

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
            desk.stoplist("list", "keygen", key)
        desk.stoplist("list", "keygen", "--list-key", "test.listkey")
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
        (self.folder / "domains.txt").write_text("\n".join(domains))
        sign = [argument for key in signers or self.signers for argument in ("--sign-with", key)]
        self.stoplist(
            *("list", "build", "domains.txt", "--list", "test", "--serial", str(serial), "--expires", "2099-12-31"),
            *("--list-key", "test.listkey", *sign, "-o", name),
        )
        return self.folder / name

    def publish(self, domains: list[str]) -> None:
        """A list with the next serial, renamed over the one in force."""
        self.serial += 1
        self.build(domains, "next.stoplist", serial=self.serial).replace(self.list)
