"""What the Redis tests start beside the lab's own engine: a proxy with or without TLS, and a cluster."""

from __future__ import annotations

import os
import secrets
import signal

import redis
from conformance import wait_until

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
        listen 127.0.0.1:{port} {tls};
        proxy_pass 127.0.0.1:{target};
    }}
}}
"""


class Proxy:
    """nginx before one Redis, which may become another: an address that outlives a failover.

    Args:
        keeper: starts it.
        target: the port that it leads to.
        certificate: paths of certificate and key, for TLS.
    """

    def __init__(self, keeper, target, certificate=()):
        self._folder = keeper.folder / f"proxy-{secrets.token_hex(4)}"
        self._folder.mkdir()
        self._tls = "ssl; ssl_certificate {}; ssl_certificate_key {}".format(*certificate) if certificate else ""
        command = [Nginx.find(), "-p", self._folder, "-c", "nginx.conf", "-e", "stderr"]

        def launch(port):
            self._write(port, target)
            return keeper.launch("proxy", command)

        self._process, self.port = on_free_port("nginx", launch, lambda process, _: self._pid() == str(process.pid))

    def lead_to(self, target):
        """Send new connections elsewhere; those that are open stay where they are."""
        self._write(self.port, target)
        os.kill(self._process.pid, signal.SIGHUP)

        def leads_there():
            with redis.Redis(port=self.port) as client:
                return client.info("server")["tcp_port"] == target

        wait_until(leads_there, seconds=20)

    def stop(self):
        """End it."""
        self._process.stop()

    def _write(self, port, target):
        user = "user root root;" if os.geteuid() == 0 else ""
        config = STREAM.format(port=port, target=target, tls=self._tls, user=user)
        (self._folder / "nginx.conf").write_text(config)

    def _pid(self):
        path = self._folder / "nginx.pid"
        return path.read_text().strip() if path.exists() else None


def launch_redis(keeper, name, *options):
    """Start a Redis with these options that keeps nothing on disk; return its process and its port."""
    folder = keeper.folder / f"{name}-{secrets.token_hex(4)}"
    folder.mkdir()

    def launch(port):
        common = ["--bind", "127.0.0.1", "--port", str(port), "--save", "", "--dir", str(folder)]
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
        self._keeper = keeper
        self._nodes = {}
        for number in range(3):
            # The nodes' own port is by default 10,000 above the other one, which may be past the last there is.
            bus = free_port()
            options = ["--cluster-enabled", "yes", "--cluster-port", str(bus), "--cluster-node-timeout", "2000"]
            process, port = launch_redis(keeper, f"redis-node-{number + 1}", *options)
            self._nodes[port] = (process, bus)
        self.ports = tuple(self._nodes)
        self.url = f"redis://127.0.0.1:{self.ports[0]}/0"
        for number, port in enumerate(self.ports):
            first, last = (16384 * n // 3 for n in (number, number + 1))
            self.ask(port, "CLUSTER", "ADDSLOTSRANGE", first, last - 1)
            self.ask(self.ports[0], "CLUSTER", "MEET", "127.0.0.1", port, self._nodes[port][1])
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
        return self._nodes[port][0]

    def stop(self):
        """End the nodes."""
        for process, _ in self._nodes.values():
            process.stop()
