# %postun and postrm of an environment that is a package of its own.

if stays "$1" || [ "$1" = purge ]; then exit 0; fi
rm -f "$support/unpacked" "$root/install/.laying-$version"
tidy_version
bring_back "$version"
rmdir "$root/install" "$root" 2>/dev/null || :
