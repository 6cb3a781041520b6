"""Each alert goes off when that comes to pass which it is for, and none while all is well."""

import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

import yaml
from manifests import named, rendered
from test_broker import dashboard

PODS = ["mqttzoo-0", "mqttzoo-1", "mqttzoo-2"]
STEPS = 80
# Four samples a minute for twenty minutes, of each pod, while all is well.
WELL = {
    "mqttzoo_cluster_zookeeper_reached": "1",
    "mqttzoo_cluster_members": "3",
    "mqttzoo_cluster_suspects": "0",
    "mqttzoo_cluster_clock_alarm": "0",
    "mqttzoo_subacks_waiting": "0",
    "mqttzoo_memory_short": "0",
    "mqttzoo_resident_bytes": "400000000",
    "mqttzoo_limit_memory_bytes": "2000000000",
    "mqttzoo_publishes_refused_total": "7",
    "mqttzoo_deliveries_dropped_total": "7",
    "mqttzoo_connections": "1000",
    "mqttzoo_limit_connections": "10000",
    "mqttzoo_store_degraded": "0",
    "mqttzoo_activity_spool_bytes": "0",
    "mqttzoo_activity_rows_dropped_total": "7",
}
GROWING = f"0+100x{STEPS}"
# What one pod tells instead, and whether the alert names that pod. Where it is None, nobody tells it.
TROUBLE = {
    "MqttzooNobodyTells": ({"mqttzoo_cluster_members": None}, False),
    "MqttzooZooKeeperLost": ({"mqttzoo_cluster_zookeeper_reached": "0"}, False),
    "MqttzooTooFewBrokers": ({"mqttzoo_cluster_members": "2"}, False),
    "MqttzooBrokersDisagree": ({"mqttzoo_cluster_members": "2"}, False),
    "MqttzooBrokerInDoubt": ({"mqttzoo_cluster_suspects": "1"}, True),
    "MqttzooSubscriptionsWait": ({"mqttzoo_subacks_waiting": "4"}, True),
    "MqttzooMemoryShort": ({"mqttzoo_memory_short": "1"}, True),
    "MqttzooMemoryHigh": ({"mqttzoo_resident_bytes": "1300000000"}, True),
    "MqttzooPublishesRefused": ({"mqttzoo_publishes_refused_total": GROWING}, True),
    "MqttzooDeliveriesDropped": ({"mqttzoo_deliveries_dropped_total": GROWING}, True),
    "MqttzooConnectionsNearLimit": ({"mqttzoo_connections": "9000"}, True),
    "MqttzooClockWrong": ({"mqttzoo_cluster_clock_alarm": "1"}, False),
    "MqttzooStoreDegraded": ({"mqttzoo_store_degraded": "1"}, True),
    "MqttzooActivityLogHeld": ({"mqttzoo_activity_spool_bytes": "4096"}, True),
    "MqttzooActivityLogLost": ({"mqttzoo_activity_rows_dropped_total": GROWING}, True),
}
# All pods tell of these.
OF_ALL = {"MqttzooTooFewBrokers"}


def groups():
    return named(rendered("monitoring"), "PrometheusRule", "mqttzoo")["spec"]["groups"]


def rules():
    return {rule["alert"]: rule for group in groups() for rule in group["rules"]}


def series(alert=None):
    changed, _ = TROUBLE.get(alert, ({}, False))
    for metric, value in WELL.items():
        for pod in PODS:
            told = value
            if metric in changed and (pod == PODS[1] or alert in OF_ALL or changed[metric] is None):
                told = changed[metric]
            if told is not None:
                values = told if "x" in told else f"{told}x{STEPS}"
                yield {"series": f'{metric}{{pod="{pod}"}}', "values": values}


def story(alert=None):
    """One of promtool's tests: what is told, and what goes off by the end of it."""
    expected = []
    for name, rule in rules().items():
        goes_off = []
        if name == alert:
            labels = dict(rule["labels"], **({"pod": PODS[1]} if TROUBLE[name][1] else {}))
            goes_off = [{"exp_labels": labels, "exp_annotations": rule["annotations"]}]
        if alert in [None, name]:
            expected.append({"eval_time": "15m", "alertname": name, "exp_alerts": goes_off})
    return {"interval": "15s", "input_series": list(series(alert)), "alert_rule_test": expected}


@unittest.skipUnless(shutil.which("promtool"), "promtool is not installed")
class Alerts(unittest.TestCase):
    def promtool(self, *arguments, stories=(), rules_there=None):
        with tempfile.TemporaryDirectory() as folder:
            text = yaml.safe_dump({"groups": rules_there or groups()})
            (Path(folder) / "rules.yaml").write_text(text)
            (Path(folder) / "stories.yaml").write_text(yaml.safe_dump(
                {"rule_files": ["rules.yaml"], "evaluation_interval": "15s", "tests": list(stories)}))
            done = subprocess.run(["promtool", *arguments], cwd=folder, capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr

    def test_prometheus_understands_every_rule(self):
        status, said = self.promtool("check", "rules", "rules.yaml")
        self.assertEqual(status, 0, said)
        self.assertIn(f"{len(rules())} rules found", said)

    def test_prometheus_understands_every_panel(self):
        panels = [{"record": f"panel:{number}", "expr": expression}
                  for number, expression in enumerate(dashboard())]
        status, said = self.promtool("check", "rules", "rules.yaml",
                                     rules_there=[{"name": "panels", "rules": panels}])
        self.assertEqual(status, 0, said)
        self.assertIn(f"{len(panels)} rules found", said)

    def test_none_goes_off_while_all_is_well(self):
        status, said = self.promtool("test", "rules", "stories.yaml", stories=[story()])
        self.assertEqual(status, 0, said)

    def test_each_goes_off_when_it_should(self):
        self.assertEqual(set(rules()), set(TROUBLE))
        for alert in rules():
            with self.subTest(alert):
                status, said = self.promtool("test", "rules", "stories.yaml", stories=[story(alert)])
                self.assertEqual(status, 0, said)

    def test_one_that_should_and_does_not_is_found(self):
        wrong = story("MqttzooMemoryShort")
        wrong["input_series"] = list(series())
        status, said = self.promtool("test", "rules", "stories.yaml", stories=[wrong])
        self.assertNotEqual(status, 0)
        self.assertIn("MqttzooMemoryShort", said)


if __name__ == "__main__":
    unittest.main()
