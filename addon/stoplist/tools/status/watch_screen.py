"""Screen: a look at a gate (see watch.py) drawn for a terminal, with rich.

Rules
  - A colour never says anything alone: the word is there as well. The screen uses only the terminal's own colours,
    those that people can read on light and dark ones.
  - Text from files is text, never markup, and cannot control the terminal.
"""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from rich import box
from rich.console import Console, Group, RenderableType
from rich.constrain import Constrain
from rich.live import Live
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from stoplist.metrics import Scrape
from stoplist.tools.status.watch import EVERY_SECONDS, Expiry, Look, Pace, Speed, WatchedList

WIDEST = 120
"""Widest screen in columns; more columns stay empty, since nobody reads a line across a wide screen."""
WIDE = 100
"""From this many columns on, the facts about the gate stand beside those about the lane."""
NARROW = 76
"""On fewer columns than this, the table of lists leaves out domains and age."""
_FINE, _BAD = "green", "bold red"
_NOTHING = "-"


def show(look: Callable[[], Look], console: Console) -> Look:
    """Draw a look every `EVERY_SECONDS` until `q` or Ctrl-C; without a terminal, draw one and end. Returns the last
    look."""
    pace, found = Pace(), look()
    speed = pace.after(found)
    if not console.is_terminal:
        with console.capture() as drawn:
            console.print(draw(found, speed, console.width, is_live=False))
        console.file.writelines(f"{line.rstrip()}\n" for line in drawn.get().splitlines())
        return found
    with _keys() as ended, Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            live.update(draw(found, speed, console.width, is_live=True), refresh=True)
            if ended(EVERY_SECONDS):
                return found
            found = look()
            speed = pace.after(found)


@contextmanager
def _keys() -> Iterator[Callable[[float], bool]]:
    """Gives a function that says whether `q` was pressed within some seconds."""
    if not sys.stdin.isatty():

        def wait(seconds: float) -> bool:
            time.sleep(seconds)
            return False

        yield wait
        return
    import termios
    import tty

    keyboard = sys.stdin.fileno()
    before = termios.tcgetattr(keyboard)
    tty.setcbreak(keyboard)

    def pressed(seconds: float) -> bool:
        ready, _, _ = select.select([keyboard], [], [], seconds)
        keys = os.read(keyboard, 64) if ready else None
        return keys is not None and (not keys or bool({*keys} & {*b"qQ\x04"}))

    try:
        yield pressed
    finally:
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)


def draw(look: Look, speed: Speed | None, width: int, *, is_live: bool) -> RenderableType:
    """A look as a whole screen."""
    parts: list[RenderableType] = [_head(look), "", _lists(look, width), ""]
    if look.scrape is None:
        parts += [_text(f"  {look.running.gate}")] if look.running.gate is not None else []
        parts.append(_text(f"  {look.why_not}", _BAD if look.why_not.startswith("no answer") else ""))
    else:
        gate, lane = _pairs("gate", _gate(look, look.scrape)), _pairs("lane", _lane(look.scrape, speed))
        parts.append(_beside(gate, lane) if width >= WIDE else Group(gate, "", lane))
    parts += ["", _pairs("ends next", _ends(look))]
    parts += ["", *(_text(f"  needs a person: {need}", _BAD) for need in look.needs)] if look.needs else []
    if is_live:
        parts += ["", _text("  q ends", "")]
    return Constrain(Group(*parts), WIDEST)


def _head(look: Look) -> RenderableType:
    head = Table.grid(expand=True)
    head.add_column(overflow="ellipsis", no_wrap=True)
    head.add_column(justify="right", no_wrap=True)
    head.add_row(_text(f"{look.operator} ({look.policy})", "bold"), _text(f"{look.now:%Y-%m-%d %H:%M:%S} UTC"))
    return head


def _lists(look: Look, width: int) -> RenderableType:
    """The table of lists; on a narrow terminal without what is least urgent."""
    names = ("list", "action", "serial", "domains", "age", "expires in", "file")
    left_out = {"domains", "age"} if width < NARROW else set()
    table = Table(box=box.SIMPLE_HEAD, expand=True, padding=(0, 1), show_edge=False, header_style="bold")
    for name in names:
        if name == "list":
            table.add_column(name, overflow="ellipsis", no_wrap=True, ratio=1, min_width=10)
        elif name not in left_out:
            table.add_column(name, no_wrap=True, justify="left" if name in ("action", "file") else "right")
    for each in look.lists:
        cells = zip(names, _list_cells(look, each), strict=True)
        table.add_row(*(cell for name, cell in cells if name not in left_out))
    return table


def _list_cells(look: Look, each: WatchedList) -> list[Text]:
    status = each.status
    action = _text("enforced" if each.is_enforced else "observed")
    if status.held is not None:
        file = _text(f"held: {status.held.serial}", _BAD)
    else:
        file = _text("refused", _BAD) if status.refusal is not None else _text("in force", _FINE)
    if status.in_force is None:
        return [_text(each.name), action, *(_text(_NOTHING) for _ in range(4)), file]
    header = status.in_force.header
    left = header.expires - look.now
    return [
        *(_text(header.list), action, _text(f"{header.serial}"), _text(f"{header.count:,}"), _text(_span(status.age))),
        _text(_span(left)) if left > timedelta() else _text("expired", _BAD),
        file,
    ]


def _pairs(title: str, pairs: list[tuple[str, Text]]) -> RenderableType:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True, min_width=14)
    grid.add_column(overflow="fold")
    for name, value in pairs:
        grid.add_row(_text(name), value)
    return Group(_text(f" {title}", "bold"), Padding(grid, (0, 0, 0, 2)))


def _beside(*parts: RenderableType) -> RenderableType:
    grid = Table.grid(expand=True)
    for _ in parts:
        grid.add_column(ratio=1)
    grid.add_row(*parts)
    return grid


def _gate(look: Look, scrape: Scrape) -> list[tuple[str, Text]]:
    is_ready, faults = scrape.value("stoplist_ready") == 1, scrape.value("stoplist_faults_total")
    up = look.now - datetime.fromtimestamp(scrape.started, look.now.tzinfo)
    version = scrape.labels("stoplist_build_info", "version")
    process = f", {look.running.gate.process}" if look.running.gate is not None else ""
    pairs = [
        ("state", _text("ready", _FINE) if is_ready else _text("not ready", _BAD)),
        ("version", _text(f"{' '.join(version)}, up {_span(up)}{process}")),
    ]
    if scrape.has("stoplist_workers"):
        serving, wanted = scrape.value("stoplist_workers"), scrape.value("stoplist_workers_wanted")
        restarts = scrape.value("stoplist_worker_restarts_total")
        words = f"{serving:.0f} of {wanted:.0f} serve, {restarts:.0f} restarted"
        pairs.append(("workers", _text(words, "" if serving == wanted else _BAD)))
    if scrape.value("stoplist_change_refused"):
        pairs.append(("files", _text("a change is refused; the last good state stays in force", _BAD)))
    pairs.append(("faults", _text(f"{faults:,.0f}", _BAD if faults else "")))
    if scrape.value("stoplist_counts_unwritten"):
        pairs.append(("counts", _text("could not be written to disk yet", _BAD)))
    return pairs


def _lane(scrape: Scrape, speed: Speed | None) -> list[tuple[str, Text]]:
    pairs = [("open tunnels", _text(f"{scrape.value('stoplist_lane_tunnels'):,.0f}"))]
    if speed is None:
        return [*pairs, ("speed", _text("needs a second look"))]
    return [
        *pairs,
        ("new tunnels", _text(f"{speed.tunnels:,.1f} /s")),
        ("from clients", _text(f"{_bytes(speed.bytes_from_clients)}/s")),
        ("from servers", _text(f"{_bytes(speed.bytes_to_clients)}/s")),
        ("time to open", _text(_opening(speed))),
        ("over the last", _text(f"{speed.seconds:.0f} s")),
    ]


def _opening(speed: Speed) -> str:
    if speed.half is None or speed.nearly_all is None:
        return "none was opened"
    return f"half within {_time(speed.half)}, 99% within {_time(speed.nearly_all)}"


def _ends(look: Look) -> list[tuple[str, Text]]:
    following = look.next_expiry
    pairs = [(following.what, _end(look, following))] if following is not None else [("nothing", _text(""))]
    pairs += [
        (each.what, _end(look, each)) for each in look.expiries if each.what == "the CA" and each is not following
    ]
    ended = [f"exceptions[{each.number}]" for each in look.exceptions if each.has_ended]
    return [*pairs, *([("ended", _text(f"{', '.join(ended)}: remove from the policy"))] if ended else [])]


def _end(look: Look, expiry: Expiry) -> Text:
    left = expiry.at - look.now
    return _text(f"in {_span(left)}, on {expiry.at:%Y-%m-%d}") if left > timedelta() else _text("ended", _BAD)


def _text(text: str, style: str = "") -> Text:
    return Text(text if text.isprintable() else ascii(text), style)


def _span(span: timedelta) -> str:
    seconds = max(0, int(span.total_seconds()))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size:,} {unit}"
    return f"{seconds} s"


def _bytes(number: float) -> str:
    for size, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return f"{number:.0f} B"


def _time(seconds: float) -> str:
    if seconds == float("inf"):
        return "more than 10 s"
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.1f} s"
