"""The explicit catalogue of read-only tools. What is not listed here does not exist."""

from tools.access import acl_log
from tools.bigkeys import bigkeys
from tools.catalogue import Tool, tool
from tools.changes import key_changes, server_changes
from tools.clients import clients
from tools.cluster import cluster
from tools.configuration import config_get
from tools.encodings import encodings
from tools.host import host
from tools.hotkeys import hot_keys
from tools.keyspace import keyspace
from tools.latency import latency_doctor, latency_histogram, latency_latest
from tools.memory import memory_doctor, memory_info, memory_stats
from tools.metric_history import metric_history
from tools.modules import modules
from tools.nodes import nodes
from tools.persistence import persistence
from tools.replication import replication
from tools.resize import instance_resize
from tools.scripts import scripts
from tools.slowlog import slowlog
from tools.stats import command_stats, error_stats, server_info, stats
from tools.streams import stream_info

_TOOLS: tuple[Tool, ...] = (
    tool(server_info),
    tool(memory_info),
    tool(memory_stats),
    tool(memory_doctor),
    tool(config_get),
    tool(stats),
    tool(command_stats),
    tool(error_stats),
    tool(persistence),
    tool(replication),
    tool(slowlog),
    tool(latency_latest),
    tool(latency_histogram),
    tool(latency_doctor),
    tool(scripts),
    tool(acl_log),
    tool(modules),
    tool(keyspace),
    tool(bigkeys),
    tool(encodings),
    tool(hot_keys),
    tool(clients),
    tool(stream_info),
    tool(cluster),
    tool(nodes),
    tool(instance_resize),
    tool(metric_history),
    tool(host),
    tool(server_changes),
    tool(key_changes),
)
READS: dict[str, Tool] = {each.name: each for each in _TOOLS}
