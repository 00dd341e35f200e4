# shellcheck shell=sh

export LC_ALL=C
same() {  # same A B: both are the same folder
    [ -d "$1" ] && [ -d "$2" ] && [ "$(stat -c %d:%i "$1")" = "$(stat -c %d:%i "$2")" ]
}
filled() { [ -d "$1" ] && [ -n "$(find "$1" -mindepth 1 ! -type d -print -quit)" ]; }
