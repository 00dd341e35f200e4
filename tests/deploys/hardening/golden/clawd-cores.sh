# Written by clawd-provision; changes made here by hand are replaced.
ulimit -c 0
