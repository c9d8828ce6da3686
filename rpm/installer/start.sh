# Nothing is written before the file is known to be whole: the digest is that of all that follows the third line.
fail() {
    status=$1
    shift
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit "$status"
}

found=$(wc -c <"$0")
if [ "$found" -lt "$size" ]; then fail 4 "is truncated: it has $((found)) of $size bytes; copy it again"; fi
if [ "$found" -gt "$size" ]; then fail 4 "has $((found - size)) bytes too many; copy it again, as a binary file"; fi
for tool in sha256sum tar gzip readlink df mktemp timeout; do
    command -v "$tool" >/dev/null || fail 3 "needs the program $tool, which is not in PATH"
done
case $(tail -c "+$((skip + 1))" "$0" | sha256sum) in
    "$whole "*) ;;
    *) fail 4 "is damaged: its digest is not the one that it was made with; copy it again" ;;
esac
