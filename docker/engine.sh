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
deadline=60

fail() { printf 'engine.sh: %s\n' "$1" >&2; exit 1; }
answers() { timeout 5 docker version --format '{{.Server.Version}}' >/dev/null 2>&1; }

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
