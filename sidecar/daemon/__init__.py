"""
Join the stations into one tree of tasks: settings come in, a running daemon results.

    run                    the process: log, signals, start and stop
    daemon                 the tree of tasks, and the handlers of its listeners
    served_roles           the roles in service, replaced as a whole
    roles_reload           reads the roles file again when it changes
    authorization_files    follows the secrets' files
    credentials_file       the credentials in service as an `~/.aws/credentials` file
    state_directory        the credentials in a directory, for the next process; saved_state is the file's format
    setting_checks         lists every wrong setting at once
"""
