# Runs as root inside the new system, after the Debian packages.
#
# rpm's database knows nothing of what Debian's packages brought, so every RPM that requires /bin/sh or glibc would be
# refused. This installs one RPM, host-base, which holds no file and provides what is really there: each library with
# its symbol versions as rpm itself finds them, each program by its path, and the usual RPM names of packages whose
# program or library exists. What an RPM requires is so checked as on any RPM host.

# Debian keeps rpm's database in each user's home; the distributions that RPMs are made for have one, here.
mkdir -p /etc/rpm /var/lib/rpm
echo '%_dbpath /var/lib/rpm' >/etc/rpm/macros.dbpath

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
libraries=$(dirname "$(ldconfig -p | sed -n 's/.*libc\.so\.6 .*=> //p' | head -n 1)")
loader=$(ls -d /lib64/ld-linux*.so.* /lib/ld-linux*.so.* 2>/dev/null | head -n 1)

{
    find -L "$libraries" -maxdepth 1 -name '*.so.*' -type f | /usr/lib/rpm/elfdeps --provides
    echo "$loader" | /usr/lib/rpm/elfdeps --provides
    # What rpmbuild requires of every program that is linked since 2006: glibc's package says that its loader can.
    echo 'rtld(GNU_HASH)'
    # /bin and /sbin are links into /usr, and packages ask for either path.
    find -L /usr/bin /usr/sbin -maxdepth 1 -type f | sed -n 'p; s,^/usr,,p'
    while read -r name proof; do
        if [ -e "$proof" ]; then echo "$name"; fi
    done <<NAMES
bash /usr/bin/bash
ca-certificates /etc/ssl/certs/ca-certificates.crt
coreutils /usr/bin/env
findutils /usr/bin/find
glibc-common /usr/bin/getent
grep /usr/bin/grep
gzip /usr/bin/gzip
libgcc $libraries/libgcc_s.so.1
libstdc++ $libraries/libstdc++.so.6
libxcrypt $libraries/libcrypt.so.1
openssl-libs $libraries/libssl.so.3
sed /usr/bin/sed
shadow-utils /usr/sbin/useradd
tar /usr/bin/tar
tzdata /usr/share/zoneinfo/UTC
util-linux /usr/bin/flock
zlib $libraries/libz.so.1
NAMES
    echo "glibc = $(dpkg-query -W -f '${Version}' libc6 | sed 's/[^0-9.].*//')"
} | LC_ALL=C sort -u | sed 's/^/Provides: /' >"$work/provides"

{
    cat <<'SPEC'
Name: host-base
Version: 1
Release: 1
Summary: What this host has without rpm's knowledge
License: None
BuildArch: noarch
AutoReqProv: no
SPEC
    cat "$work/provides"
    printf '%%description\nWhat this host has without rpm having installed it.\n%%files\n'
} >"$work/host-base.spec"

rpmbuild --quiet -bb --define "_topdir $work" --define '_buildhost localhost' \
    --define 'use_source_date_epoch_as_buildtime 1' "$work/host-base.spec" 2>"$work/log" || { cat "$work/log" >&2; exit 1; }
rpm --install --nodeps "$work"/RPMS/noarch/host-base-1-1.noarch.rpm 2>"$work/log" || { cat "$work/log" >&2; exit 1; }
# sqlite's shared memory differs each time, and holds nothing once the log is empty.
[ -s /var/lib/rpm/rpmdb.sqlite-wal ] || rm -f /var/lib/rpm/rpmdb.sqlite-wal /var/lib/rpm/rpmdb.sqlite-shm
