"""A working set to edit: policy, keys, list key and a demo list, in a new folder."""

from __future__ import annotations

from datetime import datetime, timedelta
from importlib import resources
from pathlib import Path

from stoplist import files
from stoplist.errors import StoplistError
from stoplist.tools.policies import schema
from stoplist.tools.publishing import publish, signers
from stoplist.tools.publishing.domains import read_domains

LIST_ID = "demo"
LIFETIME = timedelta(days=30)


def make(folder: Path, now: datetime) -> list[str]:
    """Write the set into `folder`, which must be new or empty; return the names of its files.

    Raises StoplistError.
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
    for name in ("policy.yaml", "domains.txt"):
        text = (resources.files("stoplist.tools.policies") / "starter" / name).read_bytes()
        files.write(folder / name, text, mode=files.PUBLIC, replace=False)
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
