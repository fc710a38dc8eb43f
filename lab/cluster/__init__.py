"""The lab, and the clusters in it: N servers of one strategy, wired to engines and a balancer."""

from lab.cluster.cluster import Cluster
from lab.cluster.lab import Lab
from lab.cluster.server import Counters, Server
from lab.cluster.spec import ClusterSpec, Commit
from lab.engines.redis import Promise

__all__ = ["Cluster", "ClusterSpec", "Commit", "Counters", "Lab", "Promise", "Server"]
