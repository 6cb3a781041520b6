"""What manifests say of each other, and what does not hold. Each check yields faults in words."""

import base64
import re

from manifests import (
    broker_workload,
    containers,
    dockerfile,
    labels_of,
    named,
    of_kind,
    options,
    pod_of,
    print_config,
    selected,
    workloads,
)

# Five files of 10 MiB: what a kubelet keeps of a container's log.
LOG_MEBIBYTES = 50
# Beside the spool: a lock, ports.json, a segment that was damaged.
SLACK_MEBIBYTES = 16
# What exec probes may run in images that are not ours.
FOREIGN_PROGRAMS = {"postgres": {"pg_isready"}}
OUR_PROGRAMS = {
    "broker": {"mqtt_broker", "mqtt_pub", "mqtt_sub"},
    "zookeeper": {"zookeeper-server", "zookeeper-probe"},
}


def all_faults(documents):
    checks = [
        selectors,
        services,
        governing_services,
        disruption_budgets,
        network_policies,
        volumes,
        secrets_and_config_maps,
        probes,
        images,
        environment,
        pod_monitors,
        broker_configuration,
        database,
        ensemble,
        room_on_nodes,
    ]
    return [f"{check.__name__}: {fault}" for check in checks for fault in check(documents)]


def selectors(documents):
    for workload in workloads(documents):
        wanted = workload["spec"]["selector"]["matchLabels"]
        if not wanted.items() <= labels_of(workload).items():
            yield f"{name_of(workload)} does not select its own pods"
        for own in own_selectors(pod_of(workload)):
            if not own.items() <= labels_of(workload).items():
                yield f"{name_of(workload)} is spread by labels its pods do not have: {own}"


def own_selectors(pod):
    for constraint in pod.get("topologySpreadConstraints", []):
        yield constraint["labelSelector"]["matchLabels"]
    affinity = pod.get("affinity", {}).get("podAntiAffinity", {})
    for term in affinity.get("requiredDuringSchedulingIgnoredDuringExecution", []):
        yield term["labelSelector"]["matchLabels"]
    for term in affinity.get("preferredDuringSchedulingIgnoredDuringExecution", []):
        yield term["podAffinityTerm"]["labelSelector"]["matchLabels"]


def services(documents):
    for service in of_kind(documents, "Service"):
        found = selected(documents, service["spec"]["selector"])
        if len(found) != 1:
            yield f"{name_of(service)} selects {len(found)} workloads"
        for workload in found:
            for port in service["spec"]["ports"]:
                if port["targetPort"] not in ports_of(workload):
                    yield f"{name_of(service)} leads to {port['targetPort']}, which is no port there"


def governing_services(documents):
    for workload in of_kind(documents, "StatefulSet"):
        service = named(documents, "Service", workload["spec"]["serviceName"])
        if service is None:
            yield f"{name_of(workload)} has no Service {workload['spec']['serviceName']}"
        elif service["spec"].get("clusterIP") != "None":
            yield f"{name_of(service)} is not headless: pods of {name_of(workload)} have no names"
        elif workload not in selected(documents, service["spec"]["selector"]):
            yield f"{name_of(service)} does not select the pods of {name_of(workload)}"


def disruption_budgets(documents):
    for budget in of_kind(documents, "PodDisruptionBudget", "HorizontalPodAutoscaler"):
        if "scaleTargetRef" in budget["spec"]:
            target = budget["spec"]["scaleTargetRef"]
            if named(documents, target["kind"], target["name"]) is None:
                yield f"{name_of(budget)} scales {target['name']}, which is not there"
        elif len(selected(documents, budget["spec"]["selector"]["matchLabels"])) != 1:
            yield f"{name_of(budget)} does not select one workload"


def network_policies(documents):
    for policy in of_kind(documents, "NetworkPolicy"):
        spec = policy["spec"]
        subject = spec["podSelector"].get("matchLabels", {})
        pods = selected(documents, subject)
        if not pods:
            yield f"{name_of(policy)} is about no pods"
        for direction, side in [("ingress", "from"), ("egress", "to")]:
            if spec.get(direction) and direction.capitalize() not in spec["policyTypes"]:
                yield f"{name_of(policy)} has rules for {direction} and does not say so"
            for rule in spec.get(direction, []):
                others = [peer["podSelector"]["matchLabels"] for peer in rule.get(side, [])
                          if "podSelector" in peer]
                reached = [pod for other in others for pod in selected(documents, other)]
                for other in others:
                    if not selected(documents, other):
                        yield f"{name_of(policy)} lets pods through that are not there: {other}"
                for port in rule.get("ports", []):
                    targets = pods if direction == "ingress" else reached
                    if isinstance(port["port"], str) and not any(
                        port["port"] in ports_of(target) for target in targets
                    ):
                        yield f"{name_of(policy)} opens the port {port['port']}, which nobody has"


def volumes(documents):
    for workload in workloads(documents):
        there = {volume["name"] for volume in pod_of(workload).get("volumes", [])}
        there |= {claim["metadata"]["name"]
                  for claim in workload["spec"].get("volumeClaimTemplates", [])}
        mounted = {mount["name"] for container in containers(workload)
                   for mount in container.get("volumeMounts", [])}
        for name in mounted - there:
            yield f"{name_of(workload)} mounts {name}, which is no volume"
        for name in there - mounted:
            yield f"{name_of(workload)} has a volume {name} that nobody mounts"


def secrets_and_config_maps(documents):
    for workload in workloads(documents):
        for kind, name, key in content_wanted(workload):
            there = named(documents, kind, name)
            if there is None:
                yield f"{name_of(workload)} needs the {kind} {name}, which is not there"
            elif key is not None and key not in keys_of(there):
                yield f"{name_of(workload)} needs {key} of the {kind} {name}, which has no such key"


def content_wanted(workload):
    for volume in pod_of(workload).get("volumes", []):
        if "configMap" in volume:
            yield "ConfigMap", volume["configMap"]["name"], None
        if "secret" in volume:
            yield "Secret", volume["secret"]["secretName"], None
        if "persistentVolumeClaim" in volume:
            yield "PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"], None
    for container in containers(workload):
        for source in container.get("envFrom", []):
            for kind, field in [("ConfigMap", "configMapRef"), ("Secret", "secretRef")]:
                if field in source:
                    yield kind, source[field]["name"], None
        for variable in container.get("env", []):
            source = variable.get("valueFrom", {})
            for kind, field in [("ConfigMap", "configMapKeyRef"), ("Secret", "secretKeyRef")]:
                if field in source:
                    yield kind, source[field]["name"], source[field]["key"]


def probes(documents):
    for workload in workloads(documents):
        for container in containers(workload):
            paths = []
            for kind in ["startupProbe", "readinessProbe", "livenessProbe"]:
                probe = container.get(kind)
                if probe is None:
                    yield f"{name_of(workload)} has no {kind}"
                elif "httpGet" in probe:
                    paths.append(probe["httpGet"]["path"])
                    if probe["httpGet"]["port"] not in ports_of(workload):
                        yield f"{name_of(workload)}: {kind} asks port {probe['httpGet']['port']}"
                elif probe["exec"]["command"][0] not in programs_of(container["image"]):
                    yield f"{name_of(workload)}: {kind} runs {probe['exec']['command'][0]}"
                elif asks_the_wrong_server(probe["exec"]["command"]):
                    yield f"{name_of(workload)}: {kind} asks the socket, where a server answers too soon"
            if len(set(paths)) != len(paths):
                yield f"{name_of(workload)}: two probes ask the same"


def asks_the_wrong_server(command):
    """The official image makes its database with a server that listens on a socket only."""
    is_by_network = any(word.startswith("--host=") for word in command)
    return command[0] == "pg_isready" and not is_by_network


def images(documents):
    for workload in workloads(documents):
        for container in containers(workload):
            image = container["image"]
            name, _, tag = image.rpartition(":")
            if not name or tag == "latest":
                yield f"{image} has no tag that stays what it is"
            text = dockerfile(image)
            if text is None:
                continue
            if not text:
                yield f"{image} is built from no Dockerfile here"
                continue
            user = re.search(r"^USER (\d+):(\d+)$", text, re.MULTILINE)
            context = pod_of(workload)["securityContext"]
            if [str(context["runAsUser"]), str(context["runAsGroup"])] != list(user.groups()):
                yield f"{name_of(workload)} runs as another user than its image"
            exposed = re.search(r"^EXPOSE (.*)$", text, re.MULTILINE).group(1).split()
            for port in container["ports"]:
                if str(port["containerPort"]) not in exposed:
                    yield f"{image} does not say that it listens on {port['containerPort']}"


def environment(documents):
    for workload in workloads(documents):
        for container in containers(workload):
            known = set()
            for variable in container.get("env", []):
                for used in re.findall(r"\$\((\w+)\)", variable.get("value", "")):
                    if used not in known:
                        yield f"{name_of(workload)}: {variable['name']} uses {used}, not set before"
                known.add(variable["name"])
                if variable["name"].startswith("MQTTZOO_") and variable["name"] not in options():
                    yield f"{name_of(workload)}: the broker does not know {variable['name']}"
                path = variable.get("value", "")
                if variable["name"].endswith("_FILE") and not holds(documents, workload, path):
                    yield f"{name_of(workload)}: {variable['name']} is {path}, which is not there"


def pod_monitors(documents):
    for monitor in of_kind(documents, "PodMonitor"):
        found = selected(documents, monitor["spec"]["selector"]["matchLabels"])
        if len(found) != 1:
            yield f"{name_of(monitor)} selects {len(found)} workloads"
        for endpoint in monitor["spec"]["podMetricsEndpoints"]:
            if not all(endpoint["port"] in ports_of(workload) for workload in found):
                yield f"{name_of(monitor)} asks port {endpoint['port']}, which nobody has"
            token = endpoint["authorization"]["credentials"]
            secret = named(documents, "Secret", token["name"])
            if secret is None or token["key"] not in keys_of(secret):
                yield f"{name_of(monitor)} shows {token['key']} of {token['name']}: not there"


def broker_configuration(documents):
    workload = broker_workload(documents)
    config, text, refusal = configuration_of(documents, workload)
    if config is None:
        yield f"the broker refuses its configuration: {refusal}"
        return
    for key in commented_out(text):
        if key in options().values():
            yield f"the broker knows {key} now: it must not be a comment any more"
    for key, value in config.items():
        is_path = key.endswith("_file") or key.endswith(("cert", "key", "cafile"))
        if is_path and isinstance(value, str) and not holds(documents, workload, value):
            yield f"{key} is {value}, which no volume holds"
    bound = {config.get(key) for key in ["port", "tls_port", "ws_port", "wss_port", "admin_port",
                                         "link_port"]} - {None, "off"}
    shown = {port["containerPort"] for port in containers(workload)[0]["ports"]}
    if bound != shown:
        yield f"the broker listens on {sorted(bound)}, its pod shows {sorted(shown)}"
    if config.get("data_dir") not in [m["mountPath"] for m in containers(workload)[0]["volumeMounts"]]:
        yield f"{config.get('data_dir')} is not on a volume, and the root is read-only"
    yield from spool_faults(workload, config)
    grace = pod_of(workload)["terminationGracePeriodSeconds"]
    needed = config.get("drain_wait_secs", 0) + config["drain_timeout_secs"] + 20
    if grace < needed:
        yield f"a pod is killed after {grace} s and may need {needed} s to end"
    for server in config["zookeeper"].split("/")[0].split(","):
        host, port = server.rsplit(":", 1)
        yield from pod_name_faults(documents, host, int(port))
    link_host = config["link_host"]
    yield from pod_name_faults(documents, link_host, config["link_port"])
    service = named(documents, "Service", link_host.partition(".")[2]) or {"spec": {}}
    if not service["spec"].get("publishNotReadyAddresses"):
        yield f"{link_host} is found only when its pod is ready, which it is not before it is found"
    if not config.get("allow_anonymous") and config["password_file"] is None:
        yield "nobody is let in"


def spool_faults(workload, config):
    """A pod is evicted when its volume is over its bound: all of them, while PostgreSQL is away."""
    place = {mount["mountPath"]: mount["name"]
             for mount in containers(workload)[0]["volumeMounts"]}.get(config.get("data_dir"))
    for volume in pod_of(workload)["volumes"]:
        if volume["name"] == place and "emptyDir" in volume:
            room = mebibytes(volume["emptyDir"]["sizeLimit"])
            spool = mebibytes(config["activity_spool_bytes_max"])
            if spool + SLACK_MEBIBYTES > room:
                yield f"rows may take {spool} MiB, and the volume has {room}"


def room_on_nodes(documents):
    """What a pod may write on its node holds its volumes there and its log."""
    for workload in workloads(documents):
        volumes_there = [volume["emptyDir"] for volume in pod_of(workload).get("volumes", [])
                         if "emptyDir" in volume]
        if any("sizeLimit" not in volume for volume in volumes_there):
            yield f"{name_of(workload)} has a volume on its node without a bound"
            continue
        needed = LOG_MEBIBYTES + sum(mebibytes(volume["sizeLimit"]) for volume in volumes_there)
        limits = [container["resources"]["limits"]["ephemeral-storage"]
                  for container in pod_of(workload)["containers"]]
        if sum(map(mebibytes, limits)) < needed:
            yield f"{name_of(workload)} may write {limits} on its node and may need {needed} MiB"


def database(documents):
    """Where the database is one of ours, brokers find it under the name, and come in with the word, that
    it goes by."""
    broker = broker_workload(documents)
    config = configuration_of(documents, broker)[0] or {}
    host = config.get("db_host") or ""
    if "." in host:
        return
    service = named(documents, "Service", host)
    if service is None:
        yield f"db_host is {host}, which is no Service here"
        return
    for server in selected(documents, service["spec"]["selector"]):
        if config["db_port"] not in [port["port"] for port in service["spec"]["ports"]]:
            yield f"{name_of(service)} does not listen on {config['db_port']}, where db_port is"
        variables = {v["name"]: v.get("value") for v in containers(server)[0]["env"]}
        for key, variable in [("db_name", "POSTGRES_DB"), ("db_user", "POSTGRES_USER")]:
            if config.get(key) != variables.get(variable):
                yield f"{key} is {config.get(key)}, and {variable} {variables.get(variable)}"
        words = [content_of(documents, broker, config["db_password_file"]),
                 content_of(documents, server, variables["POSTGRES_PASSWORD_FILE"])]
        if words[0] != words[1]:
            yield "the brokers have another password than the database"


def content_of(documents, workload, path):
    """What a Secret shows as the file `path`."""
    folder, _, key = path.rpartition("/")
    text = (mounted(documents, workload, folder) or {}).get(key)
    return text and base64.b64decode(text)


# What the ensemble does not work without here, and why is in zoo/README.md.
NEEDED_LINES = {
    "extendedTypesEnabled": "true",
    "quorumListenOnAllIPs": "true",
    "admin.enableServer": "false",
}
PROBE_WORDS = {"ruok", "srvr"}


def ensemble(documents):
    workload = named(documents, "StatefulSet", "zookeeper")
    volume = next(v for v in pod_of(workload)["volumes"] if v["name"] == "config")
    text = (named(documents, "ConfigMap", volume["configMap"]["name"]) or {"data": {}})["data"]
    lines = dict(re.findall(r"^([\w.]+)=(.*)$", text.get("zoo.cfg", ""), re.MULTILINE))
    servers = {key: value for key, value in lines.items() if key.startswith("server.")}
    if len(servers) != workload["spec"]["replicas"]:
        yield f"{len(servers)} servers are configured and {workload['spec']['replicas']} run"
    for key, value in servers.items():
        host, followers, election = value.split(":")
        yield from pod_name_faults(documents, host, int(followers))
        yield from pod_name_faults(documents, host, int(election))
        ordinal = host.split(".")[0].rsplit("-", 1)[1]
        if int(key.removeprefix("server.")) != int(ordinal) + 1:
            yield f"{key} is {host}, which takes itself for server {int(ordinal) + 1}"
    mounts = [mount["mountPath"] for mount in containers(workload)[0]["volumeMounts"]]
    for key in ["dataDir", "dataLogDir"]:
        if lines.get(key) not in mounts:
            yield f"{key} is {lines.get(key)}, which is on no volume"
    if ports_of(workload).get("client") != int(lines.get("clientPort", 0)):
        yield "clientPort is not the port `client`"
    for key, value in NEEDED_LINES.items():
        if lines.get(key) != value:
            yield f"{key} is {lines.get(key)}, and has to be {value}"
    missing = PROBE_WORDS - set(lines.get("4lw.commands.whitelist", "").split(","))
    if missing:
        yield f"the probe asks {sorted(missing)}, which the whitelist does not have"
    # Both are needed: without the second nothing is ever purged.
    if not (int(lines.get("autopurge.snapRetainCount", 0)) >= 3
            and int(lines.get("autopurge.purgeInterval", 0)) >= 1):
        yield "nothing is purged: the disk fills"
    ticks = session_ticks(documents, lines)
    if not 2 <= ticks <= 20:
        yield f"zookeeper_timeout_secs is {ticks:g} ticks, and 2 to 20 are granted"


def session_ticks(documents, lines):
    config = configuration_of(documents, broker_workload(documents))[0] or {}
    return config.get("zookeeper_timeout_secs", 0) * 1000 / int(lines.get("tickTime", 3000))


def pod_name_faults(documents, host, port):
    """Whether `pod-0.service` is a pod that listens on `port`."""
    pod, _, service_name = host.partition(".")
    name, _, ordinal = pod.rpartition("-")
    workload = named(documents, "StatefulSet", name)
    if workload is None or int(ordinal) >= workload["spec"]["replicas"]:
        yield f"there is no pod {pod}"
    elif workload["spec"]["serviceName"] != service_name:
        yield f"{host} does not resolve: pods of {name} are named by {workload['spec']['serviceName']}"
    elif port not in ports_of(workload).values():
        yield f"{host} does not listen on {port}"


def configuration_of(documents, workload):
    """What the first pod of the brokers makes of its file and its environment."""
    container = containers(workload)[0]
    arguments = container["args"]
    path = arguments[arguments.index("--config") + 1]
    folder, _, key = path.rpartition("/")
    content = mounted(documents, workload, folder) or {}
    text = content.get(key, "")
    if not text:
        return None, text, f"{path} is not there"
    variables = {"MQTTZOO_DATA_DIR": re.search(r"MQTTZOO_DATA_DIR=(\S+)",
                                               dockerfile(container["image"])).group(1)}
    for variable in container["env"]:
        if variable.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath") == "metadata.name":
            value = workload["metadata"]["name"] + "-0"
        else:
            value = variable["value"]
        for used in re.findall(r"\$\((\w+)\)", value):
            value = value.replace(f"$({used})", variables.get(used, ""))
        variables[variable["name"]] = value
    config, refusal = print_config(text, variables)
    return config, text, refusal


def commented_out(text):
    return re.findall(r"^# *([a-z_0-9]+) = ", text, re.MULTILINE)


def holds(documents, workload, path):
    folder, _, key = path.rpartition("/")
    return key in (mounted(documents, workload, folder) or {})


def mounted(documents, workload, folder):
    """What a ConfigMap or Secret shows at `folder` of the first container."""
    for mount in containers(workload)[0].get("volumeMounts", []):
        if mount["mountPath"] != folder:
            continue
        for volume in pod_of(workload)["volumes"]:
            if volume["name"] == mount["name"] and "configMap" in volume:
                there = named(documents, "ConfigMap", volume["configMap"]["name"])
                return there and there["data"]
            if volume["name"] == mount["name"] and "secret" in volume:
                there = named(documents, "Secret", volume["secret"]["secretName"])
                return there and keys_of(there)
    return None


def mebibytes(text):
    """`64Mi` of Kubernetes, `64 MiB` of the broker, `64m` of compose."""
    number, unit = re.fullmatch(r"(\d+) ?([KMG])i?B?", text, re.IGNORECASE).groups()
    return int(number) * {"K": 1 / 1024, "M": 1, "G": 1024}[unit.upper()]


def keys_of(content):
    return {**content.get("data", {}), **content.get("stringData", {})}


def ports_of(workload):
    """The ports of the pods of a workload, by name."""
    return {port["name"]: port["containerPort"] for container in containers(workload)
            for port in container.get("ports", [])}


def programs_of(image):
    name = image.rsplit(":", 1)[0].rsplit("/", 1)[-1]
    return OUR_PROGRAMS.get(name, set()) if "mqttzoo/" in image else FOREIGN_PROGRAMS.get(name, set())


def name_of(document):
    return f"{document['kind']}/{document['metadata']['name']}"
