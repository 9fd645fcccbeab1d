"""The program `run-until` of transcripts: it runs a command until that has said what is waited for, then ends it.

``run-until PATTERN [STEP PATTERN]... [STEP] -- COMMAND...`` passes on what the command says, waits until the first
pattern is found in all that it wrote to stderr, has bash run the step, and so on. Then it sends SIGTERM. Its status is
that of a step that failed, or the command's; it is 1, and stdout says why, where a pattern is not found.

  $ run-until 'listening on' 'date >> policy.yaml' 'change is refused' -- stoplist run policy.yaml
"""

from __future__ import annotations

import re
import subprocess
import sys
import threading

SECONDS = 60
"""How long all of it may take, on a machine that is slow or busy."""


def main(arguments: list[str]) -> int:
    at = arguments.index("--")
    rest, command = arguments[:at], arguments[at + 1 :]
    said, status = "", 0
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    limit = threading.Timer(SECONDS, process.terminate)  # not SIGKILL, which no program could pass on
    limit.start()
    assert process.stderr is not None
    for line in process.stderr:
        print(line, end="", file=sys.stderr, flush=True)
        said += line
        while rest and re.search(rest[0], said, re.DOTALL):
            del rest[0]
            if rest:
                status = subprocess.run(["bash", "-c", rest.pop(0)], timeout=SECONDS, check=False).returncode or status
            if not rest:
                process.terminate()
    ended = process.wait()
    limit.cancel()
    if rest:
        print(f"run-until: {rest[0]!r} was not said within {SECONDS} s, or before the end (status {ended}):\n{said}")
        return 1
    return status or ended


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
