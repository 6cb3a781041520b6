"""What manifests expect of the running broker: probes, metrics, and whom it refuses."""

import json
import re
import subprocess
import tempfile
import time
import unittest
import urllib.error
import urllib.request
from functools import cache
from pathlib import Path

import references
from manifests import BROKER, OVERLAYS, ROOT, broker_workload, containers, of_kind, rendered

PATIENCE_SECS = 60
TOKEN = "0123456789abcdef"


class Alone:
    """A broker that is alone, with a store of its own."""

    def arguments(self, folder):
        return ["--data-dir", folder]

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory()
        folder = Path(self.folder.name)
        (folder / "token").write_text(TOKEN)
        (folder / "secret").write_text(TOKEN)
        self.process = subprocess.Popen(
            [BROKER, "--port", "0", "--host", "0.0.0.0", "--allow-anonymous",
             "--admin-host", "0.0.0.0", "--admin-port", "0", "--admin-token-file", folder / "token",
             *self.arguments(folder)],
            stderr=subprocess.DEVNULL, env={})
        ports = folder / "ports.json"
        deadline = time.monotonic() + PATIENCE_SECS
        while not ports.exists():
            assert self.process.poll() is None and time.monotonic() < deadline, "it did not start"
            time.sleep(0.01)
        self.admin = json.loads(ports.read_text())["admin"]
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(PATIENCE_SECS)
        self.folder.cleanup()

    def ask(self, path, token=None):
        request = urllib.request.Request(f"http://127.0.0.1:{self.admin}{path}")
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_SECS) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()


class Waiting(Alone):
    """A broker that waits for an ensemble and a database that do not come, as the first pods do."""

    def arguments(self, folder):
        return ["--zookeeper", "zookeeper-0.invalid:2181", "--link-host", "mqttzoo-0.invalid",
                "--link-port", "0", "--link-secret-file", folder / "secret", "--data-dir", folder,
                "--db-host", "postgres.invalid"]


@cache
def pages():
    """What /metrics shows. Metrics of a store are there where there is one."""
    found = []
    for kind in (Waiting, Alone):
        with kind() as broker:
            status, page = broker.ask("/metrics", TOKEN)
        assert status == 200, page
        found.append(page)
    return "\n".join(found)


def metrics():
    """The names of all metrics."""
    return set(re.findall(r"^(mqttzoo_\w+)", pages(), re.MULTILINE))


def dashboard():
    """The expressions of the dashboard."""
    page = json.loads((ROOT / "k8s/overlays/monitoring/mqttzoo.json").read_text())
    return [target["expr"] for panel in page["panels"] for target in panel["targets"]]


def expressions():
    """Those of the alerts, too."""
    return dashboard() + [rule["expr"] for document in of_kind(rendered("monitoring"), "PrometheusRule")
                          for group in document["spec"]["groups"] for rule in group["rules"]]


class Broker(unittest.TestCase):
    def test_probes_need_no_token_and_a_pod_that_waits_is_not_killed(self):
        with Waiting() as broker:
            for overlay in OVERLAYS:
                container = containers(broker_workload(rendered(overlay)))[0]
                for probe, expected in [("startupProbe", 200), ("livenessProbe", 200),
                                        ("readinessProbe", 503)]:
                    path = container[probe]["httpGet"]["path"]
                    with self.subTest(path):
                        deadline = time.monotonic() + PATIENCE_SECS
                        while (status := broker.ask(path)[0]) != expected:
                            self.assertLess(time.monotonic(), deadline, status)
                            time.sleep(0.01)
            self.assertEqual(broker.ask("/metrics")[0], 401)

    def test_every_metric_of_alerts_and_dashboard_is_there(self):
        names = {name for expression in expressions()
                 for name in re.findall(r"mqttzoo_\w+", expression)}
        self.assertGreater(len(names), 20)
        self.assertEqual(names - metrics(), set())

    def test_what_is_counted_is_shown_as_a_rate_and_nothing_else_is(self):
        # OpenMetrics: the samples of a counter have a suffix that its name has not.
        counted = {f"{name}_total" for name in re.findall(r"^# TYPE (\w+) counter$", pages(), re.M)}
        self.assertGreater(len(counted & metrics()), 50)
        for expression in expressions():
            rated = set(re.findall(r"rate\((mqttzoo_\w+)\[", expression))
            with self.subTest(expression):
                self.assertEqual(rated - counted, set())
                self.assertEqual(set(re.findall(r"mqttzoo_\w+", expression)) & counted, rated)

    def test_every_alert_leads_to_a_heading_of_the_runbook(self):
        text = (ROOT / "docs/KUBERNETES.md").read_text()
        headings = set(re.findall(r"^#+ (.*)$", text, re.MULTILINE))
        for document in of_kind(rendered("monitoring"), "PrometheusRule"):
            for group in document["spec"]["groups"]:
                for rule in group["rules"]:
                    page, _, heading = rule["annotations"]["runbook"].partition(": ")
                    with self.subTest(rule["alert"]):
                        self.assertEqual(page, "docs/KUBERNETES.md")
                        self.assertIn(heading, headings)

    def start(self, text):
        """What a broker with this configuration ends with, where no secret is mounted."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "broker.toml"
            path.write_text(text)
            done = subprocess.run(
                [BROKER, "--config", path, "--data-dir", folder, "--name", "mqttzoo-0"],
                capture_output=True, text=True, env={}, timeout=PATIENCE_SECS)
        return done.returncode, done.stderr

    def test_production_refuses_to_start_without_a_password_file(self):
        documents = rendered("production")
        text = references.configuration_of(documents, broker_workload(documents))[1]
        status, said = self.start(text)
        self.assertEqual(status, 1)
        self.assertIn("/etc/mqttzoo-secret/passwords", said)
        status, said = self.start(re.sub(r"(?m)^password_file.*$", "", text))
        self.assertEqual(status, 1)
        self.assertIn("allow_anonymous", said)


if __name__ == "__main__":
    unittest.main()
