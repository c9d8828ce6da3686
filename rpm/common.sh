# What all scriptlets share. Before it stand assignments:
#   name            the application's name
#   app_version     its version, as its author writes it
#   version         the version's folder
#   root            the folder of all versions
#   needed_kib      what this version takes on the disk
# and the function hook_script, which runs the one hook of this scriptlet, or does nothing.

umask 022
prefix=$root/$version
support=$root/install/$version
state=$root/install/state
action=remove # what happens, as hooks are told, unless the scriptlet says otherwise

say() { printf '%s %s: %s\n' "$name" "$version" "$1" >&2; }

# The version in use, by its folder's name; empty where there is none.
current() { readlink "$root/current" 2>/dev/null; }

# One rename: who looks sees the old version or the new one.
point_current_to() { ln -sfn "$1" "$root/.current" && mv -fT "$root/.current" "$root/current"; }

# Where no other version is in use, a version is installed, be it once more.
name_installing_action() {
    case $(current) in
        '' | "$version" | install/*) action=install ;;
        *) action=upgrade ;;
    esac
}

# How the last installation stands: "installing", "ok" or "failed", the version that it was about, and why.
write_state() {
    mkdir -p "$root/install" && printf '%s %s\n%s\n' "$1" "$2" "$3" >"$root/install/.state" &&
        mv -f "$root/install/.state" "$state"
}

read_state() {
    status=ok
    state_version=$version
    if [ -f "$state" ]; then read -r status state_version <"$state"; fi
}

# A hook is the user's own script. It comes as standard input; its interpreter and that one's argument are the rest.
run_hook() {
    moment=$1
    file=$2
    shift 2
    folder=$(mktemp -d) || return
    cat >"$folder/$file" || return
    hook_status=0
    env BOXSNAKE_ACTION="$action" BOXSNAKE_PREFIX="$prefix" BOXSNAKE_NAME="$name" BOXSNAKE_VERSION="$app_version" \
        PATH="$prefix/bin:$PATH" "$@" "$folder/$file" </dev/null || hook_status=$?
    rm -rf "$folder"
    if [ "$hook_status" -ne 0 ]; then say "the $moment hook ($file) failed with exit status $hook_status"; fi
    return "$hook_status"
}
