# shellcheck shell=sh

receive() {  # receive FILE: read one framed content from standard input into it
    { IFS= read -r digest && IFS= read -r data; } || { echo "the connection broke off" >&2; return 1; }
    printf '%s' "$data" | base64 -d > "$1"
    printf '%s  %s\n' "$digest" "$1" | sha256sum --check --status && return
    echo "the content arrived damaged" >&2
    return 1
}
