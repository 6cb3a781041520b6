"""No manifest names anything that is not there, and each check would find it if one did."""

import re
import shutil
import unittest

import yaml

import manifests
import references
from manifests import OVERLAYS, ROOT, broker_workload, containers, named, pod_of, rendered


class Overlays(unittest.TestCase):
    def test_everything_that_is_named_is_there(self):
        for overlay in OVERLAYS:
            with self.subTest(overlay):
                self.assertEqual(references.all_faults(rendered(overlay)), [])

    def test_production_does_not_render_without_each_of_its_secrets(self):
        for missing in manifests.SECRETS:
            copy = manifests.copy_of_manifests([s for s in manifests.SECRETS if s != missing])
            try:
                done = manifests.kustomize(copy / "k8s/overlays/production")
            finally:
                shutil.rmtree(copy)
            with self.subTest(missing):
                self.assertNotEqual(done.returncode, 0)
                self.assertIn(missing, done.stderr)

    def test_who_is_let_in_is_said(self):
        def config(overlay):
            documents = rendered(overlay)
            return references.configuration_of(documents, broker_workload(documents))[0]

        self.assertIs(config("minikube")["allow_anonymous"], True)
        self.assertNotIn("allow_anonymous", config("production"))
        self.assertIn("password_file", config("production"))
        # Nothing without TLS.
        self.assertEqual(config("production")["port"], "off")

    def test_a_change_of_configuration_or_secrets_is_rolled_out(self):
        """Their names follow from their content, so that pods that use them are new pods."""
        copy = manifests.copy_of_manifests()
        try:
            before = manifests.kustomize(copy / "k8s/overlays/production").stdout
            for path in ["k8s/overlays/production/broker.toml", "zoo/zoo.cfg",
                         *(f"k8s/overlays/production/secrets/{s}" for s in manifests.SECRETS)]:
                file = copy / path
                file.write_text(file.read_text() + "# more\n")
                after = manifests.kustomize(copy / "k8s/overlays/production").stdout
                templates = [re.findall(r"(?:secretName|name): (\S+-[a-z0-9]{10})$", text, re.M)
                             for text in [before, after]]
                with self.subTest(path):
                    self.assertNotEqual(*templates)
                before = after
        finally:
            shutil.rmtree(copy)

    def test_another_tag_of_an_image_is_rolled_out(self):
        copy = manifests.copy_of_manifests()
        try:
            file = copy / "k8s/overlays/production/kustomization.yaml"
            file.write_text(file.read_text().replace("newTag: 0.1.0", "newTag: 0.1.1"))
            after = manifests.kustomize(copy / "k8s/overlays/production").stdout
        finally:
            shutil.rmtree(copy)
        after = list(yaml.safe_load_all(after))
        for workload in manifests.workloads(rendered("production")):
            name = workload["metadata"]["name"]
            rolled = named(after, "StatefulSet", name)
            with self.subTest(name):
                self.assertNotEqual(pod_of(workload), pod_of(rolled))
                for image in [container["image"] for container in containers(rolled)]:
                    self.assertTrue(image.startswith("registry.example.com/"))
                    self.assertTrue(image.endswith(":0.1.1"))

    def test_the_alert_for_missing_brokers_counts_as_many_as_there_are(self):
        documents = rendered("monitoring")
        replicas = broker_workload(documents)["spec"]["replicas"]
        rules = [rule for group in named(documents, "PrometheusRule", "mqttzoo")["spec"]["groups"]
                 for rule in group["rules"]]
        expressions = [rule["expr"] for rule in rules if rule["alert"] == "MqttzooTooFewBrokers"]
        self.assertEqual(expressions, [f"max(mqttzoo_cluster_members) < {replicas}"])

    def test_minikube_has_room_for_what_pods_ask_for(self):
        script = (ROOT / "automateBuild.sh").read_text()
        cpus, gigabytes = re.search(r"--cpus (\d+) --memory (\d+)g", script).groups()
        # What Kubernetes' own pods ask for there, and some for the system.
        millicores, mebibytes = 1000, 1024
        for workload in manifests.workloads(rendered("minikube")):
            for container in containers(workload):
                asked = container["resources"]["requests"]
                millicores += workload["spec"]["replicas"] * int(asked["cpu"].removesuffix("m"))
                mebibytes += workload["spec"]["replicas"] * int(asked["memory"].removesuffix("Mi"))
        self.assertLessEqual(millicores, int(cpus) * 1000)
        self.assertLessEqual(mebibytes, int(gigabytes) * 1024)


class Planted(unittest.TestCase):
    """One fault each, in the manifests of minikube or of the monitoring overlay."""

    def find(self, plant, expected, overlay="minikube"):
        documents = rendered(overlay)
        plant(documents)
        faults = references.all_faults(documents)
        self.assertTrue(any(expected in fault for fault in faults), f"{expected}: {faults}")

    def broker(self, documents):
        return containers(broker_workload(documents))[0]

    def test_labels(self):
        def plant(documents):
            references.labels_of(broker_workload(documents))["app.kubernetes.io/name"] = "other"

        self.find(plant, "does not select its own pods")
        self.find(plant, "Service/mqttzoo selects 0 workloads")
        self.find(plant, "PodDisruptionBudget/mqttzoo does not select one")
        self.find(plant, "NetworkPolicy/mqttzoo-clients is about no pods")
        self.find(plant, "NetworkPolicy/zookeeper lets pods through that are not there")
        self.find(plant, "spread by labels")

    def test_ports(self):
        def plant(documents):
            self.broker(documents)["ports"][2].update(name="http", containerPort=9091)

        self.find(plant, "Service/mqttzoo-admin leads to admin")
        self.find(plant, "startupProbe asks port admin")
        self.find(plant, "the broker listens on [1883, 7883, 9090]")
        self.find(plant, "does not say that it listens on 9091")
        self.find(plant, "PodMonitor/mqttzoo asks port admin", "monitoring")
        self.find(plant, "NetworkPolicy/mqttzoo-metrics opens the port admin", "monitoring")

    def test_names_of_pods(self):
        def plant(documents):
            broker_workload(documents)["spec"]["serviceName"] = "mqttzoo"

        self.find(plant, "is not headless")
        self.find(plant, "mqttzoo-0.mqttzoo-links does not resolve")

        def hide(documents):
            del named(documents, "Service", "mqttzoo-links")["spec"]["publishNotReadyAddresses"]

        self.find(hide, "is found only when its pod is ready")

        def two_servers(documents):
            named(documents, "StatefulSet", "zookeeper")["spec"]["replicas"] = 2

        self.find(two_servers, "there is no pod zookeeper-2")
        self.find(two_servers, "3 servers are configured and 2 run")

    def test_content(self):
        def rename(documents):
            for document in documents:
                if document["kind"] in ["ConfigMap", "Secret"]:
                    document["metadata"]["name"] += "-other"

        self.find(rename, "needs the Secret")
        self.find(rename, "needs the ConfigMap")
        self.find(rename, "PodMonitor/mqttzoo shows admin-token", "monitoring")

        def empty(documents):
            for document in documents:
                if document["kind"] == "Secret":
                    document["data"] = {}

        self.find(empty, "link_secret_file is /etc/mqttzoo-secret/link-secret, which no volume")
        self.find(empty, "POSTGRES_PASSWORD_FILE is /etc/postgres-secret/password")

    def test_volumes(self):
        def plant(documents):
            self.broker(documents)["volumeMounts"][2]["name"] = "other"

        self.find(plant, "mounts other, which is no volume")
        self.find(plant, "has a volume state that nobody mounts")

    def test_room_on_nodes(self):
        def plant(documents):
            self.broker(documents)["resources"]["limits"]["ephemeral-storage"] = "128Mi"

        self.find(plant, "StatefulSet/mqttzoo may write ['128Mi'] on its node")

        def no_bound(documents):
            del pod_of(broker_workload(documents))["volumes"][2]["emptyDir"]["sizeLimit"]

        documents = rendered("minikube")
        no_bound(documents)
        self.assertTrue(any("without a bound" in fault
                            for fault in references.room_on_nodes(documents)))

    def test_images(self):
        def plant(documents):
            self.broker(documents)["image"] = "mqttzoo/brokr:latest"
            del self.broker(documents)["startupProbe"]

        documents = rendered("minikube")
        plant(documents)
        faults = list(references.images(documents)) + list(references.probes(documents))
        self.assertTrue(any("no Dockerfile" in fault for fault in faults), faults)
        self.assertTrue(any("no tag" in fault for fault in faults), faults)
        self.assertTrue(any("no startupProbe" in fault for fault in faults), faults)

        def other_user(documents):
            pod_of(broker_workload(documents))["securityContext"]["runAsUser"] = 1000

        self.find(other_user, "runs as another user")

        def by_socket(documents):
            probe = containers(named(documents, "StatefulSet", "postgres"))[0]["readinessProbe"]
            probe["exec"]["command"].remove("--host=127.0.0.1")

        self.find(by_socket, "readinessProbe asks the socket")

        def no_such_program(documents):
            probe = containers(named(documents, "StatefulSet", "zookeeper"))[0]["livenessProbe"]
            probe["exec"]["command"][0] = "zkServer.sh"

        self.find(no_such_program, "livenessProbe runs zkServer.sh")

    def test_environment(self):
        def plant(documents):
            self.broker(documents)["env"].insert(
                0, {"name": "MQTTZOO_LINKHOST", "value": "$(MQTTZOO_NAME)"}
            )

        self.find(plant, "does not know MQTTZOO_LINKHOST")
        self.find(plant, "uses MQTTZOO_NAME, not set before")

    def change_file(self, documents, before, after):
        volume = pod_of(broker_workload(documents))["volumes"][0]
        data = named(documents, "ConfigMap", volume["configMap"]["name"])["data"]
        self.assertIn(before, data["broker.toml"])
        data["broker.toml"] = data["broker.toml"].replace(before, after)

    def test_keys(self):
        for before, after, expected in [
            ("drain_wait_secs", "drain_wait_seconds", "refuses its configuration"),
            ("drain_timeout_secs = 25", "drain_timeout_secs = 250", "a pod is killed after 60 s"),
            ("zookeeper-1.zookeeper-peers:2181", "zookeeper-1.zookeeper:2181", "does not resolve"),
            ("zookeeper-1.zookeeper-peers:2181", "zookeeper-1.zookeeper-peers:2182", "listen on 2182"),
            ("db_host", "# tls_port = 1\ndb_host", "the broker knows tls_port now"),
            ("link_port = 7883", "link_port = 7884", "the broker listens on [1883, 7884, 9090]"),
            ("activity_spool_bytes_max", "# activity_spool_bytes_max", "rows may take 256 MiB"),
        ]:
            with self.subTest(after):
                self.find(lambda documents: self.change_file(documents, before, after), expected)

    def test_database(self):
        def rename(documents):
            named(documents, "Service", "postgres")["metadata"]["name"] = "database"

        self.find(rename, "db_host is postgres, which is no Service here")

        def move(documents):
            named(documents, "Service", "postgres")["spec"]["ports"][0]["port"] = 6432

        self.find(move, "Service/postgres does not listen on 5432")

        def other_role(documents):
            containers(named(documents, "StatefulSet", "postgres"))[0]["env"][1]["value"] = "postgres"

        self.find(other_role, "db_user is mqttzoo, and POSTGRES_USER postgres")

        def other_word(documents):
            for document in documents:
                if document["metadata"]["name"].startswith("postgres-secret"):
                    document["data"]["password"] = "bm90IHRoYXQ="

        self.find(other_word, "the brokers have another password than the database")

    def test_ensemble(self):
        for before, after, expected in [
            ("server.1=", "server.4=", "takes itself for server 1"),
            ("dataLogDir=/var/lib/zookeeper/log", "dataLogDir=/tmp/log", "is on no volume"),
            ("clientPort=2181", "clientPort=2182", "not the port `client`"),
            ("quorumListenOnAllIPs=true", "", "quorumListenOnAllIPs is None, and has to be true"),
            ("extendedTypesEnabled=true", "extendedTypesEnabled=false", "extendedTypesEnabled is false"),
            ("whitelist=ruok,srvr,mntr", "whitelist=ruok,mntr", "the probe asks ['srvr']"),
            ("autopurge.purgeInterval=1", "autopurge.purgeInterval=0", "nothing is purged"),
            ("tickTime=1000", "tickTime=4000", "zookeeper_timeout_secs is 1.5 ticks"),
        ]:
            def plant(documents):
                for document in documents:
                    if "zoo.cfg" in document.get("data", {}):
                        text = document["data"]["zoo.cfg"]
                        document["data"]["zoo.cfg"] = text.replace(before, after)

            with self.subTest(after):
                self.find(plant, expected)


if __name__ == "__main__":
    unittest.main()
