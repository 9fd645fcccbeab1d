"""The arithmetic of the comparison, and one short run of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench import compare, load, measure, report
from tests.bench.report import Bound, Figure, Results
from tests.bench.subjects import OURS, SQUID
from tests.e2e.network import need

CPU = Figure("CPU", "µs", 100, "at once")
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def results() -> Results:
    """Three rounds in which the machine became slower; Squid failed in the last."""
    results = Results()
    for turn, (ours, theirs) in enumerate([(20, 10), (40, 20), (90, 30), (100, None)]):
        results.add(CPU, OURS, turn, ours)
        if theirs:
            results.add(CPU, SQUID, turn, theirs)
    return results


def test_a_ratio_is_the_median_within_the_rounds_that_both_have(results):
    assert results.median(CPU, OURS) == 65
    assert results.ratio(CPU, OURS, SQUID) == 2


def test_what_was_not_measured_has_no_ratio(results):
    assert results.ratio(CPU, OURS, "tinyproxy") is None
    assert results.ratio(Figure("other", "s"), OURS, SQUID) is None
    assert results.median(CPU, "tinyproxy") is None


def test_a_difference_is_taken_within_one_round(results):
    over = Figure("CPU over Squid's", "µs")
    results.subtract(CPU, SQUID, over)
    assert results.values[over] == {OURS: {0: 10, 1: 20, 2: 60}}


def test_a_curve_rises_with_the_number(results):
    results.add(CPU._replace(number=1), OURS, 0, 7)
    assert results.curve(CPU._replace(number=0), OURS) == [(1, 7), (100, 65)]


@pytest.mark.parametrize(
    ("count", "percent", "expected"),
    [
        pytest.param(100, 99, 99, id="p99 of a hundred"),
        pytest.param(1000, 99, 990, id="p99 of a thousand"),
        pytest.param(5, 99, 5, id="p99 of few is the largest"),
        pytest.param(1, 50, 1, id="one value"),
    ],
)
def test_percentile(count, percent, expected):
    assert report.percentile(range(count, 0, -1), percent) == expected


def test_a_straight_line_is_found_and_grows_with_the_first_power():
    line = report.fit((x, 3 * x) for x in (1, 10, 100, 1000))
    assert line == pytest.approx((3, 0, 1, 1), abs=1e-9)


def test_a_parabola_grows_with_the_second_power_and_fits_no_line():
    curve = report.fit((x, x * x) for x in (1, 10, 100, 1000))
    assert curve.power == pytest.approx(2)
    assert curve.r_squared < 0.999


@pytest.mark.parametrize(
    ("measured", "at_most", "verdict", "is_met"),
    [
        pytest.param(1.0, True, "met, stretch too", True, id="at the stretch"),
        pytest.param(1.3, True, "met", True, id="at the bound"),
        pytest.param(1.31, True, "MISSED", False, id="above the bound"),
        pytest.param(0.9, False, "MISSED", False, id="below a lower bound"),
        pytest.param(1.4, False, "met", True, id="above a lower bound"),
        pytest.param(None, True, "not measured", False, id="not measured"),
    ],
)
def test_a_bound_is_judged(measured, at_most, verdict, is_met):
    bound = Bound("b", "tunnels", lambda _: measured, bound=1.3, stretch=1.0 if at_most else 1.5, at_most=at_most)
    judgement = report.judge(bound, Results())
    assert (judgement.verdict, judgement.is_met) == (verdict, is_met)


def test_the_table_shows_medians_and_ratios(results):
    table = report.table(results, [CPU], ["direct", SQUID, OURS], SQUID)
    assert "| CPU, 100 at once (µs) |        | 20    | 65 ×2.00 |" in table


def test_every_bound_is_on_a_figure_of_a_known_measurement(results):
    bounds = compare.bounds([1, 1000], 2)
    assert {bound.measurement for bound in bounds} <= {*measure.SIDE_BY_SIDE, *measure.ONE_BY_ONE}
    assert len({bound.name for bound in bounds}) == len(bounds)
    assert not any(report.judge(bound, results).is_met for bound in bounds)


def test_cost_by_tunnels_and_by_list_is_fitted():
    results = Results()
    for number in (1, 100, 1000, 10_000):
        results.add(measure.OPENED._replace(number=number), OURS, 0, number * 0.0003)
    for number in (10_000, 1_000_000):
        results.add(measure.LIST_CPU._replace(number=number), OURS, 0, number**0 * 300)
    line, by_list = compare.fits(results).values()
    assert line["power"] == pytest.approx(1)
    assert by_list == {"ratio": 1, "us_for_ten_times_the_domains": 0}


def test_values_and_verdicts_are_json_for_machines(results):
    judgement = report.judge(Bound("b", "tunnels", lambda _: 1.0, 1.3, 1.0), results)
    text = json.dumps(report.as_json(results, [judgement], {}, {"system": "Linux"}))
    assert json.loads(text)["figures"][0] == {
        "what": "CPU",
        "unit": "µs",
        "number": 100,
        "of": "at once",
        "subject": OURS,
        "median": 65,
        "values": [20, 40, 90, 100],
    }


def test_the_sites_of_the_load_send_client_hellos_of_their_own():
    hellos = [target.hello for target in load.targets(443)]
    assert all(site.encode() in hello for site, hello in zip(load.SITES, hellos, strict=True))
    assert all(hello[0] == 22 and len(hello) == 5 + int.from_bytes(hello[3:5]) for hello in hellos)


def test_one_short_run_measures_stoplist(tmp_path):
    need("unshare", "mount", "ip", "taskset", "nginx")
    if (
        os.geteuid() != 0
        or subprocess.run(["unshare", "--net", "--mount", "--pid", "-f", "true"], check=False).returncode
    ):
        if os.environ.get("CI"):
            pytest.fail("CI cannot make namespaces")
        pytest.skip("needs the right to make namespaces")
    done = subprocess.run(
        [
            *(sys.executable, "tests/bench/compare.py", "--quick", "--only", "kept", "--subjects", OURS),
            *("--list-sizes", "10", "--json", str(tmp_path / "run.json")),
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": "."},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    run = json.loads((tmp_path / "run.json").read_text())
    assert run["notes"] == []
    medians = {(figure["what"], figure["subject"]): figure["median"] for figure in run["figures"]}
    assert medians[measure.KEPT_RATE.what, "direct"] > 0
    assert medians[measure.KEPT_CPU.what, OURS] > 0
    assert measure.KEPT_CPU.what in done.stdout
