# The last part of prerm. dpkg does not know what was linked.

unlink_version "$version"
tidy_version
exit 0
