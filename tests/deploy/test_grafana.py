"""The dashboard and the alerts: they load, they work, and they ask for nothing that a gate does not say."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from stoplist.metrics import Endpoint
from tests.e2e.network import need
from tests.test_metrics import busy, scrape

GRAFANA = Path(__file__).parent.parent.parent / "deploy" / "grafana"
DASHBOARD = json.loads((GRAFANA / "dashboard.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] not in ("row", "text")]
ALERTS = yaml.safe_load((GRAFANA / "alerts.yaml").read_text())["groups"][0]["rules"]
EXPRESSIONS = [
    *(pytest.param(rule["expr"], id=rule["alert"]) for rule in ALERTS),
    *(
        pytest.param(target["expr"], id=f"{panel['title']} {target['refId']}")
        for panel in PANELS
        for target in panel["targets"]
    ),
]


def promtool(*arguments: str) -> str:
    need("promtool")
    done = subprocess.run(
        ["promtool", *arguments], cwd=GRAFANA, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def said() -> set[str]:
    """The names of all that a gate says of itself."""
    endpoint = Endpoint("127.0.0.1", 0)
    endpoint.serve(busy)
    try:
        text = scrape(endpoint).body
    finally:
        endpoint.close()
    return set(re.findall(r"^(stoplist_\w+)", text, re.MULTILINE))


def test_the_alerts_are_rules_that_prometheus_takes():
    assert f"{len(ALERTS)} rules found" in promtool("check", "rules", "alerts.yaml")


def test_each_alert_is_raised_when_it_should_be_and_none_where_all_is_well():
    assert "SUCCESS" in promtool("test", "rules", "alerts.test.yaml")
    cases = (GRAFANA / "alerts.test.yaml").read_text()
    for rule in ALERTS:
        assert f"alertname: {rule['alert']}}}" in cases
        assert f'alertname="{rule["alert"]}"' in cases


@pytest.mark.parametrize("rule", [pytest.param(rule, id=rule["alert"]) for rule in ALERTS])
def test_an_alert_says_what_is_the_matter_and_what_to_do(rule: dict[str, dict[str, str]]):
    assert rule["annotations"]["summary"]
    assert rule["annotations"]["remedy"]
    assert rule["labels"]["severity"] in ("critical", "warning")


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_an_expression_asks_for_what_a_gate_says(expression: str, said: set[str]):
    wanted = set(re.findall(r"stoplist_\w+", expression)) or {"up"}
    assert wanted <= said | {"up"}


def test_each_expression_of_the_dashboard_is_one(tmp_path: Path):
    filled = [
        target["expr"].replace("$__rate_interval", "5m").replace("$instance", ".*")
        for panel in PANELS
        for target in panel["targets"]
    ]
    rules = [{"record": f"one:{number}", "expr": expression} for number, expression in enumerate(filled)]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "one", "rules": rules}]}))
    assert f"{len(filled)} rules found" in promtool("check", "rules", str(tmp_path / "rules.yaml"))


def test_the_dashboard_has_places_for_its_panels():
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    taken = set()
    for panel in DASHBOARD["panels"]:
        grid = panel["gridPos"]
        assert grid["x"] + grid["w"] <= 24
        cells = {
            (x, y) for x in range(grid["x"], grid["x"] + grid["w"]) for y in range(grid["y"], grid["y"] + grid["h"])
        }
        assert not cells & taken
        taken |= cells


def test_the_dashboard_works_with_any_data_source_and_each_panel_is_explained():
    for panel in PANELS:
        assert panel["datasource"]["uid"] == "${datasource}"
        assert panel["title"]
        assert panel["description"] or panel["title"] == "Closed at"
    assert {entry["name"] for entry in DASHBOARD["templating"]["list"]} == {"datasource", "instance"}
