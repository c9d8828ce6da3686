# %post and postinst of an environment that is a package of its own. rpm takes no notice if this fails; then the
# application's own package finds that its environment is not whole, and does not come into use.

rm -f "$root/install/.laying-$version" "$support/kept-copy"
reason=$(link_version "$version") || {
    say "its environment is not whole: ${reason:-its packages could not be linked}"
    exit 1
}
