# shellcheck shell=sh
# dpkg knows a file by the path in its package, with or without /usr.

. deploys/ops/paths/scripts/originals.sh
: "${unit?}"
file=$(systemctl show -p FragmentPath --value "$unit" 2>/dev/null)
[ "$file" ] && ! earlier || exit 0
packaged=$(package_of "${file#/usr}"; package_of "/usr${file#/usr}")
[ "$packaged" ] || exit 0
for name in $packaged; do
    grep -qsxF -e "brought $name" "$package_records"/* || { echo foreign; exit 0; }
done
