# One installation or removal at a time. Where the host has flock, the lock goes with its process, however that ends;
# busybox may lack it, and then a folder names the process.
take_lock() {
    if command -v flock >/dev/null; then
        exec 9<"$root" || return
        flock -n 9
        return
    fi
    if ! mkdir "$root/.lock" 2>/dev/null; then
        holder=$(cat "$root/.lock/process" 2>/dev/null)
        if [ -n "$holder" ] && [ -d "/proc/$holder" ]; then return 1; fi
        rm -rf "$root/.lock"
        mkdir "$root/.lock" || return
    fi
    trap drop_lock EXIT
    printf '%s\n' "$$" >"$root/.lock/process"
}

drop_lock() { rm -rf "$root/.lock"; }
