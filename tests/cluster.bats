#!/usr/bin/env bats
# bin/cluster, and what the README has typed in two more terminals: one real cluster for the whole file, on free
# ports and in a directory of its own. CLUSTER_BIN says where the programs are, target/debug by default.

setup_file() {
    local sources
    sources=$(cd "$BATS_TEST_DIRNAME/.." && pwd)
    cd "$sources" || return
    command -v java >/dev/null || skip "java is not installed"
    command -v python3 >/dev/null || skip "python3 is not installed"
    export CLUSTER_DIR=$BATS_FILE_TMPDIR/cluster
    export CLUSTER_BIN=${CLUSTER_BIN:-target/debug}
    CLUSTER_PORT_OFFSET=$(free_offset)
    export CLUSTER_PORT_OFFSET
    # What runs on inherits nothing that bats waits for.
    bin/cluster up >"$BATS_FILE_TMPDIR/up" 3>&-
}

# Whatever the tests came to, nothing is left behind. `bin/cluster down` is tested, and not trusted.
teardown_file() {
    local file pid
    for file in "${BATS_FILE_TMPDIR:?}"/cluster/run/*.pid; do
        pid=$(cat "$file" 2>/dev/null) || continue
        if is_ours "$pid"; then
            kill -s KILL "$pid"
        fi
    done
}

setup() {
    cd "$BATS_TEST_DIRNAME/.." || return
    subscriber=
}

teardown() {
    [[ -n $subscriber ]] || return 0
    kill -s KILL "$subscriber" 2>/dev/null || true
    wait "$subscriber" 2>/dev/null || true
}

# Every port that bin/cluster takes by default.
default_ports() {
    printf '%s\n' {1883..1885} {2181..2183} {2888..2890} {3888..3890} {7883..7885} {7983..7985} \
        {9883..9885}
}

# Whether somebody listens on port $1.
is_open() {
    (exec 4<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

# Which of our ports are open, if the offset is $1.
open_ports() {
    local port
    for port in $(default_ports); do
        if is_open $((port + $1)); then
            printf '%s\n' $((port + $1))
        fi
    done
}

# An offset at which all ports are free. They stay below 32768, where the system gives out ports to others.
free_offset() {
    local offset
    while offset=$((2000 + RANDOM % 20000)) && [[ -n $(open_ports "$offset") ]]; do :; done
    printf '%s' "$offset"
}

# Whether process $1 is one of this cluster: its command line names the directory.
is_ours() {
    [[ $(ps -ww -p "$1" -o args= 2>/dev/null) == *"${BATS_FILE_TMPDIR:?}/cluster"* ]]
}

# Waits until the command succeeds, for half a minute.
await() {
    local until=$((SECONDS + 30))
    while ((SECONDS < until)); do
        "$@" && return
        sleep 0.1
    done
    printf 'in vain: %s\n' "$*"
    bin/cluster status
    tail -n 5 "$CLUSTER_DIR"/log/broker-*
    return 1
}

# Whether the line of process $1 in the status matches the pattern $2.
status_is() {
    local all
    all=$(bin/cluster status)
    grep --quiet --extended-regexp "^$1 .*$2" <<<"$all"
}

broker_is() {
    status_is "broker-$1" "$2"
}

all_are_ready() {
    broker_is 1 ready && broker_is 2 ready && broker_is 3 ready
}

# The numbers of the processes of these names.
pids_of() {
    local name
    for name; do
        cat "$CLUSTER_DIR/run/$name.pid"
    done
}

# Has the command subscribe. Once SUBACK is there, every broker knows of it.
subscribe() {
    "$@" --debug >"$BATS_TEST_TMPDIR/came" 2>"$BATS_TEST_TMPDIR/packets" 3>&- &
    subscriber=$!
    await grep --quiet SUBACK "$BATS_TEST_TMPDIR/packets"
}

# The line of the README that starts $1 with a port, as it is typed here.
readme() {
    local arguments
    arguments=$(sed --quiet "s/^cargo run --release --bin $1 -- \(.*-p .*\)/\1/p" README.md)
    [[ $arguments =~ ^-p\ (188[0-9])\ (.*) ]]
    printf '%s' "$CLUSTER_BIN/$1 -p $((BASH_REMATCH[1] + CLUSTER_PORT_OFFSET)) ${BASH_REMATCH[2]}"
}

subscribe_by_readme() {
    local command
    read -r -a command <<<"$(readme mqtt_sub)"
    subscribe "${command[@]}"
}

# Types the line $1 in the terminal of the publisher.
publish_by_readme() {
    local command
    read -r -a command <<<"$(readme mqtt_pub)"
    "${command[@]}" <<<"$1"
}

# Whether these lines came, in this order, and nothing else.
came() {
    cmp --quiet "$BATS_TEST_TMPDIR/came" <(printf '%s\n' "$@")
}

@test "up ends with three ready brokers, and three servers of ZooKeeper with one leader" {
    run bin/cluster status
    echo "$output"
    [ "$status" -eq 0 ]
    [ "$(grep --count --extended-regexp '^broker-[123] .* ready' <<<"$output")" -eq 3 ]
    [ "$(grep --count --extended-regexp '^zookeeper-[123] .* leader' <<<"$output")" -eq 1 ]
    [ "$(grep --count --extended-regexp '^zookeeper-[123] .* follower' <<<"$output")" -eq 2 ]
    # All that we asked for, but those where the two followers would listen as leaders.
    [ "$(open_ports "$CLUSTER_PORT_OFFSET" | wc -l)" -eq 19 ]
}

@test "a line that is typed at the third broker comes at the first one, as the README has it" {
    [[ $(readme mqtt_sub) == *" -p $((CLUSTER_PORT_OFFSET + 1883)) "* ]]
    [[ $(readme mqtt_pub) == *" -p $((CLUSTER_PORT_OFFSET + 1885)) "* ]]
    subscribe_by_readme
    publish_by_readme sunny
    await came sunny
}

@test "the two commands that up shows do the same" {
    local show=$BATS_FILE_TMPDIR/up command
    read -r -a command < <(grep --fixed-strings mqtt_sub "$show")
    subscribe "${command[@]}"
    read -r -a command < <(grep --fixed-strings mqtt_pub "$show")
    "${command[@]}"
    await came sunny
}

@test "a message goes by relay while the link is cut, and by link again once it is healed" {
    subscribe_by_readme
    await broker_is 3 'to broker-1 link, broker-2 link$'
    bin/cluster cut 1 3
    publish_by_readme 'just cut'
    await came 'just cut'
    await broker_is 3 'to broker-1 relay, broker-2 link$'
    publish_by_readme 'by relay'
    await came 'just cut' 'by relay'
    bin/cluster heal 1 3
    await broker_is 3 'to broker-1 link, broker-2 link$'
    publish_by_readme 'by link'
    await came 'just cut' 'by relay' 'by link'
}

@test "a message comes while a broker is paused, which goes on afterwards" {
    subscribe_by_readme
    bin/cluster pause 2
    broker_is 2 paused
    publish_by_readme sunny
    await came sunny
    bin/cluster cont 2
    await all_are_ready
}

@test "a message comes when a broker and a server of ZooKeeper are killed, and up starts these alone" {
    local others
    subscribe_by_readme
    others=$(pids_of broker-1 broker-3 zookeeper-2 zookeeper-3 proxy)
    bin/cluster kill 2 z1
    await broker_is 2 down
    await status_is zookeeper-1 down
    publish_by_readme sunny
    await came sunny
    bin/cluster up 3>&-
    all_are_ready
    [ "$(pids_of broker-1 broker-3 zookeeper-2 zookeeper-3 proxy)" = "$others" ]
    publish_by_readme rain
    await came sunny rain
}

@test "what bin/cluster reads from the environment, its help names" {
    local name names
    run bin/cluster --help
    names=$(grep --only-matching '{CLUSTER_[A-Z_]*' bin/cluster | sort --unique)
    [ "$(wc -l <<<"$names")" -ge 4 ]
    for name in $names; do
        echo "${name#?}"
        grep --quiet "^  ${name#?} " <<<"$output"
    done
}

@test "what cannot be is refused, and nothing is done" {
    for offset in x -1 1e3 08 55651 999999; do
        run env CLUSTER_PORT_OFFSET="$offset" bin/cluster down
        [ "$status" -eq 1 ]
        [[ $output == *"CLUSTER_PORT_OFFSET is \`$offset\`"* ]]
    done
    run env CLUSTER_DIR="$BATS_TEST_TMPDIR/other" CLUSTER_BIN="$BATS_TEST_TMPDIR" bin/cluster up
    [ "$status" -eq 1 ]
    [[ $output == *"see CLUSTER_BIN"* ]]
    all_are_ready
}

# The last one: nothing runs any more behind it.
@test "down leaves no process and no open port" {
    local pids pid
    pids=$(cat "$CLUSTER_DIR"/run/*.pid)
    [ "$(wc -w <<<"$pids")" -eq 7 ]
    for pid in $pids; do is_ours "$pid"; done
    bin/cluster down
    for pid in $pids; do
        run is_ours "$pid"
        [ "$status" -ne 0 ]
    done
    run pgrep --full "$CLUSTER_DIR"
    [ -z "$output" ]
    run open_ports "$CLUSTER_PORT_OFFSET"
    [ -z "$output" ]
    [ "$(bin/cluster status | grep --count ' down$')" -eq 6 ]
}
