#!/bin/bash
# From nothing to READY in the world it is started in, as the units do it: `up`, then `serve --up`: boot.sh SLOTS
#
# Prints one line of JSON: seconds of each, and together.
set -euo pipefail

slots=$1
config=/run/bench/netslot.toml
mkdir -p /run/bench
printf 'slots = %d\nuplink = "uplink0"\nmtu = 1430\n' "$slots" >$config
# Plays the service manager: says when it listens, and when it is told of readiness.
# shellcheck disable=SC2016 # perl's own variables
manager='use Socket; $| = 1; socket(my $s, AF_UNIX, SOCK_DGRAM, 0) or die $!;
bind($s, pack_sockaddr_un("/run/bench/notify")) or die $!; print "listening\n";
while (defined recv($s, my $text, 4096, 0)) { print "ready\n" if $text =~ /^READY=1/m }'
coproc manager { exec perl -e "$manager"; }
# shellcheck disable=SC2154 # coproc sets it
manager_pid=$manager_PID
trap 'kill $manager_pid' EXIT
read -r _ <&"${manager[0]}"

began=$EPOCHREALTIME
"$NETSLOT" --config $config --quiet --quiet up >/dev/null
made=$EPOCHREALTIME
NOTIFY_SOCKET=/run/bench/notify "$NETSLOT" --config $config --quiet serve --up &
daemon=$!
read -r _ <&"${manager[0]}"
served=$EPOCHREALTIME
kill $daemon
wait $daemon
jq --null-input --compact-output --argjson slots "$slots" --argjson began "$began" --argjson made "$made" --argjson served "$served" \
    '{slots: $slots, up: ($made - $began), serve: ($served - $made), ready: ($served - $began)}'
"$NETSLOT" --config $config --quiet destroy >/dev/null
