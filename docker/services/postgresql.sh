# Runs as root inside the new system. The package has made a cluster, which every container starts from.

conf=$(echo /etc/postgresql/*/main)
bin=$(echo /usr/lib/postgresql/*/bin)
[ -f "$conf/postgresql.conf" ] || { echo "error: the package has made no cluster" >&2; exit 1; }
cat >>"$conf/pg_hba.conf" <<'END'
host all all all scram-sha-256
END
chown -R postgres:postgres "$conf"
cat >/usr/local/bin/postgresql-is-ready <<END
#!/bin/sh
exec $bin/pg_isready --quiet --host 127.0.0.1
END
cat >/usr/local/bin/start-postgresql <<END
#!/bin/sh
# Set the user, the password and the database that the environment names, then serve. What it holds is not kept, so it
# need not wait for the disk.
set -eu
conf=$conf
bin=$bin
END
cat >>/usr/local/bin/start-postgresql <<'END'
user=${POSTGRES_USER:-postgres}
database=${POSTGRES_DB:-$user}
password=${POSTGRES_PASSWORD:-}
[ -n "$password" ] || { echo "POSTGRES_PASSWORD is not set, and nobody could log in without one" >&2; exit 1; }
text() { printf "'%s'" "$(printf %s "$1" | sed "s/'/''/g")"; }
name() { printf '"%s"' "$(printf %s "$1" | sed 's/"/""/g')"; }
{
    [ "$user" = postgres ] || echo "CREATE USER $(name "$user") SUPERUSER;"
    echo "ALTER USER $(name "$user") PASSWORD $(text "$password");"
    [ "$database" = postgres ] || echo "CREATE DATABASE $(name "$database") OWNER $(name "$user");"
} | "$bin/postgres" --single -D "$conf" -c log_min_messages=warning -c fsync=off postgres >/dev/null
unset POSTGRES_PASSWORD
exec "$bin/postgres" -D "$conf" -c 'listen_addresses=*' -c ssl=off -c fsync=off -c full_page_writes=off \
    -c unix_socket_directories=/tmp -c external_pid_file=
END
chmod 755 /usr/local/bin/start-postgresql /usr/local/bin/postgresql-is-ready
