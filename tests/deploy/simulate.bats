#!/usr/bin/env bats
# bin/simulate: what it refuses, and a few seeds.

setup() {
    cd "$BATS_TEST_DIRNAME/../.." || return
}

@test "what makes no sense is refused in a line that says where help is" {
    local words
    for words in "--fast" "1 2 3" "one" "1 -2" "--profile" "99999999999999999999"; do
        # The words are several.
        # shellcheck disable=SC2086
        run bin/simulate $words
        [ "$status" -eq 2 ]
        [ "${#lines[@]}" -eq 1 ]
        [[ $output == *"--help"* ]]
    done
}

@test "help names every option" {
    run bin/simulate --help
    [ "$status" -eq 0 ]
    local option
    for option in --stored --broken --trace --tally --profile FROM COUNT; do
        [[ $output == *"$option"* ]]
    done
}

@test "seeds are played, and counted" {
    run bin/simulate --profile dev 7 2
    [ "$status" -eq 0 ]
    [ "${lines[-1]}" = "2 seeds from 7, 0 failed" ]
}

@test "a seed that fails is named with the command that plays it again" {
    run bin/simulate --profile dev --stored --broken 1 30
    [ "$status" -eq 1 ]
    [[ ${lines[-1]} =~ ^again:\ (bin/simulate --stored --broken --trace [0-9]+ 1)$ ]]
    read -r -a again <<<"${BASH_REMATCH[1]}"
    run "${again[@]}" --profile dev
    [ "$status" -eq 1 ]
    [[ ${lines[-3]} == "seed ${again[4]}, "*" Loss: "* ]]
}
