"""
Print a script with which a shell completes commands, flags and values.

After `--` of `exec` and `local`, the shell completes the other program.
"""

import argparse

from sidecar.commands.generated_file import read_generated

EXAMPLE = """\
example, for bash in ~/.bashrc:
  eval "$(irsa-sidecar completion bash)"

for zsh in ~/.zshrc, after compinit:
  eval "$(irsa-sidecar completion zsh)"

for fish, once after each upgrade:
  irsa-sidecar completion fish >~/.config/fish/completions/irsa-sidecar.fish"""

SCRIPTS = {"bash": "irsa-sidecar.bash", "zsh": "_irsa-sidecar", "fish": "irsa-sidecar.fish"}
"""The file with the script, by the name of the shell."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", metavar="SHELL", choices=SCRIPTS, help=f"one of {', '.join(SCRIPTS)}")


def main(args: argparse.Namespace) -> int:
    print(read_generated(SCRIPTS[args.shell]), end="")
    return 0
