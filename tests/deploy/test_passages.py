"""Pods reach each other where they have to, and nowhere else; and no policy says what is of no effect."""

import unittest

import passages
from manifests import OVERLAYS, broker_workload, containers, named, of_kind, rendered


def places(documents):
    """Each port and each peer that a policy lets through: the list it is in, and where."""
    for policy in of_kind(documents, "NetworkPolicy"):
        for direction, side in [("ingress", "from"), ("egress", "to")]:
            for rule in policy["spec"].get(direction, []):
                for key in [side, "ports"]:
                    for index in range(len(rule.get(key, []))):
                        yield policy["metadata"]["name"], rule[key], index


class Passages(unittest.TestCase):
    def test_who_has_to_reaches_whom_and_nobody_else_does(self):
        for overlay in OVERLAYS:
            with self.subTest(overlay):
                self.assertEqual(list(passages.faults(rendered(overlay))), [])

    def test_the_passages_are_those_that_are_meant(self):
        """Told here once more, in numbers: what follows from a configuration could follow wrongly."""
        found = passages.passages(rendered("minikube"))
        inside = {passage for passage in found if passage[1] != "kube-system"}
        self.assertEqual(inside, {
            *((stranger.name, "mqttzoo", "TCP", 1883) for stranger in passages.STRANGERS),
            ("mqttzoo", "mqttzoo", "TCP", 7883),
            ("mqttzoo", "zookeeper", "TCP", 2181),
            ("zookeeper", "zookeeper", "TCP", 2888),
            ("zookeeper", "zookeeper", "TCP", 3888),
            ("mqttzoo", "postgres", "TCP", 5432),
        })
        production = passages.passages(rendered("production"))
        self.assertIn(("mqttzoo", "an address outside", "TCP", 5432), production)
        self.assertIn(("an address outside", "mqttzoo", "TCP", 8883), production)
        watched = passages.passages(rendered("monitoring"))
        self.assertEqual(watched - production, {("monitoring", "mqttzoo", "TCP", 9090)})

    def test_each_policy_port_and_peer_is_needed(self):
        for overlay in OVERLAYS:
            for policy in of_kind(rendered(overlay), "NetworkPolicy"):
                without = [document for document in rendered(overlay) if document != policy]
                with self.subTest(overlay=overlay, without=policy["metadata"]["name"]):
                    self.assertNotEqual(list(passages.faults(without)), [])
            for place in range(len(list(places(rendered(overlay))))):
                documents = rendered(overlay)
                name, entries, index = list(places(documents))[place]
                # The last one would leave an empty list, which lets everything through.
                entries[index] = {"podSelector": {"matchLabels": {"nobody": "has this"}}} \
                    if "port" not in entries[index] else {"port": 1}
                with self.subTest(overlay=overlay, policy=name, place=place):
                    self.assertNotEqual(list(passages.faults(documents)), [])

    def test_a_policy_that_lets_more_through_is_found(self):
        def find(overlay, name, change, expected):
            documents = rendered(overlay)
            change(named(documents, "NetworkPolicy", name)["spec"])
            self.assertIn(expected, list(passages.faults(documents)))

        find("minikube", "mqttzoo-clients", lambda spec: spec["ingress"][0].pop("ports"),
             "an address outside reaches mqttzoo on TCP 9090, which nobody needs")
        find("minikube", "zookeeper", lambda spec: spec["ingress"][0].pop("from"),
             "another namespace reaches zookeeper on TCP 2181, which nobody needs")
        find("production", "mqttzoo-to-postgres", lambda spec: spec["egress"][0].pop("ports"),
             "mqttzoo reaches an address outside on TCP 443, which nobody needs")

    def test_a_port_of_the_configuration_that_no_policy_opens_is_found(self):
        for before, after, expected in [
            ("port = 1883", "port = 1884", "an address outside does not reach mqttzoo on TCP 1884"),
            ("link_port = 7883", "link_port = 7884", "mqttzoo does not reach mqttzoo on TCP 7884"),
            ('db_host = "postgres"', 'db_host = "postgres"\ndb_port = 6432',
             "mqttzoo does not reach postgres on TCP 6432"),
            ('db_host = "postgres"', 'db_host = "db.example.com"',
             "mqttzoo does not reach an address outside on TCP 5432"),
        ]:
            documents = rendered("minikube")
            for document in of_kind(documents, "ConfigMap"):
                for name, text in document["data"].items():
                    document["data"][name] = text.replace(before, after)
            with self.subTest(after):
                self.assertIn(expected, list(passages.faults(documents)))

    def test_another_port_of_the_pods_is_another_passage(self):
        documents = rendered("minikube")
        containers(broker_workload(documents))[0]["ports"][1]["containerPort"] = 7999
        self.assertIn("mqttzoo does not reach mqttzoo on TCP 7883", list(passages.faults(documents)))


if __name__ == "__main__":
    unittest.main()
