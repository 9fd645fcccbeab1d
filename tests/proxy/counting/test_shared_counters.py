"""SharedCounters: what one process writes another reads, also once it is gone; each cell has a place, and keeps it."""

from __future__ import annotations

import mmap
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stoplist.core.counts import Cell, Outcome
from stoplist.proxy.counting.shared_counters import FIRST_CELL, NUMBERS, OPENED_WITHIN, Layout, Number, SharedCounters
from tests.examples import examples

ROOM = NUMBERS - FIRST_CELL
"""How many cells have a place."""
LAST_OPENED = Number.OPENED + len(OPENED_WITHIN)
"""Where tunnels are counted that took longer than every step."""


def cell(number: int, outcome: Outcome = Outcome.STOPPED) -> Cell:
    return Cell("worst-of", number, outcome)


# The numbers


@pytest.fixture
def counters() -> Iterator[SharedCounters]:
    counters = SharedCounters.make()
    yield counters
    counters.close()


@pytest.fixture(params=["of one process", "that can be passed on"])
def any_board(request: pytest.FixtureRequest, counters: SharedCounters) -> SharedCounters:
    return SharedCounters(None) if request.param == "of one process" else counters


def test_a_board_begins_with_zeros(any_board: SharedCounters):
    assert len(any_board.numbers) == len(any_board.taken) == NUMBERS
    assert not any(any_board.numbers)
    assert not any(any_board.taken)


def test_each_number_stands_for_itself(any_board: SharedCounters):
    for place in range(NUMBERS):
        any_board.numbers[place] = place + 1
        any_board.taken[place] = -place
    assert list(any_board.numbers) == [place + 1 for place in range(NUMBERS)]
    assert list(any_board.taken) == [-place for place in range(NUMBERS)]


@pytest.mark.parametrize("value", [2**63 - 1, -(2**63)], ids=["greatest", "least"])
def test_a_number_holds_more_than_any_gate_will_count(any_board: SharedCounters, value: int):
    any_board.numbers[0] = value
    assert any_board.numbers[0] == value


@pytest.mark.parametrize("place", [NUMBERS, 2 * NUMBERS, -NUMBERS - 1])
def test_there_is_no_place_beside_the_numbers(any_board: SharedCounters, place: int):
    with pytest.raises(IndexError):
        any_board.numbers[place] = 1


def test_numbers_of_the_lane_end_before_those_of_cells():
    places = [*(number for number in Number if number is not Number.OPENED), *range(Number.OPENED, LAST_OPENED + 1)]
    assert len(set(places)) == len(places)
    assert max(places) < FIRST_CELL


# Two processes


def in_a_child(work: Callable[[], None]) -> int:
    """Fork; how the child ended."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_what_a_worker_writes_its_supervisor_reads(counters: SharedCounters):
    def work() -> None:
        theirs = SharedCounters(counters.file)
        assert theirs.numbers[FIRST_CELL] == 5
        theirs.numbers[FIRST_CELL] += 2
        theirs.numbers[NUMBERS - 1] += 1

    counters.numbers[FIRST_CELL] = 5
    assert in_a_child(work) == 0
    assert (counters.numbers[FIRST_CELL], counters.numbers[NUMBERS - 1]) == (7, 1)
    assert not any(counters.taken)


def test_what_a_worker_wrote_before_it_was_killed_stands(counters: SharedCounters):
    def work() -> None:
        theirs = SharedCounters(counters.file)
        theirs.numbers[FIRST_CELL] = 3
        os.kill(os.getpid(), signal.SIGKILL)

    assert in_a_child(work) == -signal.SIGKILL
    assert counters.numbers[FIRST_CELL] == 3


def test_what_was_taken_is_known_to_who_takes_over(counters: SharedCounters):
    counters.numbers[FIRST_CELL] = 9
    counters.taken[FIRST_CELL] = 4
    file = os.dup(counters.file)
    counters.close()
    again = SharedCounters(file)
    assert (again.numbers[FIRST_CELL], again.taken[FIRST_CELL]) == (9, 4)
    again.close()


def test_a_program_that_is_handed_the_descriptor_has_the_same_numbers(counters: SharedCounters):
    program = (
        "import sys; from stoplist.proxy.counting.shared_counters import SharedCounters; "
        "counters = SharedCounters(int(sys.argv[1])); counters.numbers[7] += 30"
    )
    counters.numbers[7] = 12
    subprocess.run(
        [sys.executable, "-c", program, str(counters.file)], pass_fds=[counters.file], timeout=60, check=True
    )
    assert counters.numbers[7] == 42


def test_a_board_is_inherited_by_no_program(counters: SharedCounters):
    assert not os.get_inheritable(counters.file)


def test_a_board_has_no_name_in_any_folder(counters: SharedCounters):
    assert os.readlink(f"/proc/self/fd/{counters.file}") == "/memfd:stoplist (deleted)"  # noqa: PTH115  no path


def test_a_board_that_was_closed_can_still_be_read_and_closed_again(counters: SharedCounters):
    counters.numbers[0] = 8
    file = counters.file
    counters.close()
    counters.close()
    assert counters.file is None
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(file)
    assert counters.numbers[0] == 8


def test_memory_that_is_too_short_is_no_board():
    file = os.memfd_create("short")
    os.ftruncate(file, mmap.PAGESIZE)
    with pytest.raises(ValueError, match="mmap length"):
        SharedCounters(file)
    os.close(file)


# How long tunnels took to open


@pytest.mark.parametrize(
    ("seconds", "place"),
    [
        pytest.param(0.0, 0, id="no time"),
        pytest.param(0.0009, 0, id="within the first step"),
        *(pytest.param(step, at, id=f"{step} s") for at, step in enumerate(OPENED_WITHIN)),
        *(pytest.param(step * 1.001, at + 1, id=f"more than {step} s") for at, step in enumerate(OPENED_WITHIN)),
        pytest.param(3600.0, len(OPENED_WITHIN), id="an hour"),
    ],
)
def test_a_tunnel_is_counted_in_the_first_step_it_opened_within(any_board: SharedCounters, seconds: float, place: int):
    any_board.opened(seconds)
    opened = list(any_board.numbers[Number.OPENED : LAST_OPENED + 1])
    assert opened == [int(at == place) for at in range(len(OPENED_WITHIN) + 1)]
    assert any_board.numbers[Number.OPENED_MICROSECONDS] == int(seconds * 1_000_000)


@given(st.lists(st.floats(0, 60), max_size=30))
def test_the_steps_hold_every_tunnel_once(seconds: list[float]):
    counters = SharedCounters(None)
    for each in seconds:
        counters.opened(each)
    assert sum(counters.numbers[Number.OPENED : LAST_OPENED + 1]) == len(seconds)
    assert abs(counters.numbers[Number.OPENED_MICROSECONDS] - 1_000_000 * sum(seconds)) <= len(seconds) + 1
    assert not any(counters.numbers[LAST_OPENED + 1 :])


# Where cells stand


def test_cells_have_places_of_their_own_behind_the_other_numbers():
    places = Layout().of([cell(number) for number in range(ROOM)])
    assert sorted(places.values()) == list(range(FIRST_CELL, NUMBERS))


def test_the_same_cell_keeps_its_place():
    layout = Layout()
    first = layout.of([cell(1), cell(2)])
    second = layout.of([cell(2), cell(3), cell(1)])
    assert {each: second[each] for each in first} == first
    assert len(set(second.values())) == 3


def test_a_cell_that_is_asked_for_twice_has_one_place():
    places = Layout().of([cell(1), cell(2), cell(1)])
    assert len(places) == len(set(places.values())) == 2


def test_cells_that_differ_in_anything_have_different_places():
    cells = [
        Cell("a", 1, Outcome.STOPPED),
        Cell("b", 1, Outcome.STOPPED),
        Cell("a", 2, Outcome.STOPPED),
        Cell("a", 1, Outcome.NOT_SHOWN),
        Cell(None, None, Outcome.PASSED),
        Cell(None, None, Outcome.REFUSED),
    ]
    assert len(set(Layout().of(cells).values())) == len(cells)


def test_who_has_no_place_left_gets_that_of_the_cell_that_was_not_used_for_the_longest_time():
    layout = Layout()
    places = layout.of([cell(number) for number in range(ROOM)])
    layout.of([cell(0), cell(2)])
    new = layout.of([cell(-1), cell(-2)])
    assert [new[cell(-1)], new[cell(-2)]] == [places[cell(1)], places[cell(3)]]
    known = dict(layout.items())
    assert cell(1) not in known
    assert cell(3) not in known
    assert (known[cell(0)], known[cell(2)]) == (places[cell(0)], places[cell(2)])


def test_a_cell_whose_place_was_given_away_gets_another():
    layout = Layout()
    layout.of([cell(number) for number in range(ROOM)])
    layout.of([cell(-1)])
    again = layout.of([cell(0), cell(-1)])
    assert again[cell(0)] != again[cell(-1)]
    assert len(layout.items()) == ROOM


@settings(max_examples=examples(50))
@given(st.lists(st.lists(st.integers(0, 2 * ROOM), max_size=8), max_size=20), st.integers(ROOM - 10, ROOM))
def test_no_two_cells_ever_have_one_place(uses: list[list[int]], full: int):
    layout = Layout([cell(-number - 1) for number in range(full)])
    for numbers in uses:
        before = dict(layout.items())
        wanted = [cell(number) for number in numbers]
        places = layout.of(wanted)
        assert set(places) == set(wanted)
        assert all(places[each] == before[each] for each in wanted if each in before)
        standing = [place for _, place in layout.items()]
        assert len(set(standing)) == len(standing)
        assert set(standing) == set(range(FIRST_CELL, FIRST_CELL + len(standing)))


def test_a_layout_made_of_the_cells_of_another_has_the_same_places():
    layout = Layout()
    layout.of([cell(number) for number in range(ROOM)])
    layout.of([cell(number) for number in (7, 3, -1, -2, 9)])
    again = Layout(layout.by_place())
    assert dict(again.items()) == dict(layout.items())
    assert again.by_place() == layout.by_place()


def test_a_layout_of_nothing_has_no_cells():
    assert Layout().of([]) == {}
    assert Layout().items() == Layout().by_place() == []
