# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_tollgate_global_optspecs
    string join \n h/help V/version
end

function __fish_tollgate_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_tollgate_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_tollgate_using_subcommand
    set -l cmd (__fish_tollgate_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c tollgate -n "__fish_tollgate_needs_command" -s h -l help -d 'Print help'
complete -c tollgate -n "__fish_tollgate_needs_command" -s V -l version -d 'Print version'
complete -c tollgate -n "__fish_tollgate_needs_command" -f -a "serve" -d 'Serve requests until SIGTERM or SIGINT, then drain and export once more'
complete -c tollgate -n "__fish_tollgate_needs_command" -f -a "check" -d 'Check the configuration and print what it amounts to; exits with 2 if it is wrong'
complete -c tollgate -n "__fish_tollgate_needs_command" -f -a "init" -d 'Write a commented configuration to start from'
complete -c tollgate -n "__fish_tollgate_needs_command" -f -a "key" -d 'Make client keys'
complete -c tollgate -n "__fish_tollgate_needs_command" -f -a "demo" -d 'Try the gateway with a built-in provider: no configuration, no internet'
complete -c tollgate -n "__fish_tollgate_needs_command" -f -a "metrics" -d 'Print every metric as a Markdown table'
complete -c tollgate -n "__fish_tollgate_needs_command" -f -a "completions" -d 'Print the completions of this command line for a shell'
complete -c tollgate -n "__fish_tollgate_needs_command" -f -a "man" -d 'Print the manual page of this program or of a command, or write all of them to a folder'
complete -c tollgate -n "__fish_tollgate_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c tollgate -n "__fish_tollgate_using_subcommand serve" -s c -l config -d 'Configuration file; by default $TOLLGATE_CONFIG, ./tollgate.toml or /etc/tollgate/tollgate.toml, whichever exists first' -r -F
complete -c tollgate -n "__fish_tollgate_using_subcommand serve" -l log-level -d 'The least important lines to log, whatever the configuration says' -r -f -a "error\t''
warn\t''
info\t''
debug\t''
trace\t''"
complete -c tollgate -n "__fish_tollgate_using_subcommand serve" -l log-format -d 'How lines are written, whatever the configuration says; auto is text on a terminal, journal where standard error goes to journald, and JSON elsewhere' -r -f -a "auto\t''
text\t''
json\t''
journal\t''"
complete -c tollgate -n "__fish_tollgate_using_subcommand serve" -s h -l help -d 'Print help'
complete -c tollgate -n "__fish_tollgate_using_subcommand serve" -s V -l version -d 'Print version'
complete -c tollgate -n "__fish_tollgate_using_subcommand check" -s c -l config -d 'Configuration file; by default $TOLLGATE_CONFIG, ./tollgate.toml or /etc/tollgate/tollgate.toml, whichever exists first' -r -F
complete -c tollgate -n "__fish_tollgate_using_subcommand check" -l otlp -d 'Also send one real export to each receiver and explain its answer; exits with 1 if it was not accepted'
complete -c tollgate -n "__fish_tollgate_using_subcommand check" -s h -l help -d 'Print help'
complete -c tollgate -n "__fish_tollgate_using_subcommand check" -s V -l version -d 'Print version'
complete -c tollgate -n "__fish_tollgate_using_subcommand init" -s c -l config -d 'File to write' -r -F
complete -c tollgate -n "__fish_tollgate_using_subcommand init" -l force -d 'Overwrite the file if it exists'
complete -c tollgate -n "__fish_tollgate_using_subcommand init" -l stdout -d 'Print to standard output and write no file'
complete -c tollgate -n "__fish_tollgate_using_subcommand init" -s h -l help -d 'Print help'
complete -c tollgate -n "__fish_tollgate_using_subcommand init" -s V -l version -d 'Print version'
complete -c tollgate -n "__fish_tollgate_using_subcommand key; and not __fish_seen_subcommand_from new help" -s h -l help -d 'Print help'
complete -c tollgate -n "__fish_tollgate_using_subcommand key; and not __fish_seen_subcommand_from new help" -s V -l version -d 'Print version'
complete -c tollgate -n "__fish_tollgate_using_subcommand key; and not __fish_seen_subcommand_from new help" -f -a "new" -d 'Print a fresh client key once, and the lines that make the gateway accept it. The key itself is stored nowhere; the configuration holds its SHA-256'
complete -c tollgate -n "__fish_tollgate_using_subcommand key; and not __fish_seen_subcommand_from new help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c tollgate -n "__fish_tollgate_using_subcommand key; and __fish_seen_subcommand_from new" -s h -l help -d 'Print help'
complete -c tollgate -n "__fish_tollgate_using_subcommand key; and __fish_seen_subcommand_from new" -s V -l version -d 'Print version'
complete -c tollgate -n "__fish_tollgate_using_subcommand key; and __fish_seen_subcommand_from help" -f -a "new" -d 'Print a fresh client key once, and the lines that make the gateway accept it. The key itself is stored nowhere; the configuration holds its SHA-256'
complete -c tollgate -n "__fish_tollgate_using_subcommand key; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c tollgate -n "__fish_tollgate_using_subcommand demo" -l listen -d 'Address and port to serve on; port 0 takes a free one' -r
complete -c tollgate -n "__fish_tollgate_using_subcommand demo" -l log-level -d 'The least important lines to log, whatever the configuration says' -r -f -a "error\t''
warn\t''
info\t''
debug\t''
trace\t''"
complete -c tollgate -n "__fish_tollgate_using_subcommand demo" -l log-format -d 'How lines are written, whatever the configuration says; auto is text on a terminal, journal where standard error goes to journald, and JSON elsewhere' -r -f -a "auto\t''
text\t''
json\t''
journal\t''"
complete -c tollgate -n "__fish_tollgate_using_subcommand demo" -s h -l help -d 'Print help'
complete -c tollgate -n "__fish_tollgate_using_subcommand demo" -s V -l version -d 'Print version'
complete -c tollgate -n "__fish_tollgate_using_subcommand metrics" -s h -l help -d 'Print help'
complete -c tollgate -n "__fish_tollgate_using_subcommand metrics" -s V -l version -d 'Print version'
complete -c tollgate -n "__fish_tollgate_using_subcommand completions" -s h -l help -d 'Print help'
complete -c tollgate -n "__fish_tollgate_using_subcommand completions" -s V -l version -d 'Print version'
complete -c tollgate -n "__fish_tollgate_using_subcommand man" -s d -l directory -d 'Write every page to this folder, each to a file of its own, and print nothing' -r -F
complete -c tollgate -n "__fish_tollgate_using_subcommand man" -s h -l help -d 'Print help'
complete -c tollgate -n "__fish_tollgate_using_subcommand man" -s V -l version -d 'Print version'
complete -c tollgate -n "__fish_tollgate_using_subcommand help; and not __fish_seen_subcommand_from serve check init key demo metrics completions man help" -f -a "serve" -d 'Serve requests until SIGTERM or SIGINT, then drain and export once more'
complete -c tollgate -n "__fish_tollgate_using_subcommand help; and not __fish_seen_subcommand_from serve check init key demo metrics completions man help" -f -a "check" -d 'Check the configuration and print what it amounts to; exits with 2 if it is wrong'
complete -c tollgate -n "__fish_tollgate_using_subcommand help; and not __fish_seen_subcommand_from serve check init key demo metrics completions man help" -f -a "init" -d 'Write a commented configuration to start from'
complete -c tollgate -n "__fish_tollgate_using_subcommand help; and not __fish_seen_subcommand_from serve check init key demo metrics completions man help" -f -a "key" -d 'Make client keys'
complete -c tollgate -n "__fish_tollgate_using_subcommand help; and not __fish_seen_subcommand_from serve check init key demo metrics completions man help" -f -a "demo" -d 'Try the gateway with a built-in provider: no configuration, no internet'
complete -c tollgate -n "__fish_tollgate_using_subcommand help; and not __fish_seen_subcommand_from serve check init key demo metrics completions man help" -f -a "metrics" -d 'Print every metric as a Markdown table'
complete -c tollgate -n "__fish_tollgate_using_subcommand help; and not __fish_seen_subcommand_from serve check init key demo metrics completions man help" -f -a "completions" -d 'Print the completions of this command line for a shell'
complete -c tollgate -n "__fish_tollgate_using_subcommand help; and not __fish_seen_subcommand_from serve check init key demo metrics completions man help" -f -a "man" -d 'Print the manual page of this program or of a command, or write all of them to a folder'
complete -c tollgate -n "__fish_tollgate_using_subcommand help; and not __fish_seen_subcommand_from serve check init key demo metrics completions man help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c tollgate -n "__fish_tollgate_using_subcommand help; and __fish_seen_subcommand_from key" -f -a "new" -d 'Print a fresh client key once, and the lines that make the gateway accept it. The key itself is stored nowhere; the configuration holds its SHA-256'
