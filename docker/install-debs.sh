# Runs as root in a container without network: installs the packages that lie beside this file.
set -eu
cd "$(dirname "$0")"
if ! command -v apt-get >/dev/null; then
    echo "the base has no apt-get" >&2
    exit 1
fi

# No service is started where none can run.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    trap 'rm -f "$policy"' EXIT
fi

mkdir -p state/lists/partial cache/archives/partial log
# Sources are not asked: what is not here is not wanted. A base that has such a package newer keeps its files whole.
DEBIAN_FRONTEND=noninteractive DEBCONF_NONINTERACTIVE_SEEN=true apt-get \
    -o APT::Sandbox::User=root \
    -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts=/dev/null \
    -o Dir::State::lists="$PWD/state/lists" -o Dir::Cache="$PWD/cache" -o Dir::Log="$PWD/log" \
    -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold -o Dpkg::Use-Pty=0 \
    -qq --yes --no-install-recommends --allow-downgrades install ./*.deb
