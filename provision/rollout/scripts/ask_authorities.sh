# shellcheck shell=sh
# Certificates of the project's authority, and what is trusted next to each; one line in base64 for each file.

: "${folders?}" "${authority?}"
for folder in $folders; do
    { [ -f "$folder/fullchain.pem" ] && [ -f "$folder/ca.pem" ]; } || continue
    echo "chain=$(base64 -w0 "$folder/fullchain.pem")"
    echo "trust=$(base64 -w0 "$folder/ca.pem")"
done
[ ! -f "$authority" ] || echo "trust=$(base64 -w0 "$authority")"
