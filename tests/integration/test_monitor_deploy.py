"""The alert rules, the runbook and the dashboard of deploy/ are about metrics that there are."""

import json
import re

import pytest
from conftest import ROOT
from monitor_support import ask, monitored, start_monitored  # noqa: F401

ALERTS = (ROOT / "deploy/alerts.yml").read_text()
RUNBOOK = (ROOT / "deploy/RUNBOOK.md").read_text()
DASHBOARD = json.loads((ROOT / "deploy/grafana.json").read_text())
NAMES = re.findall(r"- alert: (\w+)", ALERTS)
SUFFIXES = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"], "gauge": [""], "info": ["_info"]}


def expressions():
    return [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]


@pytest.mark.parametrize("alert", NAMES)
def test_each_alert_has_a_runbook_entry_that_says_what_it_means_and_what_to_do(alert):
    assert f'runbook: "RUNBOOK.md#{alert.lower()}"' in ALERTS
    entry = RUNBOOK.split(f"\n## {alert}\n")[1].split("\n## ")[0]
    assert "*Means:*" in entry and "*Look:*" in entry and "*Do:*" in entry and "`" in entry


def test_the_runbook_has_no_entry_without_an_alert():
    assert re.findall(r"\n## (KVQuant\w+)\n", RUNBOOK) == NAMES


def test_alerts_dashboard_and_runbook_name_metrics_that_there_are(monitored):
    families = re.findall(r"^# TYPE (\w+) (\w+)$", ask(monitored.metrics, "/metrics").text, re.MULTILINE)
    there = {name + suffix for name, type in families for suffix in SUFFIXES[type]}
    families = {name for name, _ in families}
    named = set(re.findall(r"kvquantd_\w+", ALERTS + "".join(expressions())))
    assert len(named) > 30 and named <= there, named - there
    assert (told := set(re.findall(r"`(kvquantd_\w+)`", RUNBOOK))) <= there | families, told - there


def test_panels_have_places_of_their_own():
    taken = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken and at["x"] + at["w"] <= 24, panel["title"]
        taken |= cells
