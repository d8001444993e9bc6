"""`ncbench completion`: shell completion scripts."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

PROGRAM, VARIABLE = "ncbench", "_NCBENCH_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print a shell completion script.

    It completes commands, options, files, and the names of methods, datasets, noise protocols, backbones, settings,
    sweeps and runs.

    \b
    bash:  echo 'eval "$(ncbench completion bash)"' >> ~/.bashrc
    zsh:   echo 'eval "$(ncbench completion zsh)"' >> ~/.zshrc
    fish:  ncbench completion fish > ~/.config/fish/completions/ncbench.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(context.find_root().command, {}, PROGRAM, VARIABLE).source())
