#compdef tollgate

autoload -U is-at-least

_tollgate() {
    typeset -A opt_args
    typeset -a _arguments_options
    local ret=1

    if is-at-least 5.2; then
        _arguments_options=(-s -S -C)
    else
        _arguments_options=(-s -C)
    fi

    local context curcontext="$curcontext" state line
    _arguments "${_arguments_options[@]}" : \
'-h[Print help]' \
'--help[Print help]' \
'-V[Print version]' \
'--version[Print version]' \
":: :_tollgate_commands" \
"*::: :->tollgate" \
&& ret=0
    case $state in
    (tollgate)
        words=($line[1] "${words[@]}")
        (( CURRENT += 1 ))
        curcontext="${curcontext%:*:*}:tollgate-command-$line[1]:"
        case $line[1] in
            (serve)
_arguments "${_arguments_options[@]}" : \
'-c+[Configuration file; by default \$TOLLGATE_CONFIG, ./tollgate.toml or /etc/tollgate/tollgate.toml, whichever exists first]:FILE:_files' \
'--config=[Configuration file; by default \$TOLLGATE_CONFIG, ./tollgate.toml or /etc/tollgate/tollgate.toml, whichever exists first]:FILE:_files' \
'--log-level=[The least important lines to log, whatever the configuration says]:LEVEL:(error warn info debug trace)' \
'--log-format=[How lines are written, whatever the configuration says; auto is text on a terminal, journal where standard error goes to journald, and JSON elsewhere]:FORMAT:(auto text json journal)' \
'-h[Print help]' \
'--help[Print help]' \
'-V[Print version]' \
'--version[Print version]' \
&& ret=0
;;
(check)
_arguments "${_arguments_options[@]}" : \
'-c+[Configuration file; by default \$TOLLGATE_CONFIG, ./tollgate.toml or /etc/tollgate/tollgate.toml, whichever exists first]:FILE:_files' \
'--config=[Configuration file; by default \$TOLLGATE_CONFIG, ./tollgate.toml or /etc/tollgate/tollgate.toml, whichever exists first]:FILE:_files' \
'--otlp[Also send one real export to each receiver and explain its answer; exits with 1 if it was not accepted]' \
'-h[Print help]' \
'--help[Print help]' \
'-V[Print version]' \
'--version[Print version]' \
&& ret=0
;;
(init)
_arguments "${_arguments_options[@]}" : \
'-c+[File to write]:FILE:_files' \
'--config=[File to write]:FILE:_files' \
'--force[Overwrite the file if it exists]' \
'--stdout[Print to standard output and write no file]' \
'-h[Print help]' \
'--help[Print help]' \
'-V[Print version]' \
'--version[Print version]' \
&& ret=0
;;
(key)
_arguments "${_arguments_options[@]}" : \
'-h[Print help]' \
'--help[Print help]' \
'-V[Print version]' \
'--version[Print version]' \
":: :_tollgate__subcmd__key_commands" \
"*::: :->key" \
&& ret=0

    case $state in
    (key)
        words=($line[1] "${words[@]}")
        (( CURRENT += 1 ))
        curcontext="${curcontext%:*:*}:tollgate-key-command-$line[1]:"
        case $line[1] in
            (new)
_arguments "${_arguments_options[@]}" : \
'-h[Print help]' \
'--help[Print help]' \
'-V[Print version]' \
'--version[Print version]' \
'::name -- Name of the key in the configuration, in logs and on metrics:_default' \
&& ret=0
;;
(help)
_arguments "${_arguments_options[@]}" : \
":: :_tollgate__subcmd__key__subcmd__help_commands" \
"*::: :->help" \
&& ret=0

    case $state in
    (help)
        words=($line[1] "${words[@]}")
        (( CURRENT += 1 ))
        curcontext="${curcontext%:*:*}:tollgate-key-help-command-$line[1]:"
        case $line[1] in
            (new)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(help)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
        esac
    ;;
esac
;;
        esac
    ;;
esac
;;
(demo)
_arguments "${_arguments_options[@]}" : \
'--listen=[Address and port to serve on; port 0 takes a free one]:ADDRESS:_default' \
'--log-level=[The least important lines to log, whatever the configuration says]:LEVEL:(error warn info debug trace)' \
'--log-format=[How lines are written, whatever the configuration says; auto is text on a terminal, journal where standard error goes to journald, and JSON elsewhere]:FORMAT:(auto text json journal)' \
'-h[Print help]' \
'--help[Print help]' \
'-V[Print version]' \
'--version[Print version]' \
&& ret=0
;;
(metrics)
_arguments "${_arguments_options[@]}" : \
'-h[Print help]' \
'--help[Print help]' \
'-V[Print version]' \
'--version[Print version]' \
&& ret=0
;;
(completions)
_arguments "${_arguments_options[@]}" : \
'-h[Print help]' \
'--help[Print help]' \
'-V[Print version]' \
'--version[Print version]' \
':shell -- The shell to complete for:(bash elvish fish powershell zsh)' \
&& ret=0
;;
(man)
_arguments "${_arguments_options[@]}" : \
'-d+[Write every page to this folder, each to a file of its own, and print nothing]:FOLDER:_files' \
'--directory=[Write every page to this folder, each to a file of its own, and print nothing]:FOLDER:_files' \
'-h[Print help]' \
'--help[Print help]' \
'-V[Print version]' \
'--version[Print version]' \
'::command -- The command whose page to print; by default that of the program:_default' \
&& ret=0
;;
(help)
_arguments "${_arguments_options[@]}" : \
":: :_tollgate__subcmd__help_commands" \
"*::: :->help" \
&& ret=0

    case $state in
    (help)
        words=($line[1] "${words[@]}")
        (( CURRENT += 1 ))
        curcontext="${curcontext%:*:*}:tollgate-help-command-$line[1]:"
        case $line[1] in
            (serve)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(check)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(init)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(key)
_arguments "${_arguments_options[@]}" : \
":: :_tollgate__subcmd__help__subcmd__key_commands" \
"*::: :->key" \
&& ret=0

    case $state in
    (key)
        words=($line[1] "${words[@]}")
        (( CURRENT += 1 ))
        curcontext="${curcontext%:*:*}:tollgate-help-key-command-$line[1]:"
        case $line[1] in
            (new)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
        esac
    ;;
esac
;;
(demo)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(metrics)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(completions)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(man)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(help)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
        esac
    ;;
esac
;;
        esac
    ;;
esac
}

(( $+functions[_tollgate_commands] )) ||
_tollgate_commands() {
    local commands; commands=(
'serve:Serve requests until SIGTERM or SIGINT, then drain and export once more' \
'check:Check the configuration and print what it amounts to; exits with 2 if it is wrong' \
'init:Write a commented configuration to start from' \
'key:Make client keys' \
'demo:Try the gateway with a built-in provider\: no configuration, no internet' \
'metrics:Print every metric as a Markdown table' \
'completions:Print the completions of this command line for a shell' \
'man:Print the manual page of this program or of a command, or write all of them to a folder' \
'help:Print this message or the help of the given subcommand(s)' \
    )
    _describe -t commands 'tollgate commands' commands "$@"
}
(( $+functions[_tollgate__subcmd__check_commands] )) ||
_tollgate__subcmd__check_commands() {
    local commands; commands=()
    _describe -t commands 'tollgate check commands' commands "$@"
}
(( $+functions[_tollgate__subcmd__completions_commands] )) ||
_tollgate__subcmd__completions_commands() {
    local commands; commands=()
    _describe -t commands 'tollgate completions commands' commands "$@"
}
(( $+functions[_tollgate__subcmd__demo_commands] )) ||
_tollgate__subcmd__demo_commands() {
    local commands; commands=()
    _describe -t commands 'tollgate demo commands' commands "$@"
}
(( $+functions[_tollgate__subcmd__help_commands] )) ||
_tollgate__subcmd__help_commands() {
    local commands; commands=(
'serve:Serve requests until SIGTERM or SIGINT, then drain and export once more' \
'check:Check the configuration and print what it amounts to; exits with 2 if it is wrong' \
'init:Write a commented configuration to start from' \
'key:Make client keys' \
'demo:Try the gateway with a built-in provider\: no configuration, no internet' \
'metrics:Print every metric as a Markdown table' \
'completions:Print the completions of this command line for a shell' \
'man:Print the manual page of this program or of a command, or write all of them to a folder' \
'help:Print this message or the help of the given subcommand(s)' \
    )
    _describe -t commands 'tollgate help commands' commands "$@"
}
(( $+functions[_tollgate__subcmd__help__subcmd__check_commands] )) ||
_tollgate__subcmd__help__subcmd__check_commands() {
    local commands; commands=()
    _describe -t commands 'tollgate help check commands' commands "$@"
}
(( $+functions[_tollgate__subcmd__help__subcmd__completions_commands] )) ||
_tollgate__subcmd__help__subcmd__completions_commands() {
    local commands; commands=()
    _describe -t commands 'tollgate help completions commands' commands "$@"
}
(( $+functions[_tollgate__subcmd__help__subcmd__demo_commands] )) ||
_tollgate__subcmd__help__subcmd__demo_commands() {
    local commands; commands=()
    _describe -t commands 'tollgate help demo commands' commands "$@"
}
(( $+functions[_tollgate__subcmd__help__subcmd__help_commands] )) ||
_tollgate__subcmd__help__subcmd__help_commands() {
    local commands; commands=()
    _describe -t commands 'tollgate help help commands' commands "$@"
}
(( $+functions[_tollgate__subcmd__help__subcmd__init_commands] )) ||
_tollgate__subcmd__help__subcmd__init_commands() {
    local commands; commands=()
    _describe -t commands 'tollgate help init commands' commands "$@"
}
(( $+functions[_tollgate__subcmd__help__subcmd__key_commands] )) ||
_tollgate__subcmd__help__subcmd__key_commands() {
    local commands; commands=(
'new:Print a fresh client key once, and the lines that make the gateway accept it. The key itself is stored nowhere; the configuration holds its SHA-256' \
    )
    _describe -t commands 'tollgate help key commands' commands "$@"
}
(( $+functions[_tollgate__subcmd__help__subcmd__key__subcmd__new_commands] )) ||
_tollgate__subcmd__help__subcmd__key__subcmd__new_commands() {
    local commands; commands=()
    _describe -t commands 'tollgate help key new commands' commands "$@"
}
(( $+functions[_tollgate__subcmd__help__subcmd__man_commands] )) ||
_tollgate__subcmd__help__subcmd__man_commands() {
    local commands; commands=()
    _describe -t commands 'tollgate help man commands' commands "$@"
}
(( $+functions[_tollgate__subcmd__help__subcmd__metrics_commands] )) ||
_tollgate__subcmd__help__subcmd__metrics_commands() {
    local commands; commands=()
    _describe -t commands 'tollgate help metrics commands' commands "$@"
}
(( $+functions[_tollgate__subcmd__help__subcmd__serve_commands] )) ||
_tollgate__subcmd__help__subcmd__serve_commands() {
    local commands; commands=()
    _describe -t commands 'tollgate help serve commands' commands "$@"
}
(( $+functions[_tollgate__subcmd__init_commands] )) ||
_tollgate__subcmd__init_commands() {
    local commands; commands=()
    _describe -t commands 'tollgate init commands' commands "$@"
}
(( $+functions[_tollgate__subcmd__key_commands] )) ||
_tollgate__subcmd__key_commands() {
    local commands; commands=(
'new:Print a fresh client key once, and the lines that make the gateway accept it. The key itself is stored nowhere; the configuration holds its SHA-256' \
'help:Print this message or the help of the given subcommand(s)' \
    )
    _describe -t commands 'tollgate key commands' commands "$@"
}
(( $+functions[_tollgate__subcmd__key__subcmd__help_commands] )) ||
_tollgate__subcmd__key__subcmd__help_commands() {
    local commands; commands=(
'new:Print a fresh client key once, and the lines that make the gateway accept it. The key itself is stored nowhere; the configuration holds its SHA-256' \
'help:Print this message or the help of the given subcommand(s)' \
    )
    _describe -t commands 'tollgate key help commands' commands "$@"
}
(( $+functions[_tollgate__subcmd__key__subcmd__help__subcmd__help_commands] )) ||
_tollgate__subcmd__key__subcmd__help__subcmd__help_commands() {
    local commands; commands=()
    _describe -t commands 'tollgate key help help commands' commands "$@"
}
(( $+functions[_tollgate__subcmd__key__subcmd__help__subcmd__new_commands] )) ||
_tollgate__subcmd__key__subcmd__help__subcmd__new_commands() {
    local commands; commands=()
    _describe -t commands 'tollgate key help new commands' commands "$@"
}
(( $+functions[_tollgate__subcmd__key__subcmd__new_commands] )) ||
_tollgate__subcmd__key__subcmd__new_commands() {
    local commands; commands=()
    _describe -t commands 'tollgate key new commands' commands "$@"
}
(( $+functions[_tollgate__subcmd__man_commands] )) ||
_tollgate__subcmd__man_commands() {
    local commands; commands=()
    _describe -t commands 'tollgate man commands' commands "$@"
}
(( $+functions[_tollgate__subcmd__metrics_commands] )) ||
_tollgate__subcmd__metrics_commands() {
    local commands; commands=()
    _describe -t commands 'tollgate metrics commands' commands "$@"
}
(( $+functions[_tollgate__subcmd__serve_commands] )) ||
_tollgate__subcmd__serve_commands() {
    local commands; commands=()
    _describe -t commands 'tollgate serve commands' commands "$@"
}

if [ "$funcstack[1]" = "_tollgate" ]; then
    _tollgate "$@"
else
    compdef _tollgate tollgate
fi
