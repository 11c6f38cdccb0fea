# Bash completion for reuse-run, reuse-launch, reuse-cgroup, reuse-group and reuse-spread.  It is
# installed under the name of each, where bash-completion looks for it.

# Options that are followed by a value.
_libreuse_valued=' -c -j -n -p --by --connections --copies --drain --expect --parallel --pid-file '
_libreuse_valued+='--ports --ready --signal --steer --stop --timeout '

# Whether the words before the one to be completed have the PROGRAM that the tool is to run.
_libreuse_has_program() {
    local number word before
    for ((number = 1; number < COMP_CWORD; number++)); do
        word=${COMP_WORDS[number]} before=${COMP_WORDS[number - 1]}
        [[ $word == [-=]* || $before == '=' || $_libreuse_valued == *" $before "* ]] || return 0
    done
    return 1
}

# Prints the cgroups that a command line can name: those that it is on at, for --remove, else all.
_libreuse_cgroups() {
    local mount
    if [[ " ${COMP_WORDS[*]} " == *' --remove '* ]]; then
        "$1" --tsv 2>/dev/null | awk -F '\t' 'NR > 1 { print $1 }'
    elif mount=$(findmnt --first-only --noheadings --output TARGET --types cgroup2); then
        echo self
        find "$mount" -mindepth 1 -type d -printf '%P\n' 2>/dev/null
    fi
}

# Completes a word of a tool's command line: options, as its --help has them, their values, and what
# follows them.
_libreuse() {
    local tool=$1 word=$2 before=$3 words
    [[ $word != '=' ]] || word='' before='='
    [[ $before != '=' ]] || before=${COMP_WORDS[COMP_CWORD - (${#word} > 0 ? 2 : 1)]}
    COMPREPLY=()
    if [[ $tool == *reuse-@(run|launch) ]] && _libreuse_has_program; then
        mapfile -t COMPREPLY < <(compgen -f -- "$word")
    elif [[ $tool == *reuse-cgroup && " ${COMP_WORDS[*]:0:COMP_CWORD} " == *' -- '* ]]; then
        words=-f
        [[ $before != -- ]] || words=-c
        mapfile -t COMPREPLY < <(compgen "$words" -- "$word" | sort --unique)
    elif [[ $before == --@(signal|relay) ]]; then
        mapfile -t COMPREPLY < <(compgen -A signal -- "SIG${word#SIG}")
    elif [[ $before == --pid-file ]]; then
        mapfile -t COMPREPLY < <(compgen -f -- "$word")
    elif [[ $_libreuse_valued == *" $before "* ]]; then
        return
    elif [[ $word == -* ]]; then
        words=$("$tool" --help 2>/dev/null | sed -nE 's/^ +(-., +)?(--[a-z-]+=?).*/\2/p')
        mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
        [[ ${COMPREPLY[0]-} != *= ]] || compopt -o nospace 2>/dev/null || true
    elif [[ $tool == *reuse-group ]]; then
        words=$("$tool" --tsv --no-wait 2>/dev/null | awk -F '\t' 'NR > 1 { sub(/lite/, "", $1); print $3 "/" $1 }')
        mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word" | sort --unique)
    elif [[ $tool == *reuse-cgroup ]]; then
        _libreuse_has_program || mapfile -t COMPREPLY < <(compgen -W "$(_libreuse_cgroups "$tool")" -- "$word")
    elif [[ $tool == *reuse-@(run|launch) ]]; then
        mapfile -t COMPREPLY < <(compgen -c -- "$word" | sort --unique)
    fi
}

complete -o default -F _libreuse reuse-run reuse-launch reuse-cgroup reuse-group reuse-spread
