# shellcheck shell=sh
# A stamp is written when the unit is ready, and removed before the next start. A state that was changed later,
# for example by an interrupted run, has not passed.

: "${settings?}" "${engine_settings?}" "${engine_unit?}" "${bot_stamp?}" "${engine_stamp?}"
: "${further_configs?}" "${further_units?}" "${stamps?}"
further() {  # print the units of the engines of further models
    for path in $further_units; do
        if [ -f "$path" ]; then echo "${path##*/}"; fi
    done
}
further_passed() {
    for unit in $(further); do
        name=${unit#clawd-engine@}
        unchanged_since "$stamps/$unit.stamp" "${further_units%/*}/$unit" \
            "$further_configs/${name%.service}.json" || return
    done
}
invocations() {  # print the invocation IDs of the services
    # shellcheck disable=SC2046  # a list of units
    systemctl show --property=InvocationID clawd-bot clawd-engine $(further)
}
unchanged_since() {  # unchanged_since STAMP PATH...
    stamp=$1; shift
    [ -f "$stamp" ] && [ -z "$(find "$@" ! -type d -cnewer "$stamp" 2>/dev/null | head -n 1)" ]
}
passed() {
    { [ -L opt/clawd/current ] && [ -e opt/clawd/current ]; } || return
    # shellcheck disable=SC2086  # a list of paths
    unchanged_since "$bot_stamp" $settings || return
    # shellcheck disable=SC2086  # a list of paths
    [ ! -f "$engine_unit" ] || unchanged_since "$engine_stamp" $engine_settings || return
    further_passed
}
