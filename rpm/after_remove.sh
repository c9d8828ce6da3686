# %postun. On an upgrade it runs last of all, with the new version in use; on a reinstallation that is this very one.

if [ "$1" -gt 0 ] && [ "$(current)" = "$version" ] && [ -x "$prefix/bin/python" ]; then exit 0; fi

# Removes bytecode that was compiled after the installation, and the folders that are then empty; no other file.
tidy() {
    for entry in "$1"/* "$1"/.[!.]* "$1"/..?*; do
        if [ -d "$entry" ] && [ ! -L "$entry" ]; then tidy "$entry"; fi
    done
    case $1 in
        */__pycache__) rm -f "$1"/*.pyc "$1"/*.pyc.* ;;
    esac
    rmdir "$1" 2>/dev/null
}

rm -f "$support/unpacked"
for folder in "$prefix" "$support"; do
    if [ -d "$folder" ]; then tidy "$folder"; fi
done

if [ "$1" -gt 0 ]; then
    read_state
    # Another version is installed too. If this one was in use, that one takes its place; if this one had failed, what
    # is in use is no longer in doubt.
    other=
    if [ ! -x "$root/$(current)/bin/python" ]; then
        for folder in "$root"/[0-9]*; do
            if [ -x "$folder/bin/python" ]; then other=${folder##*/}; fi
        done
        if [ -n "$other" ]; then point_current_to "$other" && state_version=$version; fi
    fi
    if [ "$state_version" = "$version" ]; then write_state ok "$(current)" ""; fi
    exit 0
fi

rm -f "$state" "$root/install/.state" "$root/.current" "$root/current"
rmdir "$root/install" "$root" 2>/dev/null

hook_script
