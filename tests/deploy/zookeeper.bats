#!/usr/bin/env bats
# The programs of the ZooKeeper image, with a stub for java: which server it takes itself for, and how it is
# started.

setup() {
    programs=$BATS_TEST_DIRNAME/../../docker/zookeeper
    config=$BATS_TEST_DIRNAME/../../zoo/zoo.cfg
    stubs=$BATS_TEST_TMPDIR/stubs
    data=$BATS_TEST_TMPDIR/data
    mkdir -p "$stubs" "$data"
    export CALLS=$BATS_TEST_TMPDIR/calls
    touch "$CALLS"
    cp "$BATS_TEST_DIRNAME/stub" "$stubs/java"
    sed "s|^dataDir=.*|dataDir=$data|" "$config" >"$BATS_TEST_TMPDIR/zoo.cfg"
}

# Starts the server on a machine of the name $1.
serve() {
    run env PATH="$stubs:$PATH" HOSTNAME="$1" ZOOKEEPER_CONFIG="$BATS_TEST_TMPDIR/zoo.cfg" \
        bash "$programs/zookeeper-server"
}

@test "the number of a server follows from the name of its pod" {
    for ordinal in 0 1 2 10; do
        serve "zookeeper-$ordinal"
        [ "$status" -eq 0 ]
        [ "$(cat "$data/myid")" -eq $((ordinal + 1)) ]
    done
}

@test "every server that zoo.cfg lists is the one that its name makes it" {
    while IFS='=:' read -r key host _; do
        serve "${host%%.*}"
        [ "$status" -eq 0 ]
        [ "server.$(cat "$data/myid")" = "$key" ]
    done < <(grep '^server\.' "$config")
}

@test "memory follows from the limit, and addresses are looked up anew" {
    serve zookeeper-0
    [ "$status" -eq 0 ]
    [ "$(wc -l <"$CALLS")" -eq 1 ]
    for word in -XX:MaxRAMPercentage=60 -XX:+ExitOnOutOfMemoryError -Dsun.net.inetaddr.ttl=5 \
        -Dsun.net.inetaddr.negative.ttl=0 \
        "org.apache.zookeeper.server.quorum.QuorumPeerMain $BATS_TEST_TMPDIR/zoo.cfg"; do
        echo "$word"
        grep --fixed-strings -- " $word" "$CALLS"
    done
    # A size of its own would not follow.
    [ "$(grep --count -- ' -Xm[xs]' "$CALLS")" -eq 0 ]
}

@test "a name without a number is refused, and nothing is written" {
    for name in zookeeper localhost zookeeper-x; do
        serve "$name"
        [ "$status" -ne 0 ]
        [[ $output == *"the name $name does not end in a number"* ]]
        [ ! -e "$data/myid" ]
    done
    [ ! -s "$CALLS" ]
}

@test "a configuration without a directory is refused" {
    sed -i '/^dataDir=/d' "$BATS_TEST_TMPDIR/zoo.cfg"
    serve zookeeper-0
    [ "$status" -ne 0 ]
    [[ $output == *"has no dataDir"* ]]
    [ ! -s "$CALLS" ]
}

@test "a probe that is asked for nothing, or for something else, fails" {
    for word in "" ready; do
        run bash "$programs/zookeeper-probe" "$word"
        [ "$status" -eq 2 ]
        [[ $output == "usage: zookeeper-probe alive|serving" ]]
    done
}
