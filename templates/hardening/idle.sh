# Written by clawd-provision; changes made here by hand are replaced.
# End shells that wait at their prompt for this many seconds, so that unattended terminals are not left open.
# Shells in tmux and screen are excluded, and a time that the user has set is kept.
case $- in
    *i*)
        if [ -z "${TMOUT-}${TMUX-}${STY-}" ]; then
            TMOUT={{ seconds }}
        fi
        ;;
esac
