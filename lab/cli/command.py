"""From what was typed to an exit status.

Each failure that a user can cause or mend is one clear line and an exit status: 1 when the lab could not do its
work, 2 when it was asked for something that it does not offer, 130 when it was interrupted, and likewise 128 more than
the signal's number when SIGTERM ended it, or SIGHUP, which comes when the terminal is closed.
"""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from lab.cli.doors import cli
from lab.errors import LabError, from_os_error
from loadtests.client import LoadError
from strategies.contract import SessionError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

INTERRUPTED = 130
"""What shells report for a command that ended by Ctrl-C."""


class ToldToEnd(KeyboardInterrupt):
    """A signal asks the lab to end, as Ctrl-C does."""

    def __init__(self, signum: int) -> None:
        super().__init__()
        self.how = f"ended by {signal.Signals(signum).name}"
        self.status = 128 + signum


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status.

    Args:
        arguments: what stands behind `python -m lab`; by default what the process was started with.
    """
    try:
        with _signals_heeded():
            status = cli.main(args=arguments, prog_name="python -m lab", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return 2
    except click.ClickException as error:
        return _fail(_one_line(error), 2)
    except (click.Abort, KeyboardInterrupt) as error:
        told = error.__cause__ or error  # click puts its own Abort in place of what was raised
        how, status = (told.how, told.status) if isinstance(told, ToldToEnd) else ("interrupted", INTERRUPTED)
        return _fail(f"{how}; everything that was started has been stopped.", status)
    except BrokenPipeError:
        return 1
    except (LabError, LoadError, SessionError, OSError) as error:
        return _fail(str(from_os_error(error) if isinstance(error, OSError) else error), 1)
    return int(status or 0)


@contextmanager
def _signals_heeded() -> Iterator[None]:
    """Let the signals that ask for an end do what Ctrl-C does. Where one is ignored, as under nohup, it stays so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heeded = [signum for signum in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(signum) is signal.SIG_DFL]
    end = _EndOnce()
    for signum in heeded:
        signal.signal(signum, end)
    try:
        yield
    finally:
        for signum in heeded:
            signal.signal(signum, signal.SIG_DFL)


class _EndOnce:
    """Ends the lab at the first signal. A second, such as the one that make passes on, disturbs no cleaning up."""

    def __init__(self) -> None:
        self._ending = False

    def __call__(self, signum: int, _: object) -> None:
        if not self._ending:
            self._ending = True
            raise ToldToEnd(signum)


def _one_line(error: click.ClickException) -> str:
    return " ".join(error.format_message().split())


def _fail(text: str, status: int) -> int:
    click.echo(f"lab: {text}", err=True)
    return status
