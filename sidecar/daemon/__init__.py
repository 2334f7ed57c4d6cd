"""
Build the daemon from the other packages and run it as one tree of tasks.

    run                    the process: log, signals, start and stop daemon                 the tree of tasks, and the
    handlers of its listeners served_roles           keeps the roles in service and replaces them as a whole
    roles_reload           reads the roles file again when it changes authorization_files    follows the secrets' files
    credentials_file       writes the credentials in service as an `~/.aws/credentials` file state_directory
    saves the credentials for the next process, in the format of saved_state status                 collects the state
    of the roles for /status and the page setting_checks         lists every wrong setting at once
"""
