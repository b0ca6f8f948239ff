"""Advice on replication, connections, access and the cluster, by topic."""

from tools.remedies.advice_topic import Advice

LINK_ADVICE: dict[str, Advice] = {
    "repl-link-broken": Advice(
        "Restore the replica's link to its primary",
        "This replica does not reach its primary {subject}: what it answers is stale.",
        (
            "Read the replica's log: 'Connection refused' is an address or a stopped primary, "
            "'WRONGPASS' or 'NOAUTH' a password, 'NOPERM' the rights of the replication user.",
            "From the replica's host: does the address resolve, does the port answer, is TLS "
            "wanted on one side only?",
            "Correct the address with REPLICAOF <primary> <port>, or masteruser and masterauth on "
            "the replica; then wait for master_link_status:up.",
            "Until then take it out of the read endpoint, or tell its readers that it is stale.",
        ),
        "The link comes up and the replica catches up, with a full synchronisation if it was away "
        "for longer than the backlog lasts.",
        "making it a primary of its own: two servers would then take writes",
        unnamed="(its address is not known here)",
    ),
    "full-sync-loop": Advice(
        "Let a full synchronisation get to its end",
        "The replica is cut off before its synchronisation is complete, and starts it again: each "
        "one forks and sends the whole dataset.",
        (
            "Raise the hard and soft limit of replicas above the write rate times the duration of "
            "a synchronisation (client-output-buffer-limit replica; 256mb 64mb 60 by default), and "
            "repl-backlog-size with it; the host needs that memory.",
            "If there is no such memory: stop the replica's attempts (stop it, or detach it), "
            "throttle bulk writers, and attach it again in a quiet hour, one replica at a time.",
            "Make the synchronisation shorter: repl-diskless-sync yes, a faster disk or network.",
        ),
        "One more full synchronisation, then none; forks and network traffic end.",
        "restarting the primary: every replica would need a full synchronisation at once",
    ),
    "backlog-too-small": Advice(
        "Size the replication backlog for the interruptions you tolerate",
        "After a short interruption the replica asks for writes that the backlog does not hold "
        "any more, and needs a full synchronisation.",
        (
            "Set repl-backlog-size to the write rate times the longest interruption to survive, "
            "60 seconds at least; it counts against maxmemory.",
            "Write it to the configuration file too, or a restart brings the old size back.",
            "Find out what interrupts the link: network, a load balancer's idle time-out, a "
            "replica that is restarted.",
        ),
        "After an interruption the replica continues where it was.",
        "raising repl-timeout only: the writes are lost from the backlog all the same",
    ),
    "writes-to-replica": Advice(
        "Send writes to the primary",
        "Applications write to a server that is a replica and answers READONLY.",
        (
            "Point the write endpoint (DNS name, proxy, Sentinel master name, configuration) at "
            "the primary that INFO replication names.",
            "Make clients connect again when they see READONLY; DNS and pools keep old addresses.",
            "If this server was meant to be the primary: find out who made it a replica, and when, "
            "before the roles are changed back.",
        ),
        "READONLY errors end; reads were never affected.",
        "replica-read-only no: such writes are lost at the next synchronisation",
    ),
    "maxclients-leak": Advice(
        "Stop {subject} from leaking connections",
        "{subject} opens connections and does not close them; nobody else gets one.",
        (
            "Restart or roll back {subject}: its connections close and the slots are free at once.",
            "Use one pool for each process, with a bound, and return connections in a finally "
            "block; a client made for each request is the usual leak.",
            "Set timeout (for example 600 s), so that what is forgotten is closed by the server; "
            "pub/sub and replicas are exempt.",
            "Keep slots for diagnosis: alert at 80 % of maxclients.",
        ),
        "The number of connections of {subject} stays within its pool's bound.",
        "closing all clients, or only raising maxclients: the leak takes those slots as well",
        unnamed="an application",
    ),
    "blocked-clients": Advice(
        "Find out why nothing is queued any more",
        "Workers wait for work, and what used to queue it has stopped.",
        (
            "Look at the producers: are they running, do they reach this server, do they write to "
            "the same database and key that the workers wait on?",
            "Look for a renamed queue, a paused scheduler, a failed deployment of the producer.",
            "Leave the workers: waiting costs nothing, and they go on by themselves.",
        ),
        "Jobs are taken within milliseconds of being queued again.",
        "killing or restarting the workers: they wait because there is nothing to do",
    ),
    "acl-auth-failures": Advice(
        "Give {subject} the credential or the rule that it lacks",
        "{subject} is refused by this server: see the reason below.",
        (
            "Reason 'auth': compare the secret that is deployed with the one that was rotated; "
            "during a rotation let both passwords be valid (ACL SETUSER adds with >).",
            "Reason 'command', 'key' or 'channel': decide with the owner whether it may, and add "
            "just that (+<command>, ~<pattern>, &<channel>).",
            "Save with ACL SAVE or in the configuration, or a restart undoes it.",
            "If nobody knows {subject}: it may be an attack; tell security before anything else.",
        ),
        "The refusals end; ACL LOG shows no new entries of {subject}.",
        "nopass, all permissions, or no password at all",
        unnamed="an application",
    ),
    "slot-skew-hot-shard": Advice(
        "Spread {subject} over more hash slots",
        "The keys of {subject} share one hash tag, so all of them are in one slot of one node.",
        (
            "Split the tag where it is written: {tag}: becomes {tag-0}: … {tag-15}:, chosen by a "
            "hash of the id; use a tag only for keys that one command needs together.",
            "Until then move other slots away from this node, or its whole slot to a node of its "
            "own (reshard, a few slots at a time, while watching latency).",
            "A larger node helps only as long as one tag fits into it.",
        ),
        "Keys, bytes and load of {subject} are shared by all nodes.",
        "resetting the cluster, or adding nodes only: one slot cannot be divided",
        unnamed="the largest slot",
    ),
    "pause-writer": Advice(
        "Pause whoever writes {subject}, and let it go on afterwards",
        "Until the cause is mended, the writer of {subject} can be paused; who it is, its owner "
        "knows better than the server.",
        (
            "Find it: CLIENT LIST shows names, users and last commands (cmd=set, hset, xadd).",
            "Stop it where it runs: its own switch, or kubectl scale deployment/<writer> "
            "--replicas=0. Resume: the number of replicas that it had.",
            "If that takes too long, and it has a user of its own: ACL GETUSER <user>, and note "
            "what it answers; then ACL SETUSER <user> -@write. It reads on, and its writes are "
            "refused with NOPERM. Resume: ACL SETUSER <user> +@write, or the single commands "
            "that GETUSER showed.",
            "Say when it goes on, and who sees to it; what it could not write waits or is lost, as "
            "its owner knows.",
        ),
        "Nothing is added to {subject} meanwhile.",
        "CLIENT PAUSE: it pauses every writer; nor a rule for the user 'default', which is "
        "everybody without a user of their own",
    ),
}
