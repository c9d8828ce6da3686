# No package manager has brought the application, so it removes itself.
uninstall() {
    [ -w "$root" ] || refuse "$root cannot be written by $(id -un)"
    take_lock || refuse "another installation or removal is running; wait for it to end"
    before_remove 0 9<&- || exit 1
    for one in $(versions); do
        for command in $(commands_of "$one"); do drop_command "$command"; done
        : >"$root/install/$one/kept-copy"
    done
    if [ "$(readlink "$commands/$name-ctl")" = "$root/install/ctl" ]; then rm -f "$commands/$name-ctl"; fi
    rm -f "$root/install/receipt.json"
    drop_lock
    after_remove 0 9<&- || exit 1
    if [ -d "$root" ]; then
        printf '%s is removed; what was not installed with it stays in %s\n' "$name" "$root"
    else
        printf '%s is removed\n' "$name"
    fi
}
