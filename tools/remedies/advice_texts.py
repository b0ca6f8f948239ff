"""The advice itself, by topic. `{subject}` is the key, prefix, client or parameter concerned."""

from tools.remedies.advice_links import LINK_ADVICE
from tools.remedies.advice_topic import Advice

ADVICE: dict[str, Advice] = {
    "data-structures": Advice(
        "Review how {subject} is stored",
        "Please review how {subject} is stored. The same data can take less memory.",
        (
            "Put small objects into hashes (one hash of up to 100 fields stays a listpack) "
            "instead of one string per attribute.",
            "Shorten key and field names that repeat a million times; store numbers as numbers.",
            "Give everything that can be recomputed an expiry when it is written: SET … EX.",
            "Compress values above 1 KB in the client, if they are not read in part.",
        ),
        "Less memory for the same data; how much depends on the shape of the data.",
    ),
    "data-cleanup": Advice(
        "Agree on an audit of stale data under {subject}",
        "Please say which data under {subject} is still needed, and for how long.",
        (
            "Name an owner and a retention for each prefix.",
            "Expire what has outlived it in batches (EXPIRE … NX with jitter), never by a purge.",
            "Repeat the audit monthly: `redis-oncall investigate` prints the prefixes by bytes.",
        ),
        "Growth follows what is needed instead of what was ever written.",
        "a purge at once, or of large keys in one command",
    ),
    "confirm-cache": Advice(
        "Ask the owner whether every key may be lost",
        "Is this a cache? Only if every key can be recomputed may the server evict any of them.",
        (
            "If yes, say so in writing: an allkeys-* policy can then be proposed and approved.",
            "If some keys must stay, give the others an expiry and use a volatile-* policy.",
        ),
        "Nothing changes until the owner answers.",
        "switching a data store to allkeys-* to make the errors stop",
    ),
    "missing-ttl-prefix-leak": Advice(
        "Set an expiry where {subject}* is written",
        "Keys under {subject} are written without an expiry and are never removed.",
        (
            "Write with the expiry in the same command: SET <key> <value> EX <seconds>; for "
            "hashes HSET and EXPIRE in one pipeline.",
            "Look for a later SET without KEEPTTL: it removes an expiry.",
            "Deploy this before or together with the expiry of the existing keys, or they return.",
        ),
        "The number of keys under {subject} levels off.",
        "raising maxmemory only: it buys time and changes nothing",
    ),
    "single-bigkey": Advice(
        "Stop the growth of {subject}, then trim it in batches",
        "One key, {subject}, holds a large share of the memory.",
        (
            "Stop or bound the writer that adds to {subject}.",
            "Let the owner say which elements may go; copy them out first (HSCAN, SSCAN, ZSCAN, "
            "LRANGE in pages of 500).",
            "Trim in batches of 500 with a pause: HDEL of fields from HSCAN, LTRIM, ZREMRANGEBYRANK"
            ", SREM; watch the latency in between.",
            "If all of it may go: UNLINK after the export. Then split the key, e.g. by day.",
        ),
        "Memory falls by the share of what is trimmed, without a stall.",
        "reading the whole key to look into it, or removing it in one blocking command",
    ),
    "small-string-overhead": Advice(
        "Bucket the small strings under {subject} into hashes",
        "Many tiny values: most of the memory is overhead of the key, not data.",
        (
            "Write value n of an object to a hash of about 100 fields: HSET <prefix><id/100> "
            "<id%100> <value>; hash-max-listpack-entries (128 or 512 by default) must not be less.",
            "Read from both places during the migration; move old keys in batches.",
            "Mind that fields of a hash share one expiry.",
        ),
        "About 90 bytes a key become about 12 bytes a field (measured with 200,000 tiny strings).",
        "defragmentation: nothing is fragmented",
    ),
    "encoding-conversion": Advice(
        "Rewrite the keys that lost their compact encoding",
        "After a change the same elements take several times the memory: their encoding changed.",
        (
            "Restore the limit that was changed, or shorten the value that crossed it.",
            "Rewrite the affected keys in batches; a key never converts back by itself.",
            "Keep non-numbers out of sets of integers.",
        ),
        "Rewritten keys take a fraction of their memory.",
        "limits of many thousands: commands on a listpack are O(N)",
    ),
    "stream-unbounded": Advice(
        "Trim the stream {subject} behind its slowest group",
        "The stream {subject} grows without a limit.",
        (
            "Add a limit where it is written: XADD {subject} MAXLEN ~ <n> * …",
            "For what is there: find the smallest last-delivered id over all groups and the "
            "smallest pending id (XINFO GROUPS, XPENDING); export older entries if they matter.",
            "Then XTRIM {subject} MINID ~ <that id> LIMIT 10000, repeated with pauses.",
        ),
        "Entries that every group has acknowledged are freed; nothing undelivered is lost.",
        "removing the stream: its groups are lost with it",
    ),
    "stream-pel-growth": Advice(
        "Get the pending entries of {subject} acknowledged",
        "Consumers of {subject} read entries and do not acknowledge them.",
        (
            "Restore the consumer that stopped (XINFO CONSUMERS: high idle, high pending).",
            "If it is dead: which consumer takes over what it left, reading with id 0, or need "
            "none of it be processed? That only the owner of the group can confirm.",
            "Take over: XAUTOCLAIM {subject} <group> <consumer> 60000 0 COUNT 100, process, XACK.",
            "Acknowledge in the consumer right after processing.",
        ),
        "The pending list shrinks as entries are acknowledged, 84 bytes an entry and more.",
        "trimming alone (pending entries stay), or destroying the group",
    ),
    "slow-pubsub-cob": Advice(
        "Make the subscriber {subject} keep up",
        "The subscriber {subject} does not read what is published to it; the server keeps it.",
        (
            "Read in a thread that does nothing else; hand over to a bounded queue.",
            "Reconnect with a back-off after a disconnect; expect lost messages.",
            "Where none may be lost, use a stream with a consumer group and MAXLEN.",
        ),
        "The output buffer stays near zero.",
        "removing keys, more memory: the buffer fills whatever it is given",
    ),
    "monitor-left-on": Advice(
        "Do not leave MONITOR running",
        "A debugging session is still receiving every command of the server.",
        ("Use SLOWLOG and LATENCY instead.", "Take MONITOR from everyday users: ACL -monitor."),
        "Throughput returns.",
    ),
    "unread-reply-cob": Advice(
        "Make {subject} read its replies",
        "{subject} sends commands and does not read the replies; the server keeps them.",
        (
            "Bound pipelines (at most 100 commands) and read replies while sending.",
            "Set a read time-out and close the connection when it strikes.",
            "On Redis 7 and Valkey, maxmemory-clients bounds the sum: agree on a value.",
        ),
        "The output buffer stays near zero.",
        "evicting data",
    ),
    "query-buffer-bloat": Advice(
        "Send smaller commands from {subject}",
        "{subject} sends commands of many megabytes, or starts them and does not finish.",
        (
            "Split values and pipelines: below 1 MB a command.",
            "Set a write time-out and close half-sent connections.",
        ),
        "Query buffers stay below 1 MB.",
        "removing keys",
    ),
    "replica-output-buffer": Advice(
        "Get the replica {subject} going, or take it out",
        "The replica {subject} does not read; the primary keeps what it should have sent.",
        (
            "Look at the replica's host: stopped process, full disk, network.",
            "If it does not come back soon, disconnect it: it will do a full resync afterwards.",
        ),
        "The buffer is freed when the replica reads or goes.",
        "removing or evicting keys, an unlimited buffer",
    ),
    "oversized-backlog": Advice(
        "Size the replication backlog from the write rate",
        "The replication backlog takes a large share of maxmemory.",
        ("Size = bytes written per second x the longest outage a replica may have.",),
        "Memory for data returns.",
        "a tiny backlog: every blip becomes a full resync",
    ),
    "fragmentation-after-deletes": Advice(
        "Fail over to a fresh replica to shed fragmentation",
        "Much resident memory is lost between values that were removed.",
        (
            "Where the build defragments, active defragmentation is the gentler way.",
            "Otherwise: attach a fresh replica, wait for its sync, fail over, retire the old one.",
            "Remove in small steps in future: an expiry with jitter instead of a purge.",
        ),
        "Resident memory falls to about the memory in use.",
        "removing more keys",
    ),
    "fork-cow-memory": Advice(
        "Leave room for the copy-on-write of snapshots",
        "While a child writes a snapshot, changed pages exist twice.",
        (
            "Save on a replica instead of the primary, or less often.",
            "Keep maxmemory far enough below the memory of the machine.",
            "Move bulk writes away from the time of the snapshot.",
        ),
        "The peak during a save fits the machine.",
        "killing the parent",
    ),
    "misconf-bgsave-fail": Advice(
        "Let snapshots succeed again",
        "Snapshots fail, and writes are refused until one succeeds.",
        (
            "Look at the server's log and at the disk: space, inodes, the directory, its owner.",
            "Free space outside the data directory, or give the directory back.",
            "BGSAVE, and wait for rdb_last_bgsave_status to be ok: writes are accepted again.",
        ),
        "The last snapshot is ok, and MISCONF stops.",
        "switching stop-writes-on-bgsave-error off as the cure",
    ),
    "aof-write-error": Advice(
        "Give the append-only file room to write",
        "Appends fail, and writes are refused until one succeeds.",
        (
            "Free space on the disk of the append-only file, outside its directory.",
            "The server tries again every second; nothing has to be restarted.",
            "Once it writes: BGREWRITEAOF, if the file has grown far beyond the data.",
        ),
        "aof_last_write_status is ok, and MISCONF stops.",
        "deleting files of the append-only file",
    ),
    "aof-rewrite-loop": Advice(
        "Rewrite the append-only file less often",
        "Each rewrite forks the server and writes the whole dataset.",
        (
            "Set auto-aof-rewrite-percentage and -min-size where the server's file has them too.",
            "Find out who lowered them, and why.",
        ),
        "Rewrites are hours apart.",
        "switching the append-only file off",
    ),
    "aof-fsync-stall": Advice(
        "Give the append-only file a disk that keeps up",
        "Writes wait for the disk.",
        (
            "See on the host who else writes to that disk (iostat, iotop), and move it away.",
            "Give the data directory a disk of its own, or a faster one.",
            "If the owner of the data accepts to lose a second of writes: appendfsync everysec.",
        ),
        "No aof-* latency events, and p99 of writes as before.",
        "appendfsync no",
    ),
    "on-command": Advice(
        "Stop walking over everything",
        "A command that reads a whole collection, or all keys, holds up everybody.",
        (
            "Find the job or release that sends it (the slow log names client and command).",
            "SCAN, HSCAN, SSCAN or ZSCAN in pages, or an index kept beside the data.",
            "With its owner: take the command away from that user (ACL SETUSER ... -keys).",
        ),
        "No new slow log entries of it, and p99 as before.",
        "a larger instance: it is as slow there",
    ),
    "hot-key": Advice(
        "Spread the load of the hot key",
        "One key is asked for far more often than all others, and commands run on one core.",
        (
            "Cache it in the clients for some seconds, or by CLIENT TRACKING.",
            "Read it from replicas, if slightly old answers are fine.",
            "Split it, if it is written by everybody.",
        ),
        "The core has room again.",
        "another eviction policy",
    ),
    "bigkey-delete-stall": Advice(
        "Free large keys in the background",
        "DEL, expiry and eviction of a large key run on the main thread.",
        (
            "UNLINK instead of DEL.",
            "Trim large collections in steps, and give their expiry some jitter.",
        ),
        "No stalls at deletes.",
        "trying the DEL again",
    ),
    "thp-or-swap": Advice(
        "Put the host right",
        "The host stalls the server: swapped memory, or transparent huge pages.",
        (
            "See /proc/<pid>/status (VmSwap) and transparent_hugepage/enabled on the host.",
            "Huge pages to madvise, swap small; memory for everybody who runs there.",
            "Then restart at a chosen time, by failing over to a replica.",
        ),
        "Resident memory equals memory in use, forks take below 20 ms a GB.",
        "tuning the database",
    ),
    "busy-script": Advice(
        "End the script and bound it",
        "A script runs for so long that everybody is refused.",
        (
            "SCRIPT KILL (FUNCTION KILL): refused if it has written, harmless otherwise.",
            "Find its caller, and bound its loop.",
        ),
        "Commands are answered again.",
        "SHUTDOWN NOSAVE",
    ),
    "lua-script-cache": Advice(
        "Stop generating scripts",
        "Every script text that differs is compiled and kept.",
        (
            "Pass what varies in KEYS and ARGV, so that there is one text.",
            "Load once, call EVALSHA, fall back to EVAL on NOSCRIPT.",
            "When clients can do that: SCRIPT FLUSH ASYNC, once, by a person.",
        ),
        "The script cache stays at a few entries.",
    ),
    "module-memory": Advice(
        "Drop unused indexes of the module",
        "Memory is used that no key accounts for, and a module is loaded.",
        (
            "List its indexes and who queries them.",
            "Drop unused ones while keeping the documents.",
        ),
        "The index's memory is freed.",
        "unloading the module",
    ),
    "expired-backlog": Advice(
        "Spread expiries",
        "Keys expire faster than the server removes them.",
        (
            "Add jitter to expiries that are set in bulk.",
            "Group short-lived values so that fewer keys expire.",
        ),
        "The share of stale keys falls.",
    ),
    "volatile-policy-no-ttl": Advice(
        "Give the cached keys an expiry",
        "The policy may evict only keys that expire, and there are none.",
        (
            "Write cached values with an expiry: SET … EX.",
            "Tell which prefixes are a cache: they can then be given an expiry in batches.",
        ),
        "The policy finds keys to evict again.",
        "an allkeys-* policy without the owner's word",
    ),
    "eviction-thrash": Advice(
        "Make the cache fit its working set",
        "About as much is evicted as is written: the working set does not fit.",
        (
            "Shorten expiries and values of what is read least.",
            "If few keys are read often, agree on an LFU policy.",
            "Otherwise the cache needs more memory: see the sizing.",
        ),
        "The hit ratio recovers.",
        "lowering maxmemory",
    ),
    "organic-growth": Advice(
        "Plan capacity with the growth that was measured",
        "The data grows with its use; nothing stands out.",
        (
            "Agree with the owners on the growth to expect, per month.",
            "Order capacity before 75 % of the limit is reached, or shard.",
        ),
        "No surprise at the limit.",
    ),
} | LINK_ADVICE
ALIASES = {
    "noeviction-oom": "data-cleanup",
    "maxmemory-unset": "organic-growth",
    "rss-not-returned-after-peak": "organic-growth",
    "defrag-cpu-burn": "fragmentation-after-deletes",
}
"""Causes whose advice is that of another topic."""
