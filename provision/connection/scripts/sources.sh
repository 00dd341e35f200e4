# shellcheck shell=sh

# shellcheck disable=SC2016  # a name of apt
apt-get indextargets --format '$(REPO_URI)' 2>/dev/null | sort -u | while read -r uri; do
    echo "$uri"
    case $uri in
        mirror+file:*) sed -n 's/^[[:space:]]*\([a-z+]*:[^[:space:]]*\).*/\1/p' "${uri#mirror+file:}" ;;
    esac
done
