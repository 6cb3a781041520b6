"""Who reaches whom on which port, as the network policies of an overlay have it, and who has to.

Pods, parts of the world outside, and what goes from the ones to the others: a passage is a source, a
target, a protocol and the number of a port. Probes of the kubelet always pass and are not here."""

from dataclasses import dataclass

from manifests import broker_workload, labels_of, named, of_kind, workloads
from references import configuration_of, ports_of

CLIENT_PORTS = ["port", "tls_port", "ws_port", "wss_port"]


@dataclass(frozen=True)
class Stranger:
    """Who is not a pod of the overlay: an address, or the pods of another namespace."""

    name: str
    namespace: str | None = None


ADDRESS = Stranger("an address outside")
DNS = Stranger("kube-system", "kube-system")
PROMETHEUS = Stranger("monitoring", "monitoring")
NEIGHBOUR = Stranger("another namespace", "another")
STRANGERS = [ADDRESS, DNS, PROMETHEUS, NEIGHBOUR]
# A pod that somebody puts into the namespace some day.
BYSTANDER = {
    "kind": "Pod",
    "metadata": {"name": "a bystander"},
    "spec": {"template": {"metadata": {"labels": {"app.kubernetes.io/name": "bystander"}}, "spec": {
        "containers": [{"ports": [{"name": "http", "containerPort": 8080}]}]}}},
}
# What pods might want of strangers: names, PostgreSQL, the API of Kubernetes, the web.
FOREIGN_PORTS = [("UDP", 53), ("TCP", 53), ("TCP", 5432), ("TCP", 443), ("TCP", 80)]


def faults(documents):
    there, needed = passages(documents), wanted(documents)
    for source, target, protocol, port in sorted(needed - there):
        yield f"{source} does not reach {target} on {protocol} {port}"
    for source, target, protocol, port in sorted(there - needed):
        yield f"{source} reaches {target} on {protocol} {port}, which nobody needs"


def wanted(documents):
    """What the broker's configuration, the ensemble and the database need, and nothing else."""
    broker = broker_workload(documents)
    config, _, _ = configuration_of(documents, broker)
    if config is None:
        return set()
    found = {(workload_name(workload), DNS.name, protocol, 53)
             for workload in [*workloads(documents), BYSTANDER] for protocol in ["UDP", "TCP"]}
    for key in CLIENT_PORTS:
        if config.get(key) not in [None, "off"]:
            found |= {(stranger.name, "mqttzoo", "TCP", config[key]) for stranger in STRANGERS}
    found.add(("mqttzoo", "mqttzoo", "TCP", config["link_port"]))
    for server in config["zookeeper"].split("/")[0].split(","):
        host, port = server.rsplit(":", 1)
        found.add(("mqttzoo", host.partition(".")[0].rpartition("-")[0], "TCP", int(port)))
    servers = ports_of(named(documents, "StatefulSet", "zookeeper"))
    found |= {("zookeeper", "zookeeper", "TCP", servers[name]) for name in ["followers", "election"]}
    if config.get("db_host"):
        is_inside = named(documents, "Service", config["db_host"]) is not None
        database = config["db_host"] if is_inside else ADDRESS.name
        found.add(("mqttzoo", database, "TCP", config["db_port"]))
    if of_kind(documents, "PodMonitor"):
        found.add((PROMETHEUS.name, "mqttzoo", "TCP", config["admin_port"]))
    return found


def passages(documents):
    found = set()
    pods = [*workloads(documents), BYSTANDER]
    for source in [*pods, *STRANGERS]:
        for target in pods:
            for port in ports_of(target).values():
                if may_pass(documents, source, target, "TCP", port):
                    found.add((name_of(source), name_of(target), "TCP", port))
    for source in pods:
        for target in STRANGERS:
            for protocol, port in FOREIGN_PORTS:
                if may_pass(documents, source, target, protocol, port):
                    found.add((name_of(source), name_of(target), protocol, port))
    return found


def may_pass(documents, source, target, protocol, port):
    return (allows(documents, "Egress", "to", source, target, target, protocol, port)
            and allows(documents, "Ingress", "from", target, source, target, protocol, port))


def allows(documents, direction, side, subject, other, target, protocol, port):
    """Whom no policy is about is free; for the others one rule of one policy is enough."""
    if isinstance(subject, Stranger):
        return True
    about = [policy["spec"] for policy in of_kind(documents, "NetworkPolicy")
             if has_labels(policy["spec"]["podSelector"], labels_of(subject))
             and direction in policy["spec"]["policyTypes"]]
    rules = [rule for spec in about for rule in spec.get(direction.lower(), [])]
    return not about or any(
        is_peer(rule.get(side, []), other) and is_port(rule.get("ports", []), target, protocol, port)
        for rule in rules)


def is_peer(peers, other):
    return not peers or any(is_one_peer(peer, other) for peer in peers)


def is_one_peer(peer, other):
    if "ipBlock" in peer:
        # Whether a block of addresses means pods too is not settled: here it does not.
        return other == ADDRESS
    if other == ADDRESS:
        return False
    if "namespaceSelector" not in peer:
        return not isinstance(other, Stranger) and has_labels(peer["podSelector"], labels_of(other))
    namespace = other.namespace if isinstance(other, Stranger) else "mqttzoo"
    labels = {} if isinstance(other, Stranger) else labels_of(other)
    return (has_labels(peer["namespaceSelector"], {"kubernetes.io/metadata.name": namespace})
            and has_labels(peer.get("podSelector", {}), labels))


def is_port(ports, target, protocol, port):
    names = {} if isinstance(target, Stranger) else ports_of(target)
    return not ports or any(
        entry.get("protocol", "TCP") == protocol and names.get(entry["port"], entry["port"]) == port
        for entry in ports)


def has_labels(selector, labels):
    """Selectors by label alone: others are not understood here, and not passed over either."""
    assert set(selector) <= {"matchLabels"}, f"a selector that this test does not know: {selector}"
    return selector.get("matchLabels", {}).items() <= labels.items()


def name_of(party):
    return party.name if isinstance(party, Stranger) else workload_name(party)


def workload_name(workload):
    return workload["metadata"]["name"]
