#!/usr/bin/env bash
# One command to a cluster on this machine: bash automateBuild.sh
set -Eeuo pipefail
cd "$(dirname "$0")"

usage() {
    cat <<'END'
bash automateBuild.sh [OPTIONS]

Makes a minikube cluster of its own, builds the images, brings up three brokers with three ZooKeeper
servers and PostgreSQL, sends a message from one broker to another, and opens a tunnel, so that
clients of this machine get in.

  --keep          keeps the cluster of the last run and brings what has changed
  --no-tunnel     ends when everything is up, without the tunnel
  --dry-run       says what would be done, and does nothing
  --profile NAME  the minikube profile, which is deleted and made anew: `mqttzoo` unless given
  --help

The default cluster of minikube is left alone, unless you give --profile minikube.
END
}

keep=false
tunnel=true
dry_run=false
profile=mqttzoo
while (($# > 0)); do
    case $1 in
    --keep) keep=true ;;
    --no-tunnel) tunnel=false ;;
    --dry-run) dry_run=true ;;
    --profile)
        profile=${2:-}
        if [[ -z $profile || $profile == -* ]]; then
            printf 'automateBuild.sh: --profile needs a name\n' >&2
            exit 2
        fi
        shift
        ;;
    -h | --help)
        usage
        exit
        ;;
    *)
        printf 'automateBuild.sh: there is no option %s\n\n' "$1" >&2
        usage >&2
        exit 2
        ;;
    esac
    shift
done

namespace=mqttzoo
step="looking for tools"
# Whether there may be pods to tell of when something fails.
applied=false

say() {
    step=$1
    printf '\n== %s\n' "$step"
}

# Does what follows, or says it.
run() {
    printf '+ %s\n' "$*"
    $dry_run || "$@"
}

kube() {
    run kubectl --context "$profile" --namespace "$namespace" "$@"
}

# Says what is known when a step fails. What fails here fails quietly: it must not hide the first fault.
fail() {
    local status=$1 pod
    # A command substitution that fails ends what it is part of: that tells.
    ((BASH_SUBSHELL == 0)) || exit "$status"
    trap - ERR
    set +e
    printf '\nautomateBuild.sh: failed at: %s\n' "$step" >&2
    if $applied; then
        {
            kube get pods,persistentvolumeclaims --output wide
            kube get events --sort-by .lastTimestamp
            for pod in $(kubectl --context "$profile" --namespace "$namespace" get pods --output name |
                head -n 10); do
                kube describe "$pod"
                kube logs "$pod" --tail 50
                kube logs "$pod" --tail 50 --previous
            done
        } >&2
        printf '\nThe cluster is left as it is. Look at it, then run this again, with --keep to keep it:\n' >&2
        printf '  kubectl --context %s --namespace %s get pods\n' "$profile" "$namespace" >&2
    fi
    exit "$status"
}
trap 'fail $?' ERR

# Says of everything that is missing how it is had.
look_for_tools() {
    local missing=false
    if ! command -v minikube >/dev/null; then
        printf 'minikube is missing: https://minikube.sigs.k8s.io/docs/start\n' >&2
        missing=true
    fi
    if ! command -v kubectl >/dev/null; then
        printf 'kubectl is missing: https://kubernetes.io/docs/tasks/tools\n' >&2
        missing=true
    fi
    if ! command -v docker >/dev/null; then
        printf 'docker is missing: https://docs.docker.com/get-docker\n' >&2
        missing=true
    elif ! docker info >/dev/null 2>&1; then
        printf 'docker does not answer: start its daemon, and see that you may use it (docker info)\n' >&2
        missing=true
    fi
    ! $missing
}

$dry_run || look_for_tools || exit 1

if $keep; then
    say "keeping the cluster of the profile $profile"
else
    say "deleting the cluster of the profile $profile"
    run minikube delete --profile "$profile"
fi

say "starting minikube"
run minikube start --profile "$profile" --cpus 2 --memory 4g

# A tag that follows from the content: what has not changed is not rolled out again.
build() {
    local name=$1 id
    run docker build --file "docker/$name.Dockerfile" --tag "mqttzoo/$name:built" .
    if $dry_run; then
        tag=CONTENT
    else
        id=$(docker image inspect --format '{{.Id}}' "mqttzoo/$name:built")
        id=${id#sha256:}
        tag=${id:0:12}
    fi
    run docker tag "mqttzoo/$name:built" "mqttzoo/$name:$tag"
}

export DOCKER_BUILDKIT=1
say "building the image of the broker"
build broker
broker_tag=$tag
say "building the image of ZooKeeper"
build zookeeper
zookeeper_tag=$tag

say "loading the images into minikube"
run minikube image load --profile "$profile" "mqttzoo/broker:$broker_tag"
run minikube image load --profile "$profile" "mqttzoo/zookeeper:$zookeeper_tag"

say "applying the manifests"
# The overlay, with the tags of what was built.
overlay=target/minikube
$dry_run || mkdir -p "$overlay"
$dry_run || cat >"$overlay/kustomization.yaml" <<END
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources:
  - ../../k8s/overlays/minikube
images:
  - name: mqttzoo/broker
    newTag: "$broker_tag"
  - name: mqttzoo/zookeeper
    newTag: "$zookeeper_tag"
END
applied=true
run kubectl --context "$profile" apply -k "$overlay"

say "waiting for ZooKeeper"
kube rollout status statefulset/zookeeper --timeout 10m
say "waiting for PostgreSQL"
kube rollout status statefulset/postgres --timeout 10m
say "waiting for the brokers"
kube rollout status statefulset/mqttzoo --timeout 10m

say "sending a message from one broker to another"
# Retained, so that it does not matter who is first; then taken away again.
words="hello from mqttzoo-0"
topic=automateBuild
kube exec mqttzoo-0 -- mqtt_pub -h 127.0.0.1 -t "$topic" -q 1 -r -m "$words"
if $dry_run; then
    kube exec mqttzoo-2 -- mqtt_sub -h 127.0.0.1 -t "$topic" -C 1 -W 30
else
    heard=$(kubectl --context "$profile" --namespace "$namespace" exec mqttzoo-2 -- \
        mqtt_sub -h 127.0.0.1 -t "$topic" -C 1 -W 30)
    if [[ $heard != "$words" ]]; then
        printf 'mqttzoo-2 heard: %s\n' "$heard" >&2
        fail 1
    fi
    printf 'mqttzoo-2 heard: %s\n' "$heard"
fi
kube exec mqttzoo-0 -- mqtt_pub -h 127.0.0.1 -t "$topic" -q 1 -r -n

cat <<END

Everything is up. While the tunnel is open, in two more terminals:

  mqtt_sub -h ADDRESS -t weather
  mqtt_pub -h ADDRESS -t weather

ADDRESS is the EXTERNAL-IP of: kubectl --context $profile --namespace $namespace get service mqttzoo
It is open to everybody who reaches this machine: k8s/overlays/minikube/broker.toml says so.
END

if $tunnel; then
    say "opening the tunnel (ctrl-c closes it; it may ask for your password)"
    run minikube tunnel --profile "$profile"
else
    printf '\nThe tunnel: minikube tunnel --profile %s\n' "$profile"
fi
