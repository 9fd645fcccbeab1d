"""A working set to edit: policy, keys, list key and a demo list, in a new folder."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from importlib import resources
from pathlib import Path

from stoplist import files, loading
from stoplist.errors import StoplistError
from stoplist.tools.policies import schema
from stoplist.tools.publishing import publish, signers
from stoplist.tools.publishing.domains import read_domains

LIST_ID = "demo"
LIFETIME = timedelta(days=30)
PURPOSES = {"demo": None, "school": "school.yaml", "company": "enterprise.yaml", "trial": "trial.yaml"}
"""What a set can be for, each with the example that its policy is made from; None: the starter's own."""
_METRICS = """
# Health and metrics, on this machine only: for `stoplist status policy.yaml --watch`, and for Prometheus.
metrics: {listen: 127.0.0.1:9464}
"""


def make(folder: Path, now: datetime, purpose: str = "demo") -> list[str]:
    """Write the set into `folder`, which must be new or empty; return the names of its files.

    `purpose` is one of PURPOSES. Raises StoplistError.
    """
    try:
        if any(folder.iterdir()):
            raise StoplistError("the folder is not empty", hint="choose a new one", place=str(folder))
    except FileNotFoundError:
        pass
    except NotADirectoryError:
        raise StoplistError("a file has this name", hint="choose a new folder", place=str(folder)) from None
    except OSError as error:
        message = f"cannot be read ({error.strerror})"
        raise StoplistError(message, hint="choose a folder of your own", place=str(folder)) from None
    files.make_folder(folder / "keys", files.PRIVATE_FOLDER)
    for name in ("authority", "operator"):
        publish.make_signing_key(folder / "keys" / name, force=False)
    publish.make_list_key(folder / "demo.listkey", force=False)
    for name, data in (("policy.yaml", _policy(purpose)), ("domains.txt", _starter("domains.txt"))):
        files.write(folder / name, data, mode=files.PUBLIC, replace=False)
    files.write(folder / schema.FILE, schema.text().encode(), mode=files.PUBLIC, replace=False)
    domains = read_domains((folder / "domains.txt").read_text().splitlines(), "domains.txt")
    publish.build_list(
        domains,
        list_id=LIST_ID,
        serial=1,
        expires=now + LIFETIME,
        list_key=folder / "demo.listkey",
        signing_keys=[signers.from_file(folder / "keys" / name) for name in ("authority", "operator")],
        recipient="",
        output=folder / "demo.stoplist",
        now=now,
    )
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def _starter(name: str) -> bytes:
    return (resources.files("stoplist.tools.policies") / "starter" / name).read_bytes()


def _policy(purpose: str) -> bytes:
    """The policy for a purpose: one of the examples, with the names and places of this set."""
    example = PURPOSES[purpose]
    if example is None:
        return _starter("policy.yaml")
    text = (loading.demo_policy().parent / example).read_text("utf-8").replace(example, "policy.yaml")
    text = re.sub(r"^listen: .*$", "listen: 127.0.0.1:8080", text, flags=re.MULTILINE)
    text = re.sub(r"^state_dir: .*$", "state_dir: state", text, flags=re.MULTILINE)
    if not re.search(r"^metrics:", text, flags=re.MULTILINE):
        text += _METRICS
    return text.encode()
