#!/bin/bash
# What a host with systemd does with the Debian package, told line by line: installed, started, upgraded and taken back
# over a live pool, broken, removed, purged. package.sh DEBS, with 1.deb and 2.deb in that folder. Takes the host for its own:
# tests/deb.sh has one in namespaces, tests/vm one in a virtual machine.
set -euo pipefail
debs=$1
export DEBIAN_FRONTEND=noninteractive
failed() {
    echo "FAIL $1"
    journalctl --no-pager --boot --unit netslot --unit netslot-up | tail -n 30
    exit 1
}
trap 'failed "line $LINENO"' ERR
is() { [ "$2" = "$3" ] || failed "$1: '$2' is not '$3'"; }
number() { netslot status --json | tr -d ' \n' | sed -n "s/.*\"$1\":\([0-9]*\).*/\1/p"; }
main_pid() { systemctl show netslot --property MainPID --value; }
# Until a command succeeds.
until_it() {
    for _ in $(seq 600); do
        if "$@"; then return; fi
        sleep 0.1
    done
    failed "never: $*"
}
# Slot and generation of each lease, one to a line.
leases() { netslot list --state leased "$@" | awk '$2 == "leased" { print $1, $3 }'; }
release() { while read -r slot generation; do netslot release "$slot" --generation "$generation"; done; }
leases_are() { [ "$(number leased)" = "$1" ]; }
slots_here() { ip -brief link | grep -c '^slot' || true; }

# A connection from a leased slot to the host, 198.51.100.2, that must not break: ten lines a second, each answered.
# shellcheck disable=SC2016 # perl's own variables
server='use IO::Socket::INET; my $s = IO::Socket::INET->new(LocalPort => 7000, Listen => 1, ReuseAddr => 1) or die $!;
open(my $f, ">", "/tmp/listens") or die $!; print $f "yes"; close $f; my $c = $s->accept; $c->autoflush(1); while (<$c>) { print $c $_ }'
# shellcheck disable=SC2016
client='use IO::Socket::INET; my $s = IO::Socket::INET->new(PeerAddr => "198.51.100.2:7000", Timeout => 10) or die $!;
$s->autoflush(1); $| = 1; my $n = 0;
while (1) { $n++; print $s "$n\n"; my $a = <$s>; defined $a && $a == $n or die "broken after $n"; print "$n\n"; select undef, undef, undef, 0.1 }'
answers() { tail -n 1 /tmp/answers; }
# More answers than there are now: the connection goes on.
goes_on() {
    local before
    before=$(answers)
    more() { [ "$(answers)" -gt $((before + 5)) ]; }
    until_it more
    kill -0 "$guest" || failed "the guest has ended: $(cat /tmp/guest)"
}

dpkg --install "$debs/1.deb"
getent group netslot
for unit in netslot-up.service netslot.service netslot.socket; do
    is "$unit" "$(systemctl is-enabled $unit)" enabled
    is "$unit" "$(systemctl is-active $unit || true)" inactive
done
netslot --version
zcat /usr/share/man/man1/netslot-serve.1.gz | grep -q "with its connections"
bash -c 'set +u; complete -p netslot 2>/dev/null; . /usr/share/bash-completion/completions/netslot; complete -p netslot'
echo "ok a first installation: files, group, enabled, not started"

printf 'slots = 4\n' >/etc/netslot/netslot.toml
systemctl start netslot-up.service netslot.socket netslot.service
is "state" "$(systemctl is-active netslot-up netslot netslot.socket | sort -u)" active
is "slots" "$(number slots)" 4
is "host ends" "$(slots_here)" 4
is "the socket" "$(stat --format %a:%G /run/netslot/netslot.sock)" 660:netslot
# Nothing that ran before the package came has touched them in between.
until_it sh -c 'journalctl --no-pager --unit netslot | grep "4 slots: 0 created, 0 repaired"'
echo "ok a start"

perl -e "$server" &
until_it test -s /tmp/listens
netslot exec --no-guest --tag guest -- perl -e "$client" >/tmp/answers 2>/tmp/guest &
guest=$!
until_it test -s /tmp/answers
netslot lease --count 3 --tag kept
netslot lease --wait 60s >/tmp/waited &
waiting=$!
until_it sh -c 'netslot status | grep -q "waiting *1"'
kept=$(leases)
# Upgrades or goes back to that package; the new program must serve, with the leases and the connection of the old one.
to() {
    local before
    before=$(main_pid)
    dpkg --install "$debs/$1.deb"
    is "version" "$(dpkg-query --show --showformat '${Version}' netslot)" "0.0.$1"
    [ "$(main_pid)" != "$before" ] || failed "the old daemon serves on"
    is "the program that serves" "$(readlink "/proc/$(main_pid)/exe")" /usr/bin/netslot
    is "leases" "$(number leased)" 4
    goes_on
}
to 2
is "leases, slot and generation" "$(leases)" "$kept"
echo "ok an upgrade: leases and a guest's connection go on"
leases --tag kept | head -n 1 | release
wait $waiting || failed "the request that waited: $?"
cat /tmp/waited
is "pools made" "$(journalctl --no-pager --unit netslot --unit netslot-up | grep -c "4 made")" 1
echo "ok a request that waited over the upgrade got the next slot"
kept=$(leases)
to 1
is "leases, slot and generation" "$(leases)" "$kept"
echo "ok one version back: leases and the connection go on"

before=$(main_pid)
echo 'slots = "many"' >/etc/netslot/netslot.toml
dpkg --install "$debs/2.deb"
is "main pid" "$(main_pid)" "$before"
printf 'slots = 4\n' >/etc/netslot/netslot.toml
is "leases" "$(number leased)" 4
goes_on
echo "ok the configuration, broken: an upgrade leaves the old daemon serving"

if dpkg --remove netslot; then failed "removed"; fi
is "state" "$(systemctl is-active netslot)" active
is "host ends" "$(slots_here)" 4
goes_on
echo "ok a removal with leases, and nobody there to ask: refused"

kill $guest
until_it leases_are 3
leases | release
until_it leases_are 0
dpkg --remove netslot
is "state" "$(systemctl is-active netslot netslot-up | sort -u || true)" inactive
is "host ends" "$(slots_here)" 0
[ ! -e /run/netslot/vault ] || failed "the vault is still there"
[ -e /etc/netslot/netslot.toml ] || failed "the configuration is gone before a purge"
echo "ok a removal with none"

dpkg --purge netslot
left=$(find / -xdev -name '*netslot*' -not -path '/proc/*' -not -path '/var/log/*' -not -path '/tmp/*' | sort)
is "what is left" "$left" ""
echo "ok a purge"
echo "done"
