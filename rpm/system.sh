# What an application has in the host's own system: a user, folders, services of systemd. Before it stand assignments,
# empty where nothing is wanted:
#   system_user     the user's name
#   system_home     its home
#   has_units       not empty where it has services
#   run_folders     "path mode owner group" on each line, of the folders that are made anew whenever the host starts
# A version's units lie in install/<version>/units and are copied to where systemd looks when that version comes into
# use: what another version needs would be wrong there. A host need not have systemd, nor be running it.

units_folder=/usr/lib/systemd/system

systemd_runs() { [ -d /run/systemd/system ] && command -v systemctl >/dev/null; }

# The names of a version's units.
units_of() {
    for unit in "$root/install/$1/units"/*.service; do
        if [ -n "$1" ] && [ -f "$unit" ]; then printf '%s\n' "${unit##*/}"; fi
    done
}

# Users are made before files come that belong to them, and stay when the package goes.
make_user() {
    if [ -z "$system_user" ]; then return 0; fi
    if command -v systemd-sysusers >/dev/null; then
        printf 'u %s - "%s" %s\n' "$system_user" "$system_user" "$system_home" |
            systemd-sysusers --replace="/usr/lib/sysusers.d/$name.conf" - >/dev/null
        return
    fi
    getent group "$system_user" >/dev/null || groupadd --system "$system_user" || return
    getent passwd "$system_user" >/dev/null ||
        useradd --system --gid "$system_user" --home-dir "$system_home" --no-create-home --shell /usr/sbin/nologin \
            --comment "$system_user" "$system_user"
}

make_run_folders() {
    while read -r path mode owner group; do
        if [ -n "$path" ]; then install -d -m "$mode" -o "$owner" -g "$group" "$path" || return; fi
    done <<END
$run_folders
END
}

# What is in use stays.
drop_run_folders() {
    while read -r path _; do
        if [ -n "$path" ]; then rmdir "$path" 2>/dev/null; fi
    done <<END
$run_folders
END
}

# A unit as it must be where the application lies.
unit_text() { sed "s|$built_root/current/|$root/current/|g" "$1"; }

# Puts the units of version $2 into the place of those of $1; either may be empty. What only $1 has is ended.
switch_units() {
    if [ -n "$1" ] && [ "$1" != "$2" ]; then
        for unit in $(units_of "$1"); do
            if [ -f "$root/install/$2/units/$unit" ]; then continue; fi
            if systemd_runs; then systemctl --quiet disable --now "$unit" || say "$unit could not be stopped"; fi
            rm -f "$units_folder/$unit"
        done
    fi
    for unit in $(units_of "$2"); do
        mkdir -p "$units_folder" && unit_text "$root/install/$2/units/$unit" >"$units_folder/.$unit" &&
            mv -f "$units_folder/.$unit" "$units_folder/$unit" || return
    done
    if systemd_runs; then systemctl daemon-reload || say "systemd could not read its units again"; fi
    return 0
}

# Services that run go on with version $2 after $1; the host's presets say whether new ones are enabled.
restart_units() {
    if ! systemd_runs; then return 0; fi
    for unit in $(units_of "$2"); do
        if [ -z "$1" ] || [ ! -f "$root/install/$1/units/$unit" ]; then
            systemctl --quiet preset "$unit" || say "$unit could not be enabled or disabled"
        fi
        systemctl try-restart "$unit" || say "$unit could not be restarted; see systemctl status $unit"
    done
}

# The application leaves the host. After a rollback the units are those of another version than the package's.
stop_units() {
    for unit in $({ units_of "$(current)"; units_of "$version"; } | sort -u); do
        if systemd_runs; then
            systemctl --quiet disable --now "$unit" || say "$unit could not be stopped"
        elif command -v systemctl >/dev/null; then
            systemctl --quiet disable "$unit" 2>/dev/null
        fi
        rm -f "$units_folder/$unit"
    done
    if systemd_runs; then systemctl daemon-reload || say "systemd could not read its units again"; fi
    return 0
}

# Says which units differ from those of the version in use.
wrong_units() {
    for unit in $(units_of "$1"); do
        if ! unit_text "$root/install/$1/units/$unit" | cmp -s - "$units_folder/$unit"; then
            printf '%s is not that of %s\n' "$units_folder/$unit" "$1"
        fi
    done
}
