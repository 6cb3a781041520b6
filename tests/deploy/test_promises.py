"""What every installation is promised, whatever overlay it is made with; and what one overlay adds."""

import re
import unittest
from functools import wraps

import references
from manifests import (
    OVERLAYS,
    ROOT,
    broker_workload,
    containers,
    labels_of,
    named,
    of_kind,
    pod_of,
    rendered,
    selected,
    workloads,
)

ENSEMBLE_AND_BROKERS = ["mqttzoo", "zookeeper"]
KEPT = ["production", "monitoring"]
HOSTS, ZONES = "kubernetes.io/hostname", "topology.kubernetes.io/zone"


def stateful_set(documents, name):
    return named(documents, "StatefulSet", name)


def spread_of(workload):
    return {constraint["topologyKey"] for constraint in
            pod_of(workload)["topologySpreadConstraints"]}


def in_each(*overlays):
    """Has a test run for each overlay, with its documents."""
    def wrap(test):
        @wraps(test)
        def run(self):
            for overlay in overlays:
                with self.subTest(overlay):
                    test(self, rendered(overlay))
        return run
    return wrap


class Promises(unittest.TestCase):
    @in_each(*OVERLAYS)
    def test_three_brokers_and_three_servers_start_at_once_and_are_replaced_one_by_one(self, documents):
        for name in ENSEMBLE_AND_BROKERS:
            spec = stateful_set(documents, name)["spec"]
            self.assertEqual(spec["replicas"], 3)
            self.assertEqual(spec["podManagementPolicy"], "Parallel")
            self.assertEqual(spec["updateStrategy"], {"type": "RollingUpdate"})
            self.assertGreater(spec["minReadySeconds"], 0)

    @in_each(*OVERLAYS)
    def test_an_eviction_takes_one_pod_and_leaves_a_majority(self, documents):
        for name in ENSEMBLE_AND_BROKERS:
            workload = stateful_set(documents, name)
            budgets = [budget["spec"] for budget in of_kind(documents, "PodDisruptionBudget")
                       if workload in selected(documents, budget["spec"]["selector"]["matchLabels"])]
            # With two budgets for one pod the eviction API answers with an error.
            self.assertEqual(len(budgets), 1)
            replicas = workload["spec"]["replicas"]
            self.assertGreater(2 * (replicas - budgets[0]["maxUnavailable"]), replicas)
            self.assertEqual(budgets[0]["maxUnavailable"], 1)
            # A pod that is not ready must not keep its node from being drained.
            self.assertEqual(budgets[0]["unhealthyPodEvictionPolicy"], "AlwaysAllow")

    @in_each(*OVERLAYS)
    def test_a_pod_that_is_evicted_gets_sigterm_and_the_time_it_needs(self, documents):
        """No hook stands before SIGTERM; that the time suffices: references.broker_configuration."""
        for workload in workloads(documents):
            for container in containers(workload):
                self.assertNotIn("lifecycle", container)
                self.assertNotIn("command", container)
            self.assertGreaterEqual(pod_of(workload)["terminationGracePeriodSeconds"], 30)

    @in_each(*OVERLAYS)
    def test_clients_come_by_one_load_balancer_and_find_nothing_else_there(self, documents):
        outward = [service for service in of_kind(documents, "Service")
                   if service["spec"].get("type", "ClusterIP") != "ClusterIP"]
        self.assertEqual([service["metadata"]["name"] for service in outward], ["mqttzoo"])
        spec = outward[0]["spec"]
        self.assertEqual((spec["type"], spec["externalTrafficPolicy"]), ("LoadBalancer", "Local"))
        broker = broker_workload(documents)
        config = references.configuration_of(documents, broker)[0]
        bound = {config.get(key) for key in ["port", "tls_port", "ws_port", "wss_port"]}
        led_to = {references.ports_of(broker)[port["targetPort"]] for port in spec["ports"]}
        self.assertEqual(led_to, bound - {None, "off"})

    @in_each(*OVERLAYS)
    def test_names_of_pods_resolve_before_they_are_ready(self, documents):
        for name in ENSEMBLE_AND_BROKERS:
            service = named(documents, "Service", stateful_set(documents, name)["spec"]["serviceName"])
            self.assertEqual(service["spec"]["clusterIP"], "None")
            self.assertIs(service["spec"]["publishNotReadyAddresses"], True)

    @in_each(*OVERLAYS)
    def test_three_probes_ask_three_things(self, documents):
        container = containers(broker_workload(documents))[0]
        paths = {container[probe]["httpGet"]["path"]
                 for probe in ["startupProbe", "readinessProbe", "livenessProbe"]}
        self.assertEqual(paths, {"/startupz", "/readyz", "/livez"})
        server = containers(stateful_set(documents, "zookeeper"))[0]
        asked = [server[probe]["exec"]["command"] for probe in ["livenessProbe", "readinessProbe"]]
        self.assertEqual(asked, [["zookeeper-probe", "alive"], ["zookeeper-probe", "serving"]])

    @in_each(*OVERLAYS)
    def test_pods_are_as_the_standard_restricted_wants_them(self, documents):
        for namespace in of_kind(documents, "Namespace"):
            enforced = namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
            self.assertEqual(enforced, "restricted")
        self.assertEqual({document["metadata"].get("namespace") for document in documents
                          if document["kind"] != "Namespace"}, {"mqttzoo"})
        for workload in workloads(documents):
            pod = pod_of(workload)
            self.assertIs(pod["automountServiceAccountToken"], False)
            self.assertIs(pod["enableServiceLinks"], False)
            self.assertIs(pod["securityContext"]["runAsNonRoot"], True)
            self.assertGreater(pod["securityContext"]["runAsUser"], 0)
            self.assertEqual(pod["securityContext"]["seccompProfile"], {"type": "RuntimeDefault"})
            self.assertEqual({"hostNetwork", "hostPID", "hostIPC"} & set(pod), set())
            for container in containers(workload):
                self.assertEqual(container["securityContext"], {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                })
                self.assertEqual([p for p in container["ports"] if "hostPort" in p], [])

    @in_each(*OVERLAYS)
    def test_memory_is_bounded_and_cpu_is_not(self, documents):
        for workload in workloads(documents):
            for container in containers(workload):
                asked, limits = (container["resources"][key] for key in ["requests", "limits"])
                self.assertEqual(set(limits), {"memory", "ephemeral-storage"})
                self.assertEqual(set(asked), {"cpu", "memory", "ephemeral-storage"})

    @in_each(*KEPT)
    def test_a_pod_that_is_kept_is_not_the_first_to_go_when_its_node_runs_short(self, documents):
        for workload in workloads(documents):
            resources = containers(workload)[0]["resources"]
            self.assertEqual(resources["requests"]["memory"], resources["limits"]["memory"])

    @in_each(*OVERLAYS)
    def test_brokers_are_spread_over_hosts_and_zones_and_still_fit_on_one(self, documents):
        broker = broker_workload(documents)
        self.assertEqual(spread_of(broker), {HOSTS, ZONES})
        self.assertEqual({constraint["whenUnsatisfiable"] for constraint in
                          pod_of(broker)["topologySpreadConstraints"]}, {"ScheduleAnyway"})
        self.assertEqual(list(pod_of(broker)["affinity"]["podAntiAffinity"]),
                         ["preferredDuringSchedulingIgnoredDuringExecution"])

    def test_servers_of_the_ensemble_are_on_nodes_of_their_own_where_there_are_several(self):
        for overlay in OVERLAYS:
            server = stateful_set(rendered(overlay), "zookeeper")
            affinity = pod_of(server)["affinity"]["podAntiAffinity"]
            kind = "required" if overlay in KEPT else "preferred"
            with self.subTest(overlay):
                self.assertEqual(list(affinity), [f"{kind}DuringSchedulingIgnoredDuringExecution"])
                self.assertEqual(spread_of(server), {ZONES})

    @in_each(*OVERLAYS)
    def test_what_the_ensemble_has_written_outlives_its_pods(self, documents):
        server = stateful_set(documents, "zookeeper")
        claims = {claim["metadata"]["name"] for claim in server["spec"]["volumeClaimTemplates"]}
        self.assertEqual(claims, {"data", "log"})
        self.assertEqual(server["spec"]["persistentVolumeClaimRetentionPolicy"],
                         {"whenDeleted": "Retain", "whenScaled": "Retain"})
        mounts = {mount["name"]: mount["mountPath"]
                  for mount in containers(server)[0]["volumeMounts"]}
        self.assertEqual((mounts["data"], mounts["log"]),
                         ("/var/lib/zookeeper/data", "/var/lib/zookeeper/log"))

    @in_each(*OVERLAYS)
    def test_secrets_are_files_that_others_cannot_read_and_no_variables(self, documents):
        for workload in workloads(documents):
            for volume in pod_of(workload)["volumes"]:
                if "secret" in volume:
                    self.assertEqual(volume["secret"]["defaultMode"], 0o440)
            for container in containers(workload):
                self.assertNotIn("envFrom", container)
                sources = [v["valueFrom"] for v in container.get("env", []) if "valueFrom" in v]
                self.assertEqual([s for s in sources if list(s) != ["fieldRef"]], [])
        broker = broker_workload(documents)
        for volume in pod_of(broker)["volumes"][:2]:
            name = (volume.get("configMap") or {}).get("name") or volume["secret"]["secretName"]
            # What follows from the content.
            self.assertRegex(name, r"^mqttzoo-(config|secret)-[a-z0-9]{10}$")

    @in_each(*OVERLAYS)
    def test_there_is_no_autoscaler_and_a_reason_is_written(self, documents):
        self.assertEqual(of_kind(documents, "HorizontalPodAutoscaler"), [])
        self.assertIn("no HorizontalPodAutoscaler", (ROOT / "k8s/base/broker.yaml").read_text())

    def test_a_name_that_is_open_to_everybody_says_so(self):
        text = (ROOT / "k8s/overlays/minikube/broker.toml").read_text()
        said = re.search(r"((?:^#.*\n)+)^allow_anonymous = true$", text, re.MULTILINE).group(1)
        self.assertIn("OPEN TO EVERYBODY", said)
        for overlay in KEPT:
            documents = rendered(overlay)
            secret = pod_of(broker_workload(documents))["volumes"][1]["secret"]["secretName"]
            self.assertIn("passwords", named(documents, "Secret", secret)["data"])

    @in_each(*OVERLAYS)
    def test_labels_tell_what_is_part_of_it(self, documents):
        for workload in workloads(documents):
            if workload["metadata"]["name"] in ENSEMBLE_AND_BROKERS:
                self.assertEqual(labels_of(workload)["app.kubernetes.io/part-of"], "mqttzoo")


if __name__ == "__main__":
    unittest.main()
