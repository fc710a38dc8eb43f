"""What the Redis tests start beside the lab's own engine: TLS, an address that outlives a failover, a cluster."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import threading

import redis
from waiting import wait_until

from lab.engines.nginx import Nginx
from lab.engines.ports import free_port, on_free_port
from lab.engines.redis import Redis

STREAM = """
daemon off;
{user}
pid nginx.pid;
error_log stderr warn;
events {{ worker_connections 512; }}
stream {{
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate {certificate};
        ssl_certificate_key {key};
        proxy_pass 127.0.0.1:{target};
    }}
}}
"""


class TlsProxy:
    """nginx before a Redis, which has no TLS of its own in the wheel.

    Args:
        keeper: starts it.
        target: the port that it leads to.
        certificate: paths of certificate and key.
    """

    def __init__(self, keeper, target, certificate):
        self._folder = keeper.folder / f"proxy-{secrets.token_hex(4)}"
        self._folder.mkdir()
        command = [Nginx.find(), "-p", self._folder, "-c", "nginx.conf", "-e", "stderr"]
        user = "user root root;" if os.geteuid() == 0 else ""

        def launch(port):
            config = STREAM.format(port=port, target=target, certificate=certificate[0], key=certificate[1], user=user)
            (self._folder / "nginx.conf").write_text(config)
            return keeper.launch("proxy", command)

        self._process, self.port = on_free_port("nginx", launch, lambda process, _: self._pid() == str(process.pid))

    def stop(self):
        """End it."""
        self._process.stop()

    def _pid(self):
        path = self._folder / "nginx.pid"
        return path.read_text().strip() if path.exists() else None


class Address:
    """An address that outlives a failover: what connects to it is led to one Redis, and later to another one.

    Attributes:
        port: of the address.
        target: the port to which new connections lead; those that are open stay where they are.
    """

    def __init__(self, target):
        self.target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def stop(self):
        """Take no more connections."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                threading.Thread(target=self._connect, args=(near,), daemon=True).start()

    def _connect(self, near):
        with near, socket.create_connection(("127.0.0.1", self.target)) as far:
            back = threading.Thread(target=pump, args=(far, near), daemon=True)
            back.start()
            pump(near, far)
            back.join()


def pump(source, sink):
    """Pass on what comes, until either side ends."""
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def launch_redis(keeper, name, *options, cluster=False):
    """Start a Redis with these options, or a node of a cluster; it writes no snapshots. Return process and port."""
    folder = keeper.folder / f"{name}-{secrets.token_hex(4)}"
    folder.mkdir()

    def launch(port):
        common = ["--bind", "127.0.0.1", "--port", str(port), "--save", "", "--dir", str(folder)]
        if cluster:
            # The port for the other nodes is by default 10,000 above the first, which may be past the last there is.
            common += ["--cluster-enabled", "yes", "--cluster-port", str(free_port())]
        return keeper.launch(name, [Redis.find(), *common, *options])

    return on_free_port("Redis", launch, is_at)


def is_at(process, port):
    """Return whether this process answers on the port."""
    try:
        with redis.Redis(port=port) as client:
            return client.info("server")["process_id"] == process.pid
    except redis.AuthenticationError:
        return True  # it asks for the test's password
    except redis.RedisError:
        return False


class RedisCluster:
    """Three primaries without replicas, with a third of the slots each.

    Args:
        keeper: starts them.
    """

    def __init__(self, keeper):
        self._nodes = {}
        for number in range(3):
            name = f"redis-node-{number + 1}"
            process, port = launch_redis(keeper, name, "--cluster-node-timeout", "2000", cluster=True)
            self._nodes[port] = process
        self.ports = tuple(self._nodes)
        self.url = f"redis://127.0.0.1:{self.ports[0]}/0"
        for number, port in enumerate(self.ports):
            first, last = (16384 * n // 3 for n in (number, number + 1))
            self.ask(port, "CLUSTER", "ADDSLOTSRANGE", first, last - 1)
            with redis.Redis(port=port, decode_responses=True) as client:
                bus = client.config_get("cluster-port")["cluster-port"]
            self.ask(self.ports[0], "CLUSTER", "MEET", "127.0.0.1", port, bus)
        wait_until(self.is_whole, seconds=20)

    def ask(self, port, *words):
        """Ask one node."""
        with redis.Redis(port=port, decode_responses=True) as client:
            return client.execute_command(*words)

    def is_whole(self):
        """Return whether every node knows all nodes and slots."""
        states = [self.ask(port, "CLUSTER", "INFO") for port in self.ports]
        return all("cluster_state:ok" in state and "cluster_known_nodes:3\r" in state for state in states)

    def owner(self, key):
        """Return the ports of the node that has a key's slot, and of another one."""
        slot = self.ask(self.ports[0], "CLUSTER", "KEYSLOT", key)
        number = next(n for n in range(3) if slot < 16384 * (n + 1) // 3)
        return self.ports[number], self.ports[number - 1]

    def id_of(self, port):
        """Return a node's name among the nodes."""
        return self.ask(port, "CLUSTER", "MYID")

    def process(self, port):
        """Return a node's process."""
        return self._nodes[port]

    def stop(self):
        """End the nodes."""
        for process in self._nodes.values():
            process.stop()
