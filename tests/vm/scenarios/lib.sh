# What every scenario begins and ends with. Runs in dash as PID 1; results go to the second serial line, the
# kernel's words to the first.
# shellcheck shell=sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root

# The file systems that an init mounts first. Anything that is to be missing is unmounted or removed afterwards.
mounts() {
    mount -t proc proc /proc
    mount -t sysfs sysfs /sys
    mount -t devtmpfs devtmpfs /dev
    mount -t tmpfs -o mode=0755 tmpfs /run
    mount -t bpf bpf /sys/fs/bpf
    mkdir -p /dev/net /run/netns
    [ -e /dev/net/tun ] || mknod /dev/net/tun c 10 200
    exec >/dev/ttyS1 2>&1
    # Opened raw, or each line end would cost a translation.
    stty -F /dev/ttyS1 raw -echo 2>/dev/null
    sysctl -q kernel.panic_on_rcu_stall=1 kernel.hung_task_panic=1 2>/dev/null
}

# An uplink to a namespace that plays the network, as a host has it before netslot comes.
uplink() {
    ip link set lo up
    ip netns add network
    ip link add uplink0 type veth peer name net0 netns network
    ip addr add 198.51.100.2/24 dev uplink0
    ip link set uplink0 up
    ip -n network addr add 198.51.100.1/24 dev net0
    ip -n network link set lo up
    ip -n network link set net0 up
    ip -n network route add 100.64.0.0/15 via 198.51.100.2
    ip route add default via 198.51.100.1
    sysctl -q net.ipv4.ip_forward=1
}

# configure LINES: netslot's configuration.
configure() {
    mkdir -p /etc/netslot
    echo "$1" >/etc/netslot/netslot.toml
}

# check NAME COMMAND...: one line for the runner.
check() {
    check_name=$1
    shift
    if check_said=$("$@" 2>&1); then
        echo "ok $check_name"
    else
        echo "FAIL $check_name: '$*' ended with $?: $(echo "$check_said" | tr '\n' '|' | tail -c 600)"
    fi
}

# Leases a slot; field NAME prints what it came with.
lease() { netslot --json lease "$@" >/run/lease.json; }
field() { jq -r ".$1" /run/lease.json; }
count() { netslot list --json --state "$1" | jq length; }
give_back() { netslot release "$(field slot)" --generation "$(field generation)"; }

# refused CODE WORDS COMMAND...: fails with that exit code, and says those words.
refused() {
    refused_code=$1 refused_words=$2
    shift 2
    refused_said=$("$@" 2>&1)
    refused_was=$?
    echo "exit $refused_was: $refused_said"
    [ "$refused_was" = "$refused_code" ] && case $refused_said in *"$refused_words"*) true ;; *) false ;; esac
}

# is WANTED COMMAND...: prints exactly that, whatever it tells on stderr.
is() {
    is_wanted=$1
    shift
    is_was=$("$@" 2>/run/is.stderr)
    echo "not '$is_wanted' but '$is_was' $(cat /run/is.stderr)"
    [ "$is_was" = "$is_wanted" ]
}

# until_true COMMAND...: becomes true within a minute.
until_true() {
    until_end=$(($(uptime_ms) + 60000))
    until "$@"; do
        [ "$(uptime_ms)" -lt $until_end ] || return 1
        sleep 0.1
    done
}

# Starts the daemon and waits until it serves. Checks run in subshells, so its pid goes to a file.
serve() {
    netslot serve "$@" >/run/serve.log 2>&1 &
    echo $! >/run/serve.pid
    until_true netslot status >/dev/null 2>&1 || { cat /run/serve.log; return 1; }
}

# Stops the daemon with that signal and waits for its end.
stop() {
    kill "-$1" "$(cat /run/serve.pid)" || return 1
    until_true gone "$(cat /run/serve.pid)"
}

# Ended; who has no parent but this shell may be left as a zombie.
gone() { ! grep -q 'State:.[^ZX]' "/proc/$1/status" 2>/dev/null; }

uptime_ms() { awk '{ print int($1 * 1000) }' /proc/uptime; }

# The kernel's complaints may have been below the console's level for a while: hand all of them over, then go.
finish() {
    dmesg -r | grep '^<[0-4]>' >/dev/ttyS0
    echo "done"
    sync
    poweroff -f
}
