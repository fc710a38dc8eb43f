"""The lab, and the clusters in it: N servers of one strategy, wired to engines and a balancer."""

from lab.cluster.cluster import Cluster, Counters, Server
from lab.cluster.lab import Lab
from lab.cluster.spec import ClusterSpec, Commit
from lab.engines.redis import Promise

__all__ = ["Cluster", "ClusterSpec", "Commit", "Counters", "Lab", "Promise", "Server"]
