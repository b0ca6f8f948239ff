"""The words by which the chat tells what a question is about. A table: the first row that matches
decides, so what is narrow stands before what is wide.
"""  # noqa: D205

from typing import Literal

Intent = Literal[
    "help", "abilities", "approvals", "approve", "before", "all", "targets", "runbooks", "cost",
    "reasoner", "not_measured", "severity", "action", "checklist", "ruled_out", "persistence",
    "timeline", "changed", "safety", "sure", "next", "plan", "growth", "advice", "why",
    "prefixes", "key_count", "hot_keys", "evictions", "expiry", "keys", "scripts", "commands",
    "fragmentation", "replication", "clients", "latency", "access", "errors", "streams",
    "cluster", "traffic", "modules", "server", "memory", "config", "healthy", "wrong", "other",
]  # fmt: skip

# fmt: off
WORDINGS: tuple[tuple[Intent, tuple[str, ...]], ...] = (
    (
        "help",
        (
            r"^(hi|hello|hey|help|thanks|thank you|thx|ok(ay)?|cool|great|\?+)\W*$",
            r"what can (you|i) (do|ask)", r"who are you", r"your name",
        ),
    ),
    (
        "abilities",
        (
            r"(can|do|could|will) you (write|change|delete|read|see) ", r"what can you see",
            r"allowed to do", r"(can|do|will) you (write|read|change)\b", r"read.? ?only\?",
        ),
    ),
    (
        "approvals",
        (
            r"\bwho\b.*\b(approv|reject|accept|sign|allow|authori)",
            r"(was|is|were|been|has|got|did)\b.*\b(approved|rejected)", r"by whom",
            r"any(body|one) .*approv", r"wait\w* (for|on) (an? )?(approv|who)",
            r"need\w* (an? |my )?approv", r"approval (status|state)", r"^approvals?\W*$",
            r"pending appr",
        ),
    ),
    (
        "approve",
        (
            r"(how|where)\b.*\b(approv|accept|sign off|authori)", r"approv\w* (command|url|link)",
        ),
    ),
    (
        "before",
        (
            r"happened before", r"recurring", r"similar", r"before\?$", r"again and again",
            r"(first|last) time (it|this|we)", r"seen (this|it) before",
            r"(earlier|previous|past) (incident|time|one)s?\b",
        ),
    ),
    (
        "all",
        (
            r"\bincidents\b",
            r"(all|open|every|other|current) (the )?(incident|alert|problem|issue)s?\b",
            r"status of (all|every)", r"overview",
            r"what('s| is| else is)? (open|on fire|burning)",
            r"anything (else )?(open|on fire|burning|going on)",
        ),
    ),
    (
        "targets",
        (
            r"(which|what|list|show|my|your|the|all)\b.*\b(targets|servers|instances)\b",
            r"^(targets|servers)\W*$",
        ),
    ),
    (
        "runbooks",
        (
            r"(which|what|list|whose)\b.*\brunbooks?\b.*\b(use|used|appl|match|load|chose|chosen)",
            r"(which|what) runbooks?\b",
        ),
    ),
    (
        "cost",
        (
            r"(what|how much) did (it|this|that|you|they) cost",
            r"how many (tokens|model calls|looks)", r"token usage", r"^costs?\W*$",
            r"how expensive",
        ),
    ),
    (
        "reasoner",
        (
            r"what did the (model|rules|llm|ai)", r"did the (model|rules|llm|ai)",
            r"who (decided|diagnosed|said)", r"(rules|model) or (the )?(rules|model)", r"overrul",
            r"which (reasoner|model)", r"disagree",
        ),
    ),
    (
        "not_measured",
        (
            r"(not|n.?t) (be |been |you )?(measur|seen)", r"unmeasured",
            r"(could|can|did|do) you not\b", r"(could|can|did|do)(n.?t| not) (you|be)\b", r"blind",
            r"missing", r"refused to", r"gaps?\b", r"unknowns?\b",
        ),
    ),
    (
        "severity",
        (
            r"how (bad|serious|severe|urgent|critical)",
            r"is (it|this|that) (serious|bad|urgent|critical|severe|real|a real|an emergency)",
            r"severity", r"false (alarm|positive)", r"real (incident|problem|issue)", r"escalat",
            r"wake (me|us|some)", r"who should i (call|wake|page|ask)", r"\bimpact", r"affected",
            r"the damage", r"emergency",
        ),
    ),
    (
        "action",
        (
            r"what (does|do|did|will|would) a\d+ (do|change)", r"what (is|are) a\d+",
            r"(the|show|list|which|its) commands\W*$",
            r"commands? (would|will|does|do) (it|you|a\d+)",
            r"did (it|that|a\d+|the fix|the action) (work|help)",
            r"(is|was) it (fixed|solved|rolled back|applied|verified)",
            r"(was|were) a\d+ (?!approv)", r"verif(y|ied|ication)",
            r"what happened (after|to) a\d+", r"^\W*a\d+\W*$", r"status of a\d+",
        ),
    ),
    (
        "checklist",
        (
            r"checks? (failed|passed)", r"checklist", r"which checks",
        ),
    ),
    (
        "ruled_out",
        (
            r"ruled? .*out", r"exclud", r"alternatives?",
            r"other (causes?|explanations?|reasons?)", r"what else",
            r"(could|can|might) (it|this|that) be", r"why not\b", r"instead",
        ),
    ),
    (
        "persistence",
        (
            r"(last|latest|newest) (backup|save|snapshot|bgsave)",
        ),
    ),
    (
        "timeline",
        (
            r"time ?line", r"chronolog", r"history",
            r"what (did|have|has|had) (you|it|they|the agent|redis-oncall)\b",
            r"what (was|were|has been) (done|run|tried|applied)",
            r"happened (so far|when|since|then)",
            r"\bwhen did (it|this|that|the (incident|alert|problem))", r"when was (it|this|the)",
            r"since when", r"how long (ago|has (it|this)|have|did)", r"sequence of events",
            r"steps (did|have|were|you)", r"log of",
        ),
    ),
    (
        "changed",
        (
            r"(what|anything|something|did|has|have|is|are|any|which).*\bchang(ed|es|ing)\b",
            r"did .* change\b", r"(config\w*|setting\w*|recent|what) changes?\b",
            r"differs?\b|different (from|than|since|to|now)", r"\bcompar", r"what('s| is) new\b",
            r"than (before|last|yesterday|usual)", r"last time", r"before and after",
            r"since (yesterday|last|the (last|previous|earlier))", r"getting (worse|better)",
            r"trend",
        ),
    ),
    (
        "safety",
        (
            r"\bsafe", r"\brisk", r"danger", r"harm", r"roll ?back", r"undo", r"revert",
            r"side effects?", r"what could go wrong",
            r"(will|would|could|does|can) (it|this|that|a\d+|we|i) (break|hurt|lose|block|cause)",
            r"data loss", r"downtime", r"precondition",
            r"(can|could|may|should|shall) (i|we)\b.*\b(restart|apply|approve|run)",
            r"(can|could|may|should|shall) (i|we)\b.*\b(flush|kill|delete|reboot)",
            r"happen if (i|we)",
        ),
    ),
    (
        "sure",
        (
            r"how (sure|certain|confident|reliable)", r"confiden", r"are you (sure|certain)",
            r"certain(ty)?\b", r"probab", r"likel(y|ihood)", r"trust (it|this|that|you)",
            r"how do you know", r"^(really|sure)\W*$",
        ),
    ),
    (
        "next",
        (
            r"(would|will|should|do|could) (you|i|we) (run|look|check|ask|measure)",
            r"(would|will|should|do|could) (you|i|we) (investigat|inspect)",
            r"(look|check|run|inspect|measure) (at )?next", r"what next", r"what('s| is) next",
            r"next look",
        ),
    ),
    (
        "plan",
        (
            r"what\b.*\b(should|can|could|do|must|to)\b.*\b(do|try|change|done)\b", r"\bfix",
            r"remed", r"\bplan\b", r"next step", r"resolv", r"mitigat",
            r"how (do|can|to|should) .*\b(solve|stop it|repair)", r"actions?\b", r"what now",
            r"propos", r"recommend", r"suggest", r"prevent",
        ),
    ),
    (
        "growth",
        (
            r"(when|how long|how soon) .*\b(full|run out|oom|limit)", r"\bgr[oe]w",
            r"run(ning)? out of memory", r"leak(s|ing)?\b",
        ),
    ),
    (
        "advice",
        (
            r"how (do|does|can|could|to|should|would) (i|we|you|one|redis|valkey|it)?",
            r"how to\b",
            r"what (usually |typically |can |could )?(causes?|leads?|makes (?!you|u\b))",
            r"when (should|do|to)\b", r"best (way|practi)", r"should (i|we)\b",
            r"difference between", r"pros and cons", r"what happens (if|when)",
            r"what does the runbook",
        ),
    ),
    (
        "why",
        (
            r"\bwhy\b", r"because", r"evidence", r"proof", r"prove", r"reason", r"what makes you",
            r"based on what", r"how come", r"justif",
            r"where does (that|this|the) (number|figure|value)",
        ),
    ),
    (
        "prefixes",
        (
            r"prefix", r"namespace", r"(which|what) (part|kind|famil\w+|group) of .*keys",
            r"key ?spaces?\b",
        ),
    ),
    (
        "key_count",
        (
            r"how many keys", r"number of keys", r"key count", r"count of keys", r"dbsize",
        ),
    ),
    (
        "hot_keys",
        (
            r"\bhot ?keys?", r"hottest", r"(accessed|used|read|requested) (the )?most",
            r"most (used|accessed|read|requested|popular)",
        ),
    ),
    (
        "evictions",
        (
            r"evict(?!ion policy)",
        ),
    ),
    (
        "expiry",
        (
            r"\bttl", r"expir",
        ),
    ),
    (
        "keys",
        (
            r"\bkeys?\b",
            r"(big|larg|heav|fat|huge|top|domin)\w* (object|value|hash|list|set|zset|item|thing)s?",
            r"memory hog", r"(what|who|which)( is|'s)? (us(es|ing)|tak(es|ing)|eat(s|ing)|holds)",
            r"(what|who|which)( is|'s)? (fill(s|ing)|consum)",
        ),
    ),
    (
        "scripts",
        (
            r"\bscripts?", r"\blua\b", r"functions?\b", r"\beval\b",
        ),
    ),
    (
        "commands",
        (
            r"commands? .*(run|most|frequent|common|cpu|calls)", r"(top|which|what) commands",
            r"command ?stats", r"\bcpu\b",
        ),
    ),
    (
        "fragmentation",
        (
            r"fragment", r"defrag", r"allocator", r"\brss\b",
        ),
    ),
    (
        "replication",
        (
            r"replica", r"primary", r"master", r"\blag(s|ging)?\b", r"\bsync", r"slaves?\b",
            r"backlog",
        ),
    ),
    (
        "clients",
        (
            r"client", r"connect", r"subscri", r"pub.?sub", r"monitor", r"buffer",
        ),
    ),
    (
        "latency",
        (
            r"laten", r"slow", r"stall", r"p99", r"laggy", r"response time", r"timeouts?\b",
        ),
    ),
    (
        "access",
        (
            r"\bacl\b", r"auth", r"login", r"password", r"denied", r"permission", r"noperm",
            r"wrongpass",
        ),
    ),
    (
        "errors",
        (
            r"\berrors?\b", r"\boom\b", r"reject", r"fail(s|ed|ing|ures?)?\b",
        ),
    ),
    (
        "streams",
        (
            r"stream", r"xadd", r"consumer", r"pending",
        ),
    ),
    (
        "cluster",
        (
            r"cluster", r"shard", r"slots?\b",
        ),
    ),
    (
        "persistence",
        (
            r"persist", r"\brdb\b", r"\baof\b", r"bgsave", r"snapshot", r"\bsaves?d?\b", r"backup",
            r"fsync", r"\bdisk",
        ),
    ),
    (
        "traffic",
        (
            r"traffic", r"ops\b", r"operations", r"requests?", r"throughput", r"per second",
            r"hit ?(rate|ratio)|\bhits?\b|miss(es)?\b|effective", r"\bqps", r"\bload\b", r"busy",
            r"network", r"bandwidth",
        ),
    ),
    (
        "modules",
        (
            r"\bmodules?\b",
        ),
    ),
    (
        "server",
        (
            r"version", r"uptime", r"how old", r"(did|was) (it|redis|anything|the server) restart",
            r"restarted", r"flavou?r", r"what (kind of )?(redis|server) is",
        ),
    ),
    (
        "memory",
        (
            r"memory", r"\bram\b", r"\bfull\b", r"how much",
        ),
    ),
    (
        "config",
        (
            r"config", r"setting", r"parameter",
        ),
    ),
    (
        "healthy",
        (
            r"health", r"\bok(ay)?\b", r"all (right|good|fine)", r"\bfine\b", r"alive",
            r"(is|are) .* (up|down|working)", r"\bstill\b", r"right now", r"currently",
            r"at the moment", r"check", r"how (is|are|goes)", r"how.s (it|redis)",
        ),
    ),
    (
        "wrong",
        (
            r"wrong", r"happen", r"problem", r"cause", r"culprit", r"status", r"summar",
            r"sum (it |this |that |things )?up", r"going on", r"diagnos", r"matter", r"issue",
            r"explain", r"tl;?dr", r"brok", r"what.?s up", r"situation", r"finding", r"conclu",
            r"tell me (about|what)", r"state", r"update", r"alert",
        ),
    ),
)
# fmt: on
