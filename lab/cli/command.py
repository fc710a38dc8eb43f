"""From what was typed to an exit status.

Each failure that a user can cause or mend is one clear line and an exit status: 1 when the lab could not do its
work, 2 when it was asked for something that it does not offer, 130 when it was interrupted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from lab.cli.doors import cli
from lab.errors import LabError
from loadtests.client import LoadError
from strategies.contract import SessionError

if TYPE_CHECKING:
    from collections.abc import Sequence

INTERRUPTED = 130
"""What shells report for a command that ended by Ctrl-C."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status.

    Args:
        arguments: what stands behind `python -m lab`; by default what the process was started with.
    """
    try:
        status = cli.main(args=arguments, prog_name="python -m lab", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return 2
    except click.ClickException as error:
        return _fail(_one_line(error), 2)
    except (click.Abort, KeyboardInterrupt):
        return _fail("interrupted; everything that was started has been stopped.", INTERRUPTED)
    except (LabError, LoadError, SessionError) as error:
        return _fail(str(error), 1)
    except BrokenPipeError:
        return 1
    return int(status or 0)


def _one_line(error: click.ClickException) -> str:
    return " ".join(error.format_message().split())


def _fail(text: str, status: int) -> int:
    click.echo(f"lab: {text}", err=True)
    return status
