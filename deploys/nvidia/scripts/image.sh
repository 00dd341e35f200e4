# shellcheck shell=sh
# Print the running image, else that of any release.

running=$(sed -n 's/^IMAGE=//p' /opt/clawd/current/image.env 2>/dev/null)
for image in $running $(docker image ls --quiet --no-trunc clawd-runtime 2>/dev/null); do
    if docker image inspect "$image" >/dev/null 2>&1; then echo "$image"; break; fi
done
