# %pre of a package of the store that applications share: what an installation left that was killed.

remove_unpacked "$folder"
