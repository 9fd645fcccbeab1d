"""Real processes in a network namespace: DNS server, origin, gate, clients."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.desk import Desk
from tests.e2e.network import Gate, Network, network


@pytest.fixture(scope="session")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    if os.geteuid() != 0 or subprocess.run(["unshare", "--net", "--mount", "true"], check=False).returncode:
        if os.environ.get("CI"):
            pytest.fail("CI cannot make a network namespace")
        pytest.skip("needs the right to make a network namespace")
    with network(tmp_path_factory.mktemp("network") / "net") as net:
        yield net


@pytest.fixture(scope="session")
def first_desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """A publisher's and an operator's desk: keys, a policy, a list of listed.test and stopped.example."""
    return Desk.new(tmp_path_factory.mktemp("desk") / "desk", ["listed.test", "stopped.example"])


@pytest.fixture(scope="session")
def gate(net: Network, first_desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    """A gate for all tests that only ask it."""
    gate = net.gate(first_desk.policy, tmp_path_factory.mktemp("gate") / "state")
    yield gate
    gate.process.end()


@pytest.fixture
def desk(first_desk: Desk, tmp_path: Path) -> Desk:
    """A desk of one's own, to change."""
    return Desk(Path(shutil.copytree(first_desk.folder, tmp_path / "desk")), first_desk.serial)


@pytest.fixture
def own_gate(net: Network, desk: Desk, tmp_path: Path) -> Iterator[Gate]:
    """A gate that enforces the policy of one's own desk."""
    gate = net.gate(desk.policy, tmp_path / "state")
    yield gate
    gate.process.end()
