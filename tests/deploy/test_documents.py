"""What docs/KUBERNETES.md and its neighbours say of manifests, options and files is so."""

import re
import unittest

from manifests import OVERLAYS, ROOT, SECRETS, named, of_kind, options, rendered, selected
from test_broker import metrics

PAGE = (ROOT / "docs/KUBERNETES.md").read_text()
# What an installation needs to be told, in the order in which it is needed.
SECTIONS = ["What runs", "A first installation", "Sizing", "Storage", "Configuration and secrets",
            "Upgrades", "TLS", "Exposing it", "Monitoring", "Backup", "Runbook"]
RUNBOOK = ["A pod does not become ready", "ZooKeeper has lost its quorum", "A node is drained",
           "PostgreSQL is full, or away", "Brokers do not reach each other", "Memory is short"]
# Words of others that are written as options of ours are.
FOREIGN = {"mqtt_log", "mqtt_broker", "mqtt_sub", "mqtt_pub"}


def documents_of_all():
    return [document for overlay in OVERLAYS for document in rendered(overlay)]


def words(pattern):
    return set(re.findall(pattern, PAGE))


class Documents(unittest.TestCase):
    def test_every_section_is_there(self):
        headings = re.findall(r"^## (.*)$", PAGE, re.MULTILINE)
        self.assertEqual([heading for heading in headings if heading in SECTIONS], SECTIONS)
        for heading in RUNBOOK:
            self.assertIn(f"\n### {heading}\n", PAGE[PAGE.index("## Runbook"):])

    def test_every_option_is_one_of_the_broker(self):
        found = words(r"`([a-z]+(?:_[a-z0-9]+)+)(?: = [^`]*)?`") - FOREIGN
        found = {word for word in found if not word.startswith("mqttzoo_")}
        self.assertGreater(len(found), 20)
        self.assertEqual(found - set(options().values()), set())

    def test_every_metric_is_one_of_the_broker(self):
        found = words(r"mqttzoo_\w+")
        self.assertGreater(len(found), 4)
        # Not shown before it was read in a cluster.
        self.assertEqual(found - metrics(), {"mqttzoo_bank_free_topics"})

    def test_every_object_is_in_an_overlay(self):
        documents = documents_of_all()
        for kind, pattern in [
            ("NetworkPolicy", r"(?:policy|NetworkPolicy) `([\w-]+)`"),
            ("StatefulSet", r"statefulset/([\w-]+)"),
            ("Service", r"(?:get service|Service) `?(mqttzoo[\w-]*)"),
        ]:
            found = words(pattern)
            self.assertTrue(found, kind)
            for name in found:
                with self.subTest(kind=kind, name=name):
                    self.assertIsNotNone(named(documents, kind, name))
        for label, value in words(r"-l ([\w./-]+)=([\w-]+)"):
            self.assertTrue(selected(documents, {label: value}))

    def test_every_claim_is_one_of_a_stateful_set(self):
        there = {f"{claim['metadata']['name']}-{workload['metadata']['name']}"
                 for workload in of_kind(documents_of_all(), "StatefulSet")
                 for claim in workload["spec"].get("volumeClaimTemplates", [])}
        found = words(r"\b((?:data|log)-[a-z]+)-[N0-9]")
        self.assertEqual(found, there)

    def test_every_file_and_heading_that_is_linked_to_is_there(self):
        headings = {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-")
                    for heading in re.findall(r"^#+ (.*)$", PAGE, re.MULTILINE)}
        for target in words(r"\]\(([^)]+)\)"):
            path, _, heading = target.partition("#")
            with self.subTest(target):
                self.assertTrue((ROOT / "docs" / path).exists())
                if heading and not path:
                    self.assertIn(heading, headings)
        made_by_people = {f"k8s/overlays/production/secrets/{name}" for name in SECRETS}
        for path in words(r"\b((?:k8s|docker|zoo|tests|bin)/[\w./-]*\w)") - made_by_people:
            with self.subTest(path):
                self.assertTrue((ROOT / path).exists())

    def test_every_probe_that_is_told_of_is_asked(self):
        asked = {probe["httpGet"]["path"] for workload in of_kind(documents_of_all(), "StatefulSet")
                 for container in workload["spec"]["template"]["spec"]["containers"]
                 for probe in container.values() if isinstance(probe, dict) and "httpGet" in probe}
        self.assertEqual(words(r"/(?:startup|live|ready)z"), asked)

    def test_every_line_of_the_ensemble_is_explained(self):
        page = (ROOT / "zoo/README.md").read_text()
        explained = set(re.findall(r"`([\w.]+)", "\n".join(
            line.split("|")[1] for line in page.splitlines() if line.startswith("| `"))))
        for key in re.findall(r"^([\w.]+)=", (ROOT / "zoo/zoo.cfg").read_text(), re.MULTILINE):
            with self.subTest(key):
                general = "server.N" if key.startswith("server.") else key.split(".")[0] + "."
                self.assertTrue({key, general, general + "*"} & explained)

    def test_every_secret_is_explained(self):
        page = (ROOT / "k8s/overlays/production/secrets/README.md").read_text()
        made = page[:page.index("`kubectl apply")]
        for name in SECRETS:
            self.assertRegex(made, rf"(?m)^.*\b{re.escape(name)}\b.*#")
        self.assertIn("Six files", made)
        self.assertEqual(len(SECRETS), 6)


if __name__ == "__main__":
    unittest.main()
