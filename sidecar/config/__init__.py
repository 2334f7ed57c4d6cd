"""
Read the daemon's configuration from environment variables, flags and the roles file.

In: the environment, parsed flags and YAML text. Out: a `Config` and its roles, or a ConfigurationError.

- settings: the variables and flags, in one table
- roles_file: the YAML file with several roles
- yaml_values: the readers of the values in that file
"""
