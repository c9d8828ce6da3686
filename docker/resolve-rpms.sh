# Runs as root in a container with a network: brings the packages that the requirements ($@) lack into ./packages, and
# says in ./index where each is in which repository, and in ./repositories where those are.
set -eu
cd "$(dirname "$0")"
if ! command -v dnf >/dev/null; then
    echo "the base has no dnf" >&2
    exit 1
fi

mkdir -p packages
dnf --quiet --assumeyes --setopt=install_weak_deps=False --setopt=keepcache=False \
    install --downloadonly --downloaddir="$PWD/packages" -- "$@"

set -- packages/*.rpm
if [ -e "$1" ]; then
    # One word for each: names, versions and architectures hold no blanks.
    known=$(rpm --query --package --nosignature --queryformat '%{NAME}-%{EPOCHNUM}:%{VERSION}-%{RELEASE}.%{ARCH} ' "$@")
    # shellcheck disable=SC2086
    dnf --quiet repoquery --queryformat '%{name} %{epoch}:%{version}-%{release} %{arch} %{repoid} %{relativepath}' \
        -- $known >index
fi
dnf --quiet repoinfo >repositories
