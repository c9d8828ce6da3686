# %verifyscript, run by `rpm -V`: what rpm's own list of files cannot tell.

wrong=0
complain() {
    printf '%s %s: %s\n' "$name" "$version" "$1"
    wrong=1
}

read_state
in_use=$(current)
if [ ! -f "$state" ]; then
    complain "$state is missing: the scriptlets of the installation did not run"
elif [ "$status" = rolled-back ]; then
    complain "$in_use is in use, after a rollback (see $state)"
elif [ "$status" != ok ]; then
    complain "the installation of $state_version ended as \"$status\" (see $state)"
fi
if [ ! -x "$root/$in_use/bin/python" ]; then complain "$root/current leads to no version"; fi
fault=$(wrong_units "$in_use")
if [ -n "$fault" ]; then complain "$fault"; fi
verify_linked "$version" || wrong=1
if [ -n "$makes_commands" ]; then
    fault=$(wrong_commands "$in_use")
    if [ -n "$fault" ]; then complain "$fault"; fi
fi
exit "$wrong"
