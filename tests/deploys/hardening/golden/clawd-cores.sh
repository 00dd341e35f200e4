# Written by clawd-provision; changes made here by hand are replaced.
# shellcheck disable=SC3045  # every shell that reads /etc/profile.d has it
ulimit -c 0
