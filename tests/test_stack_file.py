"""From a compose file, as either Compose prints it, to a file that `docker stack deploy` reads."""

from __future__ import annotations

import pytest

from lab.containers.stack_file import LIMITS, Port, for_swarm
from lab.errors import LabError

OLD = """\
networks:
  inside:
    attachable: true
    internal: true
services:
  balancer:
    image: nginx:1.31
    networks:
      inside: null
    ports:
    - 127.0.0.1:9081:8081/tcp
    - 127.0.0.1:9082:8082/tcp
    restart: unless-stopped
    volumes:
    - /home/me/lab/nginx.conf:/etc/nginx/nginx.conf:ro
  redis-node-1:
    image: redis:8.2
    profiles:
    - redis-cluster
  web-redis:
    build:
      context: /home/me/lab
    command:
    - python
    - -c
    - "import ports: x"
    cpus: 0.5
    depends_on:
      redis:
        condition: service_healthy
    deploy:
      replicas: 2
    environment:
      PASSWORD: a: b$$c
    image: session-lab
    mem_limit: 256M
    pids_limit: 64
    tmpfs:
    - /tmp
    - /run:size=1m
version: '3.9'
volumes:
  redis: {}
"""
"""As docker-compose 1.29 prints it."""

NEW = """\
name: lab
services:
  balancer:
    command: null
    entrypoint: null
    image: nginx:1.31
    networks:
      inside: null
    ports:
      - mode: ingress
        host_ip: 127.0.0.1
        target: 8081
        published: "9081"
        protocol: tcp
      - mode: ingress
        host_ip: 127.0.0.1
        target: 8082
        published: "9082"
        protocol: tcp
    restart: unless-stopped
    volumes:
      - type: bind
        source: /home/me/lab/nginx.conf
        target: /etc/nginx/nginx.conf
        read_only: true
        bind:
          create_host_path: true
  web-redis:
    build:
      context: /home/me/lab
      dockerfile: Dockerfile
    cpus: 0.5
    depends_on:
      redis:
        condition: service_healthy
        required: true
    deploy:
      replicas: 2
    image: session-lab
    mem_limit: "268435456"
    pids_limit: 64
    tmpfs:
      - /tmp
      - /run:size=1m
networks:
  inside:
    name: lab_inside
    internal: true
    attachable: true
volumes:
  redis:
    name: lab_redis
"""
"""As `docker compose` 2 prints it."""


@pytest.mark.parametrize("config", [OLD, NEW], ids=["1.29", "2"])
def test_what_swarm_refuses_is_left_out_and_the_rest_stays(config):
    """Start order, building and restarting are Swarm's own business; `docker stack deploy` fails on them."""
    text = for_swarm(config).text
    assert text.startswith('version: "3.9"\nservices:\n')
    refused = ("build", "depends_on", "condition", "restart", "profiles", "create_host_path", "bind:", "null\n    e")
    assert not [word for word in refused if word in text]
    kept = (
        "image: session-lab",
        "replicas: 2",
        "nginx.conf",
        "  inside:\n    ",
        "internal: true",
        "volumes:\n  redis:",
    )
    assert not [word for word in kept if word not in text]
    assert "lab_inside" not in text, "a stack puts its name before those of networks and volumes"


@pytest.mark.parametrize("config", [OLD, NEW], ids=["1.29", "2"])
def test_nothing_is_published_unless_asked_for(config):
    """Swarm opens a port to everybody, whatever address Compose was given."""
    closed = for_swarm(config)
    assert closed.ports == (Port("balancer", 9081, 8081), Port("balancer", 9082, 8082))
    assert closed.images["balancer"] == "nginx:1.31"
    assert closed.built == ("session-lab",)
    assert "9081" not in closed.text
    opened = for_swarm(config, publish=True).text
    assert "    ports:\n    - published: 9081\n      target: 8081\n      mode: host\n    - published: 9082\n" in opened
    assert "127.0.0.1" not in opened


@pytest.mark.parametrize(("config", "memory"), [(OLD, "256M"), (NEW, "268435456")], ids=["1.29", "2"])
def test_limits_stand_where_swarm_looks_for_them(config, memory):
    """Left where Compose has them, nothing would limit a task; and processors and memory are text there."""
    text = for_swarm(config).text
    assert not [key for key in LIMITS if f"    {key}: " in text.replace("          cpus: ", "")]
    limits = (
        f'      resources:\n        limits:\n          cpus: "0.5"\n          memory: "{memory}"\n          pids: 64\n'
    )
    assert f"    deploy:\n      replicas: 2\n{limits}" in text


def test_limits_join_what_a_service_has_there_already():
    """An overlay of somebody's own may say more about resources."""
    reserved = "      replicas: 2\n      resources:\n        reservations:\n          memory: 64M\n"
    text = for_swarm(OLD.replace("      replicas: 2\n", reserved)).text
    assert text.count("      resources:\n") == 1
    assert '          memory: 64M\n        limits:\n          cpus: "0.5"\n' in text


@pytest.mark.parametrize("config", [OLD, NEW], ids=["1.29", "2"])
def test_what_is_in_memory_is_mounted_as_a_volume(config):
    """Swarm passes over `tmpfs` in silence, and a read-only container could write nowhere."""
    text = for_swarm(config).text
    assert "tmpfs:" not in text
    web = text.split("  web-redis:\n")[1].split("\nnetworks:")[0]
    mounted = [line.strip(" -") for line in web.split("    volumes:\n")[1].splitlines()]
    assert mounted[:4] == ["type: tmpfs", "target: /tmp", "type: tmpfs", "target: /run"]


def test_services_of_a_profile_come_along_when_it_is_asked_for():
    """The old Compose prints them all the same."""
    assert "redis-node-1" not in for_swarm(OLD).text
    assert "  redis-node-1:\n    image: redis:8.2\n" in for_swarm(OLD, profiles=["redis-cluster"]).text


def test_values_are_not_taken_for_keys():
    """What a value says is carried over to the letter."""
    text = for_swarm(OLD).text
    assert '    - "import ports: x"\n' in text
    assert "      PASSWORD: a: b$$c\n" in text


@pytest.mark.parametrize("config", ["", "name: lab\n", "services: {}\n"])
def test_a_file_without_services_is_one_clear_line(config):
    """There is nothing to deploy."""
    with pytest.raises(LabError, match="no services"):
        for_swarm(config)
