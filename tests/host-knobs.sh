#!/usr/bin/env bash
# Runs a command with the two knobs that only the initial network namespace shows turned as a boot pass wants them,
# and turns them back however the command ends. Usage: tests/host-knobs.sh COMMAND [ARG...]
#
# The demo, the tests and the benchmark play root in private namespaces, from which `netslot up` cannot reach them: this
# runs before they are made.
set -u

knobs=(net/core/devconf_inherit_init_net=3 net/core/fb_tunnels_only_for_init_net=1)

old=()
turn_back() {
    for entry in ${old[@]+"${old[@]}"}; do
        echo "${entry#*=}" > "/proc/sys/${entry%%=*}"
    done
}
trap turn_back EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

for entry in "${knobs[@]}"; do
    path=/proc/sys/${entry%%=*}
    if value=$(cat "$path" 2>/dev/null) && echo "${entry#*=}" 2>/dev/null > "$path"; then
        old+=("${entry%%=*}=$value")
    else
        echo "host knob $path is out of reach: slots get their sysctls one by one, which is slower" >&2
    fi
done

"$@"
