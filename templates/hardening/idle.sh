# Written by clawd-provision; changes made here by hand are replaced.
# A shell that waits at its prompt for so many seconds ends, so that no terminal that was left open is a way in.
# Shells in tmux and screen are meant to stay, and who has set another time keeps it.
case $- in
    *i*)
        if [ -z "${TMOUT-}${TMUX-}${STY-}" ]; then
            TMOUT={{ seconds }}
        fi
        ;;
esac
