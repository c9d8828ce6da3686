unpack() { tail -c "$payload_size" "$0" | gzip -dc | tar -xof - -C "$1"; }

# The environment alone, which nothing else on the machine knows of.
if [ "$task" = extract ]; then
    if [ -e "$place" ] && [ -n "$(ls -A "$place" 2>&1)" ]; then fail 3 "$place is there already, and not empty"; fi
    mkdir -p "${place%/*}" || fail 3 "${place%/*} cannot be made"
    part=$(mktemp -d "$place.XXXXXX") || fail 3 "${place%/*} cannot be written"
    trap 'rm -rf "$part"' EXIT
    trap 'exit 130' INT TERM HUP
    root=$part
    support=$part/install/$version
    prefix=$place
    reason=$(prefix_fault)
    [ -z "$reason" ] || fail 3 "$reason"
    unpack "$part" || fail 3 "could not be unpacked into $part"
    lay_unplaced "$version" &&
        "$part/$version/bin/python" -I -B -S "$support/place.py" place "$support" "$place" "$part/$version" || exit 1
    if [ -d "$place" ]; then rmdir "$place" || fail 3 "$place was filled meanwhile"; fi
    mv "$part/$version" "$place" || exit 1
    printf '%s lies in %s\n' "$title" "$place"
    exit
fi

if [ -z "$yes" ]; then
    [ -t 0 ] || fail 2 "would install $title into $place; there is nobody to ask, so say --yes"
    printf 'Install %s into %s? [y/N] ' "$title" "$place"
    read -r answer
    case $answer in
        [yY] | [yY][eE][sS]) ;;
        *) fail 2 "nothing was done" ;;
    esac
fi

# Folders that were made for nothing.
take_back_folders() {
    drop_lock
    folder=$root
    while [ "$folder" != "$existing" ] && rmdir "$folder" 2>/dev/null; do
        folder=${folder%/*}
        folder=${folder:-/}
    done
}

# This version goes; what was in use before stays.
abandon() {
    case $(current) in
        "$version") return ;;
        install/*)
            for command in $new_commands; do drop_command "$command"; done
            rm -f "$root/current"
            ;;
    esac
    if [ -n "$is_new" ]; then rm -rf "$prefix" "$support"; fi
    if [ -z "$(current)" ]; then
        rm -f "$state" "$kept" "$root/install/ctl" "$root/install/.state" "$root/install/.ctl"
        rmdir "$root/install" 2>/dev/null
        take_back_folders
        return
    fi
    # Of one that failed the state tells; of one that was broken off, there is nothing to tell.
    read_state
    if [ "$status" = installing ]; then
        printf '%s\n' "$state_before" >"$root/install/.state" && mv -f "$root/install/.state" "$state"
    fi
}

write_receipt() {
    printf '{"format": 1, %s, "prefix": "%s", "environment": "%s"}\n' "$receipt" "$place" "$prefix" \
        >"$root/install/.receipt" && mv -f "$root/install/.receipt" "$root/install/receipt.json"
}

refuse() { fail 3 "$1"; }
reason=$(prefix_fault)
[ -z "$reason" ] || refuse "$reason"
if [ -e "$root" ] && [ ! -d "$root/install" ] && [ -n "$(ls -A "$root" 2>&1)" ]; then
    refuse "$root is there already, and is no installation of $app"
fi
check_host
mkdir -p "$root" || refuse "$root cannot be made"
take_lock || refuse "another installation or removal of $app in $place is running; wait for it to end"

read_state
if [ "$(current)" = "$version" ] && [ "$status" = ok ] && [ -z "$(wrong_commands "$version")" ] &&
    check_version "$version" full >/dev/null; then
    printf '%s is installed in %s already, and whole\n' "$title" "$place"
    exit 0
fi

state_before=$(cat "$state" 2>/dev/null)
is_new=
[ -e "$prefix" ] || is_new=yes
before_install 9<&- || {
    if [ -z "$(current)" ]; then take_back_folders; fi
    exit 3
}
[ -e "$prefix" ] || is_new=yes # it made way
trap 'abandon; exit 130' INT
trap 'abandon; exit 143' TERM HUP
unpack "$root" 9<&- || {
    abandon
    fail 1 "could not be unpacked into $root; is there enough space?"
}
after_install 9<&- || {
    abandon
    exit 1
}
trap '' INT TERM HUP
: >"$support/kept-copy" # no package manager's: it goes when it is listed no longer
if ! { write_receipt && ln -sfn "$root/install/ctl" "$commands/.$name-ctl" &&
    mv -fT "$commands/.$name-ctl" "$commands/$name-ctl"; }; then
    fail 1 "$title is in use, but $commands/$name-ctl could not be made"
fi
printf '%s is installed in %s: %s\n' "$title" "$place" "$commands/$name-ctl"
for command in $new_commands; do printf '  %s\n' "$commands/$command"; done
case :$PATH: in
    *":$commands:"*) ;;
    *) printf '%s is not in PATH\n' "$commands" ;;
esac
exit 0
