"""Count bytes and segments on a process's own TCP sockets, by asking the kernel.

Linux keeps exact totals per socket and gives them to its owner without root (`getsockopt(TCP_INFO)`, fields as in
`<linux/tcp.h>`: `tcpi_bytes_received` at 128, `tcpi_data_segs_in` at 152, `tcpi_data_segs_out` at 156,
`tcpi_bytes_sent` at 200). Other systems have no such call that was tried here, so there the answer is None and the
report says so. Totals of a socket end with the socket: only kept-alive connections can be measured this way.
"""

from __future__ import annotations

import os
import socket
import struct
import sys

import msgspec
import psutil

_TCP_INFO_BYTES = 256
_LEAST_BYTES = 216  # older kernels give less, without tcpi_bytes_sent


class SocketTotals(msgspec.Struct, frozen=True):
    """What went through one connected socket since it was opened.

    Attributes:
        local_port: this process's end.
        remote_port: the other end, which tells the link.
        bytes_sent: payload bytes sent.
        bytes_received: payload bytes received.
        segments_sent: segments with payload sent: one for each small write.
        segments_received: likewise received.
    """

    local_port: int
    remote_port: int
    bytes_sent: int
    bytes_received: int
    segments_sent: int
    segments_received: int


def own_sockets() -> list[SocketTotals] | None:
    """Return the totals of every connected TCP socket of this process, or None where the system cannot tell."""
    if not sys.platform.startswith("linux"):
        return None
    connections = psutil.Process().net_connections(kind="tcp")
    totals = [_totals(c.fd, c.laddr.port, c.raddr.port) for c in connections if c.raddr and c.fd >= 0]
    return [total for total in totals if total is not None]


def _totals(fd: int, local_port: int, remote_port: int) -> SocketTotals | None:
    try:
        with socket.socket(fileno=os.dup(fd)) as own:
            info = own.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
    except OSError:  # closed since it was listed
        return None
    if len(info) < _LEAST_BYTES:
        return None
    (received,) = struct.unpack_from("=Q", info, 128)
    segments_in, segments_out = struct.unpack_from("=II", info, 152)
    (sent,) = struct.unpack_from("=Q", info, 200)
    return SocketTotals(local_port, remote_port, sent, received, segments_out, segments_in)
