"""
Generate the completion scripts and the manual pages from the parsers of all commands: `make reference`.

- `tree`: the commands, their flags and the values of these flags, without argparse
- `bash`, `zsh`, `fish`: the script of each shell
- `manual`: the manual pages

shtab 1.13 also makes completion scripts from parsers. It is not used: it knows nothing about the arguments after `--`,
`--flag=value` in bash, or lists of files, and its scripts are under another licence (MPL-2.0).
"""
