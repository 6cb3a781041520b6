#!/usr/bin/env bats
# automateBuild.sh with stubs for minikube, docker and kubectl: what it calls, in which order, and what
# it does when one of them fails.

setup() {
    sources=$(cd "$BATS_TEST_DIRNAME/../.." && pwd)
    work=$BATS_TEST_TMPDIR/work
    stubs=$BATS_TEST_TMPDIR/stubs
    export CALLS=$BATS_TEST_TMPDIR/calls
    mkdir -p "$work" "$stubs"
    touch "$CALLS"
    cp "$sources/automateBuild.sh" "$work"
    cp -R "$sources/k8s" "$sources/zoo" "$work"
    for tool in minikube docker kubectl; do
        cp "$BATS_TEST_DIRNAME/stub" "$stubs/$tool"
    done
    # Nothing else is to be had, so that a tool the script needs and does not ask for is found out.
    for tool in bash env dirname cat mkdir head; do
        ln -s "$(command -v "$tool")" "$stubs/$tool"
    done
}

automate() {
    run env PATH="$stubs" bash "$work/automateBuild.sh" "$@"
}

# The calls with $1 in them, at the place where they come.
place_of() {
    grep --line-number --fixed-strings -- "$1" "$CALLS" | head -n 1 | cut -d : -f 1
}

# Whether nothing comes in.
nothing() {
    ! grep .
}

never_called() {
    ! grep --quiet --fixed-strings -- "$1" "$CALLS"
}

@test "everything is done in order" {
    automate
    [ "$status" -eq 0 ]
    expected=(
        "docker info"
        "minikube delete --profile mqttzoo"
        "minikube start --profile mqttzoo"
        "docker build --file docker/broker.Dockerfile"
        "docker tag mqttzoo/broker:built mqttzoo/broker:aaaabbbbcccc"
        "docker build --file docker/zookeeper.Dockerfile"
        "docker tag mqttzoo/zookeeper:built mqttzoo/zookeeper:ddddeeeeffff"
        "minikube image load --profile mqttzoo mqttzoo/broker:aaaabbbbcccc"
        "minikube image load --profile mqttzoo mqttzoo/zookeeper:ddddeeeeffff"
        "kubectl --context mqttzoo apply -k target/minikube"
        "rollout status statefulset/zookeeper"
        "rollout status statefulset/postgres"
        "rollout status statefulset/mqttzoo"
        "exec mqttzoo-0 -- mqtt_pub"
        "exec mqttzoo-2 -- mqtt_sub"
        "mqtt_pub -h 127.0.0.1 -t automateBuild -q 1 -r -n"
        "minikube tunnel --profile mqttzoo"
    )
    last=0
    for call in "${expected[@]}"; do
        place=$(place_of "$call")
        echo "$call: $place, after $last"
        [ -n "$place" ] && [ "$place" -gt "$last" ]
        last=$place
    done
}

@test "every call of kubectl names the context, and no cluster but ours is touched" {
    automate
    [ "$status" -eq 0 ]
    grep '^kubectl' "$CALLS" | grep --invert-match -- '^kubectl --context mqttzoo ' | nothing
    grep '^minikube' "$CALLS" | grep --invert-match -- '--profile mqttzoo' | nothing
}

@test "the overlay that is applied has the tags that were built, and never latest" {
    automate
    [ "$status" -eq 0 ]
    renderer=$(command -v kubectl) || skip "kubectl is not installed"
    rendered=$("$renderer" kustomize "$work/target/minikube")
    echo "$rendered" | grep --quiet 'image: mqttzoo/broker:aaaabbbbcccc$'
    echo "$rendered" | grep --quiet 'image: mqttzoo/zookeeper:ddddeeeeffff$'
    echo "$rendered" | grep 'image:.*latest' | nothing
}

# What is only asked for to find out why something failed.
is_diagnosis() {
    grep --extended-regexp '^kubectl --context mqttzoo --namespace mqttzoo (get|describe|logs) '
}

is_no_diagnosis() {
    grep --extended-regexp --invert-match '^kubectl --context mqttzoo --namespace mqttzoo (get|describe|logs) '
}

@test "a failure of any call stops before the next, and says where" {
    automate
    [ "$status" -eq 0 ]
    mapfile -t calls <"$CALLS"
    [ "${#calls[@]}" -ge 17 ]
    applied=$(place_of "apply -k")
    for ((n = 1; n <= ${#calls[@]}; n++)); do
        rm -rf "$work/target"
        : >"$CALLS"
        FAIL_FROM=$n automate
        echo "call $n: ${calls[n - 1]}: $status: $output"
        [ "$status" -ne 0 ]
        # As before, up to the call that failed.
        [ "$(head -n "$n" "$CALLS")" = "$(printf '%s\n' "${calls[@]:0:n}")" ]
        behind=$(tail -n "+$((n + 1))" "$CALLS")
        is_no_diagnosis <<<"$behind" | nothing
        if ((n == 1)); then
            [[ $output == *"docker does not answer"* ]]
            continue
        fi
        [ "$(grep --count 'automateBuild.sh: failed at: ' <<<"$output")" -eq 1 ]
        # The heading under which it failed is the last one, and the one that is named.
        heading=$(grep '^== ' <<<"$output" | tail -n 1)
        [[ $output == *"automateBuild.sh: failed at: ${heading#== }"* ]]
        if ((n >= applied)); then
            is_diagnosis <<<"$behind" | grep --quiet 'get pods,persistentvolumeclaims'
            is_diagnosis <<<"$behind" | grep --quiet 'get events'
            [[ $output == *"The cluster is left as it is"* ]]
        else
            [ -z "$behind" ]
        fi
    done
}

@test "when pods do not become ready it tells what is known of them" {
    FAIL_ON="rollout status statefulset/zookeeper" automate
    [ "$status" -ne 0 ]
    for call in "get pods,persistentvolumeclaims" "get events" "describe pod/zookeeper-0" \
        "logs pod/zookeeper-0 --tail 50" "logs pod/zookeeper-0 --tail 50 --previous"; do
        echo "$call"
        [ -n "$(place_of "$call")" ]
    done
    [[ $output == *"failed at: waiting for ZooKeeper"* ]]
}

@test "what is known is told even when telling fails" {
    FAIL_ON="rollout status statefulset/mqttzoo|describe|logs|events" automate
    [ "$status" -eq 3 ]
    [[ $output == *"failed at: waiting for the brokers"* ]]
    [ -n "$(place_of "describe pod/zookeeper-0")" ]
}

@test "before anything was applied no pods are asked for" {
    FAIL_ON="minikube start" automate
    [ "$status" -ne 0 ]
    never_called kubectl
}

@test "another message than the one that was sent is a failure" {
    HEARD="something else" automate
    [ "$status" -ne 0 ]
    [[ $output == *"mqttzoo-2 heard: something else"* ]]
    [[ $output == *"failed at: sending a message"* ]]
    never_called tunnel
}

@test "each tool that is missing is named, and where it is had" {
    for tool in minikube kubectl docker; do
        mv "$stubs/$tool" "$BATS_TEST_TMPDIR/away"
        automate
        mv "$BATS_TEST_TMPDIR/away" "$stubs/$tool"
        echo "$tool: $output"
        [ "$status" -eq 1 ]
        [[ $output == "$tool is missing: https://"* ]]
        [ "${#lines[@]}" -eq 1 ]
    done
    # What is there was asked nothing but whether it is.
    grep --invert-match '^docker info$' "$CALLS" | nothing
}

@test "tools that are missing are named, all of them" {
    rm "$stubs/minikube" "$stubs/kubectl"
    automate
    [ "$status" -eq 1 ]
    [[ $output == *"minikube is missing"* && $output == *"kubectl is missing"* ]]
    [[ $output != *"docker is missing"* ]]
    never_called minikube
}

@test "a docker that does not answer is told from one that is missing" {
    FAIL_ON="docker info" automate
    [ "$status" -eq 1 ]
    [[ $output == *"docker does not answer"* ]]
    rm "$stubs/docker"
    automate
    [ "$status" -eq 1 ]
    [[ $output == *"docker is missing"* ]]
    never_called minikube
}

@test "--keep does all of it but deletes nothing" {
    automate
    [ "$status" -eq 0 ]
    grep --invert-match '^minikube delete ' "$CALLS" >"$BATS_TEST_TMPDIR/expected"
    : >"$CALLS"
    automate --keep
    [ "$status" -eq 0 ]
    never_called "minikube delete"
    diff "$BATS_TEST_TMPDIR/expected" "$CALLS"
}

@test "--no-tunnel ends without the tunnel and says how it is had" {
    automate --no-tunnel
    [ "$status" -eq 0 ]
    never_called "minikube tunnel"
    [[ $output == *"minikube tunnel --profile mqttzoo"* ]]
}

@test "--dry-run says in order what is done without it" {
    automate
    [ "$status" -eq 0 ]
    # What is asked and changes nothing is not said.
    grep --extended-regexp --invert-match '^docker (info|image inspect)' "$CALLS" |
        sed --regexp-extended 's/aaaabbbbcccc|ddddeeeeffff/CONTENT/; s/^/+ /' >"$BATS_TEST_TMPDIR/expected"
    automate --dry-run
    [ "$status" -eq 0 ]
    diff "$BATS_TEST_TMPDIR/expected" <(grep '^+ ' <<<"$output")
}

@test "--dry-run says everything and does nothing" {
    rm "$stubs/minikube" "$stubs/kubectl" "$stubs/docker"
    automate --dry-run
    [ "$status" -eq 0 ]
    [ ! -s "$CALLS" ]
    [ ! -e "$work/target" ]
    for call in "minikube delete --profile mqttzoo" "docker build" "apply -k target/minikube" \
        "exec mqttzoo-2" "minikube tunnel"; do
        echo "$call"
        [[ $output == *"+ "*"$call"* ]]
    done
}

@test "--profile is the profile everywhere" {
    automate --profile minikube --no-tunnel
    [ "$status" -eq 0 ]
    never_called "--profile mqttzoo"
    never_called "--context mqttzoo"
    [ -n "$(place_of "minikube delete --profile minikube")" ]
}

@test "what is no option is refused before anything is done" {
    for arguments in "--kep" "now" "--profile" "--profile --keep"; do
        # shellcheck disable=SC2086
        automate $arguments
        echo "$arguments: $output"
        [ "$status" -eq 2 ]
        [ ! -s "$CALLS" ]
    done
}

@test "--help tells of every option" {
    automate --help
    [ "$status" -eq 0 ]
    for option in --keep --no-tunnel --dry-run --profile; do
        [[ $output == *"$option"* ]]
    done
    [ ! -s "$CALLS" ]
}
