#!/bin/sh
# Start a Docker engine on a Debian that has no init, or leave the one that runs alone.
#
#   sh docker/engine.sh        exit 0: an engine answers; one line is printed only when this call started it
#
# Needs root and Debian's docker.io and iptables to start one; nothing to find one that answers.
# A DOCKER_HOST is respected: it names somebody else's engine, which is asked but never started.
set -eu
PATH=$PATH:/usr/sbin:/sbin
socket=/var/run/docker.sock
pidfile=/var/run/docker.pid
log=/var/log/dockerd.log
root=/var/lib/docker
disk=/var/lib/boxsnake-engine.ext4
deadline=60

fail() { printf 'engine.sh: %s\n' "$1" >&2; exit 1; }
answers() { timeout 5 docker version --format '{{.Server.Version}}' >/dev/null 2>&1; }

# Whether a folder lies on an ext4 without a journal. That one passes over each inode that was freed in the last minutes
# before it gives one out, so that with containers coming and going it takes ten times as long to make a file.
is_slow() {
    device=$(basename "$(readlink "/sys/dev/block/$(stat -c %Hd:%Ld "$1")")")
    [ "$(df --output=fstype "$1" | tail -n 1)" = ext4 ] && [ -n "$device" ] \
        && [ -z "$(find /proc/fs/jbd2 -maxdepth 1 -name "$device-*" 2>/dev/null)" ]
}

# There, an engine that has nothing yet gets a disk of its own: a file, sparse and no larger than half of what is free.
own_disk() {
    mkdir -p "$root"
    is_slow "$root" || return 0
    if [ ! -e "$disk" ]; then
        [ -z "$(ls -A "$root")" ] || return 0
        rm -f "$disk.new"
        truncate -s "$(($(df --output=avail --block-size=1M "$root" | tail -n 1) / 2))M" "$disk.new"
        mkfs.ext4 -q -m 0 "$disk.new" || return 1
        mv "$disk.new" "$disk"
    fi
    mount -o loop,discard,noatime "$disk" "$root"
}

command -v docker >/dev/null || fail 'no docker command: apt-get install docker.io iptables'
answers && exit 0
[ -z "${DOCKER_HOST:-}" ] || fail "DOCKER_HOST=$DOCKER_HOST does not answer: start that engine or unset the variable"
[ "$(id -u)" = 0 ] || fail "no engine answers on $socket and only root can start one: run this as root"
command -v dockerd >/dev/null || fail 'no dockerd: apt-get install docker.io iptables'

# Two makes at once must not start two daemons: the second one waits here and finds the first one's.
exec 9>/run/boxsnake-engine.lock
flock 9
answers && exit 0

if [ -d /run/systemd/system ]; then
    systemctl start docker || fail 'systemctl could not start docker: journalctl -u docker'
else
    # A daemon that was killed leaves its pid behind, and the next one refuses to start while any process has that pid.
    if [ -f "$pidfile" ] && ! grep -qs dockerd "/proc/$(cat "$pidfile")/comm"; then rm -f "$pidfile"; fi
    own_disk || echo "engine.sh: no disk of its own for the engine: all it does takes longer on a disk without a journal" >&2
    # The daemon must not inherit the lock, else it is held for as long as the daemon lives.
    setsid dockerd >"$log" 2>&1 </dev/null 9>&- &
fi

waited=0
until answers; do
    waited=$((waited + 1))
    if [ "$waited" -gt $((deadline * 5)) ]; then
        [ -f "$log" ] && tail -n 20 "$log" >&2
        fail "dockerd did not answer within $deadline s; its log: $log"
    fi
    sleep 0.2
done
echo "engine.sh: started dockerd $(docker version --format '{{.Server.Version}}'), its log: $log"
