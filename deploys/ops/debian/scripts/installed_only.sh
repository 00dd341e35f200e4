# shellcheck shell=sh
# Options with which apt reads only dpkg's status, and not the lists of a whole distribution: a removal and the
# marks need no more, and are computed in 50 ms instead of a second.

# shellcheck disable=SC2034  # for those who source it
installed_only="-o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts=/dev/null"
installed_only="$installed_only -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache="
