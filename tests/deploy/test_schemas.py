"""Every document is what Kubernetes says it may be, and no field is unknown to it."""

import json
import unittest

import kubernetes_validate
from manifests import OVERLAYS, ROOT, rendered

# The oldest that knows every field, and the newest whose schemas we have.
VERSIONS = ["1.31", "1.35"]
# Kinds of the Prometheus operator have no schemas here.
FOREIGN = "monitoring.coreos.com/"


class Schemas(unittest.TestCase):
    def test_every_document_is_valid(self):
        for overlay in OVERLAYS:
            for document in rendered(overlay):
                if document["apiVersion"].startswith(FOREIGN):
                    continue
                for version in VERSIONS:
                    with self.subTest(overlay=overlay, version=version,
                                      name=document["metadata"]["name"], kind=document["kind"]):
                        kubernetes_validate.validate(document, version, strict=True)

    def test_a_field_that_is_unknown_is_found(self):
        document = next(d for d in rendered("minikube") if d["kind"] == "StatefulSet")
        document["spec"]["template"]["spec"]["graceSeconds"] = 1
        with self.assertRaises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(document, VERSIONS[0], strict=True)

    def test_the_dashboard_has_panels_of_their_own(self):
        dashboard = json.loads((ROOT / "k8s/overlays/monitoring/mqttzoo.json").read_text())
        for field in ["id", "title"]:
            values = [panel[field] for panel in dashboard["panels"]]
            self.assertEqual(len(values), len(set(values)))


if __name__ == "__main__":
    unittest.main()
