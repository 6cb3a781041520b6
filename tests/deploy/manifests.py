"""The manifests as they are applied, and the broker they are made for."""

import os
import re
import shutil
import subprocess
import tempfile
import tomllib
from functools import cache
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
BROKER = os.environ.get("MQTTZOO_BROKER", str(ROOT / "target/debug/mqtt_broker"))
OVERLAYS = ["minikube", "production", "monitoring"]
# What the production overlay asks for, and git does not have.
SECRETS = ["passwords", "link-secret", "admin-token", "db-password", "tls.crt", "tls.key"]


def kustomize(folder):
    """What `kubectl apply -k` would apply."""
    command = ["kubectl", "kustomize"] if shutil.which("kubectl") else ["kustomize", "build"]
    return subprocess.run([*command, str(folder)], capture_output=True, text=True)


def copy_of_manifests(secrets=SECRETS):
    """A copy with secrets in it. The caller removes it."""
    copy = Path(tempfile.mkdtemp(prefix="mqttzoo-manifests-"))
    for name in ["k8s", "zoo"]:
        shutil.copytree(ROOT / name, copy / name)
    folder = copy / "k8s/overlays/production/secrets"
    for file in folder.iterdir():
        if file.name in SECRETS:
            file.unlink()
    for name in secrets:
        (folder / name).write_text("not a secret\n")
    return copy


@cache
def rendered_text(overlay):
    copy = copy_of_manifests()
    try:
        done = kustomize(copy / "k8s/overlays" / overlay)
    finally:
        shutil.rmtree(copy)
    if done.returncode != 0:
        raise AssertionError(f"{overlay} does not render: {done.stderr}")
    return done.stdout


def rendered(overlay):
    """The documents of an overlay, a fresh copy for everybody who asks."""
    return list(yaml.safe_load_all(rendered_text(overlay)))


def of_kind(documents, *kinds):
    return [document for document in documents if document["kind"] in kinds]


def named(documents, kind, name):
    for document in of_kind(documents, kind):
        if document["metadata"]["name"] == name:
            return document
    return None


def workloads(documents):
    return of_kind(documents, "StatefulSet", "Deployment", "DaemonSet", "Job")


def pod_of(workload):
    return workload["spec"]["template"]["spec"]


def labels_of(workload):
    return workload["spec"]["template"]["metadata"]["labels"]


def selected(documents, selector):
    """The workloads whose pods have these labels."""
    return [
        workload
        for workload in workloads(documents)
        if selector.items() <= labels_of(workload).items()
    ]


def containers(workload):
    pod = pod_of(workload)
    return pod.get("initContainers", []) + pod["containers"]


def broker_workload(documents):
    return named(documents, "StatefulSet", "mqttzoo")


@cache
def options():
    """The keys of the broker's configuration, by the name of their environment variable."""
    page = subprocess.run(
        [BROKER, "--print-config-docs"], capture_output=True, text=True, check=True
    ).stdout
    found = re.findall(r"`--[a-z0-9-]+ [^`]*` or `(MQTTZOO_[A-Z0-9_]+)`", page)
    return {variable: variable.removeprefix("MQTTZOO_").lower() for variable in found}


def print_config(text, environment):
    """What a broker makes of a configuration: its values, or why it refuses."""
    return print_config_once(text, tuple(sorted(environment.items())))


@cache
def print_config_once(text, environment):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "broker.toml"
        path.write_text(text)
        done = subprocess.run(
            [BROKER, "--config", str(path), "--print-config"],
            capture_output=True,
            text=True,
            env={"HOME": folder, **dict(environment)},
        )
    if done.returncode != 0 or done.stderr:
        return None, done.stderr
    return tomllib.loads(done.stdout), None


def dockerfile(image):
    """The Dockerfile of an image of ours, as text; nothing for those of others."""
    name = image.rsplit(":", 1)[0]
    if "mqttzoo/" not in name:
        return None
    path = ROOT / "docker" / (name.rsplit("/", 1)[1] + ".Dockerfile")
    return path.read_text() if path.exists() else ""
