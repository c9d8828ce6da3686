#!/bin/sh
# @TITLE@: an application with its interpreter and libraries, as one file that runs.
# `--appimage-help` tells how. What follows these lines is no text.

NAME='@NAME@'
VERSION='@VERSION@'
MACHINE='@MACHINE@'
LOADER='@LOADER@'
GLIBC='@GLIBC@'
LONGEST='@LONGEST@'
DIGEST='@DIGEST@'
SIZE='@SIZE@'
SEED_AT='@SEED_AT@'
SEED_SIZE='@SEED_SIZE@'
IMAGE_AT='@IMAGE_AT@'

refuse() {
    printf '%s: %s\n' "$NAME" "$1" >&2
    exit "${2-125}"
}

usage() {
    cat <<END
$NAME $VERSION

    ${file##*/} [ARGUMENTS]              start the application

    --appimage-extract             extract it into ./squashfs-root, where AppRun starts it
    --appimage-extract-and-run     start it from the cache, not from a mount
    --appimage-mount               mount it, print where, and unmount it on Ctrl-C
    --appimage-offset              print where in this file its squashfs begins
    --appimage-selfcheck           compare this file and what is in it with what was made
    --appimage-version             print the application's name and version
    --appimage-help                print this

Environment:
    BOXSNAKE_RUN=NAME              start this program of it instead ("python"), or "module:function"
    BOXSNAKE_MOUNT=MODE            "loop" (root's), "fuse" or "extract"; else what can be had, in this order
    BOXSNAKE_CACHE=FOLDER          where it is mounted and extracted (default: ~/.cache/boxsnake)
    APPIMAGE_EXTRACT_AND_RUN=1     as --appimage-extract-and-run
END
}

has() { command -v "$1" >/dev/null 2>&1; }

find_file() {
    case $0 in
    */*) file=$0 ;;
    *) if [ -f "./$0" ]; then file=./$0; else file=$(command -v -- "$0"); fi ;;
    esac
    file=$(readlink -f -- "$file" 2>/dev/null || readlink -f "$file")
    [ -r "$file" ] || refuse "cannot be read. Make it readable for those who run it."
    size=$(stat -L -c %s "$file" 2>/dev/null || wc -c <"$file")
    [ "$size" = "$SIZE" ] || refuse "$file has $size bytes and should have $SIZE. Copy it again."
}

check_host() {
    machine=$(uname -m)
    [ "$machine" = "$MACHINE" ] || refuse "is for processors of the kind $MACHINE; this is $machine."
    [ -e "$LOADER" ] || refuse "glibc $GLIBC or newer is needed, and this host has another C library (no $LOADER)."
}

# A folder that we could make what we run in: ours alone, with a name that may stand in programs.
usable() {
    case $1 in
    /*) ;;
    *) return 1 ;;
    esac
    case $1 in
    *[\'\"\\\$\`:%]*) return 1 ;;
    esac
    [ "${#1}" -le "$((LONGEST - ${#key} - 24))" ] || return 1
    if [ ! -d "$1/$key" ]; then
        (umask 077 && mkdir -p "$1/$key") 2>/dev/null || return 1
    fi
    [ ! -L "$1" ] && [ -O "$1" ] && [ -O "$1/$key" ] && [ -w "$1/$key" ] || return 1
    [ -d "$1/$key/runs" ] && return 0
    # A file system may forbid to run what lies in it.
    printf '#!/bin/sh\n' >"$1/$key/probe.$$" && chmod 700 "$1/$key/probe.$$" && "$1/$key/probe.$$" 2>/dev/null
    runs=$?
    rm -f "$1/$key/probe.$$"
    [ "$runs" = 0 ] || return 1
    case $(ls -ld "$1/$key") in
    drwx------*) mkdir -p "$1/$key/runs" ;;
    *) return 1 ;;
    esac
}

find_state() {
    key=$NAME-$(printf %.20s "$DIGEST")
    if [ -n "${BOXSNAKE_CACHE-}" ]; then
        found=$BOXSNAKE_CACHE
        usable "$found" || refuse "cannot use BOXSNAKE_CACHE=$found: $why"
    else
        found=
        home=${HOME-}
        # Another user's home may be changed by that user.
        [ -O "$home" ] || home=
        for folder in "${XDG_CACHE_HOME:+$XDG_CACHE_HOME/boxsnake}" "${home:+$home/.cache/boxsnake}" \
            "/var/tmp/boxsnake-$uid" "/tmp/boxsnake-$uid"; do
            if usable "$folder"; then
                found=$folder
                break
            fi
        done
        [ -n "$found" ] || refuse "finds no folder to use. Name one with BOXSNAKE_CACHE: $why"
    fi
    state=$(CDPATH='' cd -- "$found/$key" && pwd -P) || exit 125
}
why="it must be yours, writable, allow programs to run, and have a path of no more than $((LONGEST - 64)) bytes without quotes, \$, backslash, \`, : and %."

# The image's own Python, without the image: it verifies, extracts and places.
unfold() {
    seed=$state/seed.$$
    # One that was killed left its own behind; none lasts longer than this.
    find "$state" -maxdepth 1 -name 'seed.*' -mmin +60 -exec rm -rf {} + 2>/dev/null
    (umask 077 && mkdir "$seed") || refuse "cannot write to $state."
    trap 'rm -rf "$seed"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    dd if="$file" bs=4096 skip="$((SEED_AT / 4096))" count="$(((SEED_SIZE + 4095) / 4096))" 2>/dev/null |
        head -c "$SEED_SIZE" | gzip -dc 2>/dev/null | tar -xf - -C "$seed" 2>/dev/null ||
        refuse "cannot be unpacked into $state: it is damaged, or there is no space."
    [ -f "$seed/unfold" ] || refuse "is damaged. Copy it again."
    LC_ALL=C.UTF-8 LD_LIBRARY_PATH="$seed/lib" "$seed/bin/python" -I -S -B -X utf8 \
        -c 'import sys; from boxsnake.userspace.unfold import main; sys.exit(main(sys.argv[1:]))' \
        "$file" "$SEED_AT" "$IMAGE_AT" "$DIGEST" "$GLIBC" "$@" ||
        refuse "could not be made ready. It needs glibc $GLIBC or newer, and room in $state."
    rm -rf "$seed"
    trap - EXIT INT TERM HUP
}

# prepared MODE MARK PREFIX: all that depends on the prefix has been placed for it.
prepared() {
    known=
    [ -f "$2" ] && IFS= read -r known <"$2"
    [ "$known" = "$3/tree" ] || unfold prepare "$1" "$state"
}

run_extracted() {
    prepared extracted "$state/extracted/.boxsnake/prefix" "$state/extracted"
    exec "$state/extracted/AppRun" "$@"
}

prepare_mounted() {
    image=$state/mounted/image
    prepared mounted "$state/mounted/placed/prefix" "$image"
}

# In a name space of its own the mount is gone when the last process is, however that ends.
run_from_loop() {
    has unshare && unshare -m true 2>/dev/null || return 0
    prepare_mounted
    # What it expands is that shell's own.
    # shellcheck disable=SC2016
    exec unshare -m sh -c '
        if mount -t squashfs -o "ro,nodev,nosuid,loop,offset=$1" "$2" "$3" 2>/dev/null; then
            image=$3
            shift 3
            exec "$image/AppRun" "$@"
        fi
        file=$2
        shift 3
        BOXSNAKE_LOOP=failed exec /bin/sh "$file" "$@"' sh "$IMAGE_AT" "$file" "$image" "$@"
}

unmount() {
    if [ "$uid" = 0 ]; then umount "$1"; elif has fusermount3; then fusermount3 -u "$1"; else fusermount -u "$1"; fi
} 2>/dev/null

run_from_fuse() {
    has squashfuse && has flock && has mkfifo && [ -w /dev/fuse ] || return 0
    prepare_mounted
    # Whoever comes first mounts; an open file keeps others from unmounting.
    exec 7>"$state/mounted/lock"
    flock 7
    if [ ! -f "$image/AppRun" ]; then
        unmount "$image"
        squashfuse -o "ro,offset=$IMAGE_AT" "$file" "$image" 7>&- >/dev/null 2>&1
    fi
    [ -f "$image/AppRun" ] || { exec 7>&-; return 0; }
    exec 8<"$image/AppRun" 7>&-
    watch_fuse
    exec "$image/AppRun" "$@"
}

# Unmount when the application has gone, even if it was killed: its end of the pipe is closed then.
watch_fuse() {
    pipe=$state/mounted/pipe.$$
    rm -f "$pipe"
    mkfifo "$pipe"
    (
        trap '' INT TERM HUP
        exec 8<&-
        IFS= read -r _ <"$pipe"
        # It is busy as long as another run, or a child, uses it.
        until unmount "$image" || [ ! -f "$image/AppRun" ]; do sleep 2; done
    ) </dev/null >/dev/null 2>&1 &
    exec 9>"$pipe"
    rm -f "$pipe"
}

run() {
    mode=${BOXSNAKE_MOUNT-}
    [ -z "${APPIMAGE_EXTRACT_AND_RUN-}" ] || mode=extract
    [ -z "${BOXSNAKE_LOOP-}" ] || failed=1
    unset BOXSNAKE_LOOP
    export APPIMAGE="$file" ARGV0="$0" OWD="$PWD"
    case $mode in
    '')
        [ ! -f "$state/extracted/.boxsnake/prefix" ] || run_extracted "$@"
        [ "$uid" != 0 ] || [ -n "${failed-}" ] || run_from_loop "$@"
        run_from_fuse "$@"
        run_extracted "$@"
        ;;
    loop)
        [ -n "${failed-}" ] || [ "$uid" != 0 ] || run_from_loop "$@"
        refuse "cannot be mounted here: that takes root, unshare, mount and a kernel with squashfs."
        ;;
    fuse)
        run_from_fuse "$@"
        refuse "cannot be mounted here: that takes squashfuse, flock and access to /dev/fuse."
        ;;
    extract) run_extracted "$@" ;;
    *) refuse "BOXSNAKE_MOUNT is \"loop\", \"fuse\" or \"extract\", not \"$mode\"." 2 ;;
    esac
}

mount_and_wait() {
    point=$(mktemp -d "${TMPDIR:-/tmp}/.mount_$NAME.XXXXXX") || exit 125
    state=$(CDPATH='' cd -- "$point" && pwd -P)
    prepare_mounted
    trap 'kill "$!" 2>/dev/null; unmount "$image"; rm -rf "$point"/mounted/placed; rm -f "$point"/lock
        rmdir "$image" "$point/mounted" "$point"; exit 0' INT TERM HUP
    if ! { [ "$uid" = 0 ] && mount -t squashfs -o "ro,nodev,nosuid,loop,offset=$IMAGE_AT" "$file" "$image" 2>/dev/null; } &&
        ! { has squashfuse && squashfuse -o "ro,offset=$IMAGE_AT" "$file" "$image" >/dev/null 2>&1; }; then
        rm -rf "$point"
        refuse "cannot be mounted here: that takes root, or squashfuse. --appimage-extract extracts it."
    fi
    printf '%s\n' "$image"
    while :; do
        sleep 3600 >/dev/null 2>&1 &
        wait "$!"
    done
}

extract_here() {
    here=$(pwd -P)
    [ ! -e squashfs-root ] || refuse "$here/squashfs-root is there already. Remove it, or go elsewhere."
    state=$here/.squashfs-root.$$
    (umask 077 && mkdir "$state") || refuse "cannot write to $here."
    (unfold extract "$here/squashfs-root")
    code=$?
    rm -rf "$state"
    [ "$code" = 0 ] || exit "$code"
    printf '%s\n' squashfs-root
}

find_file
uid=$(id -u)
case ${1-} in
--appimage-help) usage; exit 0 ;;
--appimage-version) printf '%s %s\n' "$NAME" "$VERSION"; exit 0 ;;
--appimage-offset) printf '%s\n' "$IMAGE_AT"; exit 0 ;;
esac
check_host
case ${1-} in
--appimage-extract)
    [ "$#" = 1 ] || refuse "--appimage-extract takes no pattern: it extracts all." 2
    extract_here
    exit 0
    ;;
--appimage-mount) mount_and_wait ;;
--appimage-selfcheck)
    find_state
    unfold verify
    printf 'payload sha256:%s, as it should be\n' "$DIGEST"
    export BOXSNAKE_RUN=.selfcheck
    set --
    ;;
--appimage-extract-and-run)
    shift
    APPIMAGE_EXTRACT_AND_RUN=1
    ;;
--appimage-*) refuse "there is no option $1; --appimage-help names those that there are." 2 ;;
esac
find_state
run "$@"
exit 125
