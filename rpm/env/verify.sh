# %verifyscript of an environment that is a package of its own.

verify_linked "$version"
