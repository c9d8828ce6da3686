# What all scriptlets and the application's <name>-ctl share, under rpm and dpkg alike. Before it stand assignments:
#   name            the application's name
#   app_version     its version, as its author writes it
#   version         the version's folder
#   order           a text that sorts, byte by byte, as the versions do
#   root            the folder of all versions
#   keep            how many versions stay beside the one in use
#   needed_kib      what this version takes on the disk
#   owns_tree       "yes" where this package carries the version's folders, "no" where a package of their own does
#   built_root      the root that the version was built for; it may lie elsewhere if
#   longest_prefix  (how many bytes the path of a version may have then) is not empty
#   commands        the folder of the commands
#   makes_commands  not empty where the package manager does not bring the commands
# and the function hook_script, which runs the one hook of this scriptlet, or does nothing.

umask 022
prefix=$root/$version
support=$root/install/$version
state=$root/install/state
kept=$root/install/kept
action=remove # what happens, as hooks are told, unless the scriptlet says otherwise
old_version=$app_version

say() { printf '%s %s: %s\n' "$name" "$version" "$1" >&2; }

# Whether the application stays, be it in another version. rpm tells how many versions do, dpkg gives a word.
stays() {
    case $1 in
        0 | remove | purge | disappear | abort-install) return 1 ;;
    esac
}

# The version in use, by its folder's name; empty where there is none.
current() { readlink "$root/current" 2>/dev/null; }

# Whether a version is installed, and not only kept or laid down. With a package of its own for the environment, the
# application's leaves a mark for each of its versions.
is_installed() {
    if [ -d "$root/install/labels" ]; then [ -f "$root/install/labels/$1" ]; else [ ! -f "$root/install/$1/kept-copy" ]; fi
}

# Makes the disk hold a file or a folder's names; where `sync` is older than that, it takes care of everything.
hold() { sync "$1" 2>/dev/null || :; }

# One rename: who looks sees the old version or the new one. A power cut must find it on the disk before the files that
# it led to are removed.
point_current_to() { ln -sfn "$1" "$root/.current" && mv -fT "$root/.current" "$root/current" && hold "$root"; }

# <name>-ctl is that of the version installed last.
point_ctl_to() { ln -sfn "$1/ctl" "$root/install/.ctl" && mv -fT "$root/install/.ctl" "$root/install/ctl"; }

# What a version says of itself: author_version and its order.
read_version() {
    author_version=
    order_of_it=
    if [ -f "$root/install/$1/version" ]; then
        { read -r author_version && read -r order_of_it; } <"$root/install/$1/version"
    fi
}

# Where no other version is in use, a version is installed, be it once more.
name_installing_action() {
    action=install
    old_version=
    previous=${in_use_before-$(current)}
    case $previous in
        '' | install/*) previous= && return ;;
    esac
    read_version "$previous"
    old_version=$author_version
    if [ "$previous" != "$version" ]; then
        action=upgrade
        if LC_ALL=C expr "X$order_of_it" '>' "X$order" >/dev/null; then action=downgrade; fi
    fi
}

# How the last installation stands: "installing", "ok", "failed" or "rolled-back", the version that it was about (behind
# it "new", if its folder holds only what is being unpacked), and why.
write_state() {
    mkdir -p "$root/install" && printf '%s %s\n%s\n' "$1" "$2" "$3" >"$root/install/.state" &&
        hold "$root/install/.state" && mv -f "$root/install/.state" "$state"
}

read_state() {
    status=ok
    state_version=$version
    state_mark=
    if [ -f "$state" ]; then read -r status state_version state_mark <"$state"; fi
}

# What makes $prefix a path that the version cannot be placed at; nothing where it can.
prefix_fault() {
    if [ -z "$longest_prefix" ]; then return; fi
    bytes=$(printf '%s' "$prefix" | wc -c)
    if [ "$bytes" -gt "$longest_prefix" ]; then
        printf '%s has %s bytes; the packages have room for %s' "$prefix" "$((bytes))" "$longest_prefix"
    fi
    case $prefix in
        *[\'\"\\\$\`:%]* | *[[:cntrl:]]*)
            printf '%s holds a character that programs would not read as a part of a path' "$prefix" ;;
    esac
    # A unit's program must be one word.
    if [ -n "$has_units" ] && [ "$root" != "$built_root" ]; then
        case $root in
            *[!A-Za-z0-9_./+-]*) printf 'units of systemd cannot name %s' "$root" ;;
        esac
    fi
}

commands_of() {
    for stub in "$root/install/$1"/unfinished/bin/*; do
        if [ -L "$stub" ]; then printf '%s\n' "${stub##*/}"; fi
    done
}

# Links commands of version $2, and removes the links of those that only version $1 has.
switch_commands() {
    if [ -z "$makes_commands" ]; then return 0; fi
    for command in $(commands_of "$1"); do
        if [ ! -L "$root/install/$2/unfinished/bin/$command" ]; then drop_command "$command"; fi
    done
    mkdir -p "$commands" || return
    for command in $(commands_of "$2"); do
        ln -sfn "$root/current/bin/$command" "$commands/.$command.$name" &&
            mv -fT "$commands/.$command.$name" "$commands/$command" || return
    done
}

drop_command() {
    if [ "$(readlink "$commands/$1")" = "$root/current/bin/$1" ]; then rm -f "$commands/$1"; fi
}

# Says which commands do not lead to the version in use.
wrong_commands() {
    for command in $(commands_of "$1"); do
        place=$root/current/bin/$command
        if [ "$(readlink -f "$commands/$command")" != "$(readlink -f "$place")" ]; then
            printf '%s/%s does not lead to %s\n' "$commands" "$command" "$place"
        fi
    done
}

# A hook is the user's own script. It comes as standard input; its interpreter and that one's argument are the rest.
# What it says goes to a file first: a service that it leaves running would hold a pipe open for ever.
run_hook() {
    moment=$1
    file=$2
    shift 2
    folder=$(mktemp -d) || return
    mkdir "$folder/hook" && cat >"$folder/hook/$file" || return
    hook_status=0
    env BOXSNAKE_ACTION="$action" BOXSNAKE_PREFIX="$prefix" BOXSNAKE_NAME="$name" BOXSNAKE_VERSION="$app_version" \
        BOXSNAKE_OLD_VERSION="$old_version" BOXSNAKE_ROOT="$root" PATH="$prefix/bin:$PATH" \
        "$@" "$folder/hook/$file" </dev/null >"$folder/said" 2>&1 || hook_status=$?
    cat "$folder/said"
    if [ "$hook_status" -ne 0 ]; then
        hook_fault="the $moment hook ($file) failed with exit status $hook_status"
        say "$hook_fault"
        hook_fault="$hook_fault; it said last:
$(tail -n 5 "$folder/said")"
    fi
    rm -rf "$folder"
    return "$hook_status"
}

# Whether the host can take this version. Says what is against it by `refuse`.
check_host() {
    existing=$root
    while [ ! -d "$existing" ]; do
        existing=${existing%/*}
        existing=${existing:-/}
    done
    # The package manager itself knows only of what it unpacks, not of what is unpacked after it.
    if [ "$(current)" != "$version" ]; then
        free_kib=$(df -Pk "$existing" 2>/dev/null | { read -r _; read -r _ _ _ free _; printf '%s' "$free"; })
        case $free_kib in
            '' | *[!0-9]*) ;;
            *) [ "$free_kib" -ge "$needed_kib" ] ||
                refuse "needs $needed_kib KiB on the file system of $existing, which has $free_kib KiB free" ;;
        esac
    fi
    probe=$existing/.$name.probe # one name: a run that was killed left none but this
    { printf '#!/bin/sh\n' >"$probe" && chmod 700 "$probe"; } 2>/dev/null || {
        rm -f "$probe" 2>/dev/null
        refuse "$existing cannot be written"
    }
    "$probe" 2>/dev/null || {
        rm -f "$probe"
        refuse "nothing can be run from the file system of $existing; is it mounted noexec?"
    }
    rm -f "$probe"
}

# What the linker's own interpreter needs, where that is shared: the shell puts it together. The linker then looks at
# all of it again.
lay_interpreter() {
    if [ ! -f "$root/install/$1/interpreter" ] || "$root/$1/bin/python" -I -B -S -c "$linker_needs" 2>/dev/null; then
        return 0
    fi
    while IFS= read -r shared; do
        cp -alf "$shared/." "$root/$1/" 2>/dev/null || cp -af "$shared/." "$root/$1/" || return
    done <"$root/install/$1/interpreter"
}
linker_needs='import hashlib, json, os, pathlib, shutil, stat, tarfile'

# The files that its interpreter is made of can depend on where it lies; it starts from others all the same.
lay_unplaced() {
    if [ -d "$root/install/$1/unplaced" ] && ! "$root/$1/bin/python" -I -B -S -c 'import hashlib, json' 2>/dev/null; then
        cp -af "$root/install/$1/unplaced/." "$root/$1/"
    fi
}

# What puts files to their places, and looks at them later: link.py what is packed as archives or shared, place.py what
# depends on where the version lies.
run_linkers() {
    linkers_status=0
    for one in link place; do
        if [ ! -f "$root/install/$2/$one.py" ]; then continue; fi
        word=$1
        if [ "$word" = put ]; then word=$one; fi
        "$root/$2/bin/python" -I -B -S "$root/install/$2/$one.py" "$word" "$root/install/$2" "$root/$2" ||
            linkers_status=1
    done
    return "$linkers_status"
}

# Puts to its place what a version's package does not carry file by file; says why that fails.
link_version() {
    if [ ! -f "$root/install/$1/link.py" ] && [ ! -f "$root/install/$1/place.py" ]; then return 0; fi
    lay_unplaced "$1" 2>&1 && lay_interpreter "$1" 2>&1 && run_linkers put "$1" 2>&1 || return
    # Files that the package manager did not write have not got the labels that SELinux's policy gives to their paths.
    if command -v selinuxenabled >/dev/null && selinuxenabled; then restorecon -R "$root/$1"; fi
    return 0
}

# Says what of a version is not as it was put to its place.
verify_linked() { run_linkers verify "$1"; }

# Removes what was linked into a version, where the package manager does not. A copy that is kept has its own links.
unlink_version() {
    if [ -f "$root/install/$1/link.py" ]; then remove_files "$1"; fi
    rm -f "$root/install/$1/unpacked"
}

# Whether a version is whole and works; says what is wrong, each fault on a line. "full" reads every file,
# "quick" does not, "present" starts nothing of the application either.
check_version() {
    interpreter=$root/$1/bin/python
    if ! "$interpreter" -I -S -B -c '' 2>/dev/null; then
        printf 'its interpreter %s does not start\n' "$interpreter"
        if [ "$2" = full ]; then
            (cd "$root/$1" && cat "$root/install/$1/sums" "$root/install/$1/placed-sums" 2>/dev/null |
                sha256sum -c 2>/dev/null | grep -v ': OK$')
        fi
        return 1
    fi
    timeout 600 "$interpreter" -I -B "$root/install/$1/check.py" "$2" "$root/install/$1" "$root/$1" 2>&1 && return
    check_status=$?
    if [ "$check_status" -ne 1 ]; then printf 'its check ended with exit status %s\n' "$check_status"; fi
    return 1
}

# Removes bytecode that was compiled after the installation, and the folders that are then empty; no other file.
tidy() { tell_folders "$1" | remove_empty "$1"; }

# Every folder, each behind those that lie in it; bytecode in them is removed.
tell_folders() {
    for entry in "$1"/* "$1"/.[!.]* "$1"/..?*; do
        if [ -d "$entry" ] && [ ! -L "$entry" ]; then tell_folders "$entry"; fi
    done
    case $1 in
        */__pycache__) drop_bytecode "$1"/*.pyc "$1"/*.pyc.* ;;
    esac
    printf '%s\n' "$1"
}

drop_bytecode() {
    for file; do
        if [ -e "$file" ] || [ -L "$file" ]; then
            rm -f "$@"
            return
        fi
    done
}

# Some at a time, as below.
remove_empty() (
    top=$1
    set --
    while IFS= read -r folder; do
        # A name with a line feed in it comes as several.
        case $folder in
            "$top" | "$top"/*) set -- "$@" "$folder" ;;
        esac
        if [ "$#" -ge 100 ]; then
            rmdir "$@" 2>/dev/null
            set --
        fi
    done
    if [ "$#" -gt 0 ]; then rmdir "$@" 2>/dev/null; fi
    [ ! -d "$top" ]
)

# This version leaves: what came into its folders after the installation, but for what users made.
tidy_version() {
    if [ "$owns_tree" != yes ]; then return 0; fi
    for folder in "$prefix" "$support"; do
        if [ -d "$folder" ]; then tidy "$folder"; fi
    done
}

# Removes what an installation left that was killed while its files were unpacked.
remove_unfinished() {
    read_state
    if [ "$status" != installing ]; then return; fi
    for link in /usr/bin/*\;????????; do
        case $(readlink "$link") in
            *"$root/current/bin/"*) rm -f "$link" ;;
        esac
    done
    remove_unpacked "$root/bin"
    remove_unpacked "$root/install/labels"
    if [ "$state_mark" = new ] && [ "$state_version" != "$(current)" ]; then
        rm -rf "${root:?}/${state_version:?}" "$root/install/$state_version"
    else
        remove_unpacked "$root/$state_version"
        remove_unpacked "$root/install/$state_version"
    fi
}

# Versions that are kept. The package manager removes a version's files as soon as another one is installed. So a copy
# of hard links is made before (.kept-<version>) and brought to the version's place after. install/kept names the
# versions that stay, the one used last first; install/<version>/kept-copy marks those that no package owns.

listed() { cat "$kept" 2>/dev/null; }

is_listed() {
    case " $(listed) " in
        *" $1 "*) return 0 ;;
    esac
    return 1
}

# Lists the version that was in use before this one, and those that were listed before.
write_kept() {
    chosen=
    count=0
    for one in $previous $(listed); do
        case " $chosen $version " in
            *" $one "*) continue ;;
        esac
        if [ "$count" -ge "$keep" ]; then break; fi
        chosen="$chosen $one"
        count=$((count + 1))
    done
    printf '%s\n' "${chosen# }" >"$root/install/.kept" && mv -f "$root/install/.kept" "$kept"
}

# Copies a version aside, before its package goes.
copy_aside() {
    copy=$root/.kept-$1
    if [ -d "$copy" ]; then return 0; fi # made by a run that was killed, perhaps while the files were being removed
    rm -rf "$copy.new"
    mkdir "$copy.new" && cp -al "$root/$1" "$copy.new/tree" && cp -al "$root/install/$1" "$copy.new/support" &&
        rm -rf "$copy.new/support/archives" && mv "$copy.new" "$copy" && return
    rm -rf "$copy.new"
    return 1
}

# Brings the copy to its place, after the package went.
bring_back() {
    copy=$root/.kept-$1
    rm -rf "$copy.new"
    if [ ! -d "$copy" ]; then return 0; fi
    put_back "$copy/support" "$root/install/$1" && : >"$root/install/$1/kept-copy" && put_back "$copy/tree" "$root/$1" &&
        rmdir "$copy"
}

# What still lies at the place is the users' own, and newer than its copy.
put_back() {
    if [ ! -d "$1" ]; then return 0; fi
    if [ -d "$2" ]; then cp -alf "$2/." "$1/" && rm -rf "$2" || return; fi
    mv -T "$1" "$2"
}

# Removes what a package once put into a version's folders; what users made there stays.
drop() {
    if [ -d "$root/$1" ]; then
        remove_files "$1"
        tidy "$root/$1"
    fi
    rm -rf "$root/install/$1"
}

# Removes all files and links of a version's tree.
remove_files() {
    {
        cut -c 67- "$root/install/$1/sums"
        cut -c 67- "$root/install/$1/placed-sums" 2>/dev/null
        cut -f 1 "$root/install/$1/links"
    } | remove_listed "$root/$1"
}

# Some at a time: a program's start takes longer than removing a file.
remove_listed() (
    cd "$1" || exit
    set --
    while IFS= read -r path; do
        set -- "$@" "./$path"
        if [ "$#" -ge 100 ]; then
            rm -f "$@"
            set --
        fi
    done
    rm -f "$@"
)

# Drops the copies that are listed no longer; all of them if nothing is listed.
drop_unlisted() {
    for mark in "$root"/install/*/kept-copy; do
        if [ ! -f "$mark" ]; then continue; fi
        found=${mark%/kept-copy}
        found=${found##*/}
        if [ "$found" != "$(current)" ] && ! is_listed "$found"; then drop "$found"; fi
    done
}

# The application leaves the host: removes the versions that no package owns, and what scriptlets have written.
forget_versions() {
    remove_unfinished
    rm -f "$root/current" "$root/.current" "$kept" "$root/install/.kept"
    for copy in "$root"/.kept-*; do
        if [ -d "$copy" ]; then bring_back "${copy#"$root"/.kept-}"; fi
    done
    drop_unlisted
    rm -f "$state" "$root/install/.state" "$root/install/ctl" "$root/install/.ctl" "$root/.$name.probe"
}
