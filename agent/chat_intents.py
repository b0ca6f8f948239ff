"""What a question is about, by its words. Pure; the first row that matches decides."""

import difflib
import re
import unicodedata
from typing import Literal

from agent.chat_topics import asked_parameter

Intent = Literal[
    "help", "approve", "approvals", "all", "not_measured", "ruled_out", "timeline", "changed",
    "safety", "sure", "plan", "next", "advice", "why", "config", "prefixes", "key_count", "keys",
    "hot_keys", "scripts", "commands", "clients", "fragmentation", "evictions", "expiry",
    "latency", "errors", "access", "streams", "cluster", "replication", "persistence", "traffic",
    "server", "modules", "memory", "healthy", "wrong", "other",
]  # fmt: skip

_BIG = r"big(gest)?|larg(e|est|er)|heav(y|iest)|fat(test)?|huge|most|top|dominat"
_INTENTS: tuple[tuple[Intent, str], ...] = (
    ("help", r"^(hi|hello|hey|help|thanks|thank you|\?+|what can (you|i) (do|ask)"
             r"|who are you)\W*$"),
    (
        "approvals",
        r"\bwho\b.*\b(approv|reject|accept|sign|decid|allow|authori)|(was|is|were|been|has"
        r"|got|did)"
        r"\b.*\b(approved|rejected)|by whom|any(body|one) .*approv|wait\w* (for|on) (an? )?"
        r"(approv|who)|need\w* (an? |my )?approv|approval (status|state)|^approvals?\W*$"
        r"|pending appr",
    ),
    ("approve", r"(how|where)\b.*\b(approv|accept|sign off|authori)|approv\w* (command|url"
                r"|link)"),
    (
        "all",
        r"\bincidents\b|(all|open|every|other|current) (the )?(incident|alert|problem"
        r"|issue)s?\b"
        r"|status of (all|every)|overview|what('s| is| else is)? (open|on fire|burning)"
        r"|anything (else )?(open|on fire|burning|going on)|how many incidents",
    ),
    (
        "not_measured",
        r"(not|n.?t) (be |been |you )?(measur|seen)|unmeasured|(could|can|did|do) you not\b"
        r"|(could|can|did|do)(n.?t| not) (you|be)\b|blind|missing|refused to|gaps?\b|unknowns?\b",
    ),
    (
        "ruled_out",
        r"ruled? .*out|exclud|alternatives?|other (causes?|explanations?|reasons?)|what else"
        r"|(could|can|might) (it|this|that) be|why not\b|instead",
    ),
    (
        "timeline",
        r"time ?line|chronolog|history|what (did|have|has|had) (you|it|they|the agent"
        r"|redis-oncall)"
        r"\b|what (was|were|has been) (done|run|tried|applied)|happened (so far|when|since"
        r"|then)"
        r"|\bwhen did|when was|since when|how long (ago|has (it|this)|have|did)|sequence of events"
        r"|steps (did|have|were|you)|log of",
    ),
    (
        "changed",
        r"(what|anything|something|did|has|have|is|are|any|which).*\bchang(ed|es|ing)\b"
        r"|(config\w*|setting\w*|recent|what) changes?\b|differ(s|en)|\bcompar"
        r"|what('s| is) new\b|than (before|last|yesterday|usual)|last time|before and after"
        r"|since (yesterday|last|the (last|previous|earlier))|getting (worse|better)|trend",
    ),
    (
        "safety",
        r"\bsafe|\brisk|danger|harm|roll ?back|undo|revert|side effects?|what could go wrong"
        r"|(will|would|could|does) (it|this|that|a\d+) (break|hurt|lose|block|cause)|lose data"
        r"|data loss|downtime|precondition|(can|could|may|should|shall) (i|we)\b.*\b(restart"
        r"|apply"
        r"|approve|run|flush|kill|delete|reboot)",
    ),
    ("sure", r"how (sure|certain|confident|reliable)|confiden|are you (sure|certain)"
             r"|certain(ty)?\b"
             r"|probab|likel(y|ihood)|trust (it|this|that|you)|how do you know|^(really"
             r"|sure)\W*$"),
    (
        "next",
        r"(would|will|should|do|could) (you|i|we) (run|look|check|ask|measure|investigat\w*"
        r"|inspect)"
        r"|(look|check|run|inspect|measure) (at )?next|what next|what('s| is) next|next look",
    ),
    (
        "plan",
        r"what\b.*\b(should|can|could|do|must|to)\b.*\b(do|try|change|done)\b|\bfix|remed"
        r"|\bplan\b"
        r"|next step|resolv|mitigat|how (do|can|to|should) .*\b(solve|stop it|repair)"
        r"|actions?\b"
        r"|what now|propos|recommend|suggest|prevent",
    ),
    (
        "advice",
        r"how (do|does|can|could|to|should|would) (i|we|you|one|redis|valkey|it)?|how to\b"
        r"|what (usually |typically |can |could )?(causes?|leads?|makes (?!you|u\b))"
        r"|when (should|do|to)\b"
        r"|best (way|practi)|should (i|we)\b|difference between|pros and cons"
        r"|what happens (if|when)",
    ),
    ("why", r"\bwhy\b|because|evidence|proof|prove|reason|what makes you|show me the"
            r"|based on what"
            r"|how come|justif"),
    ("prefixes", r"prefix|namespace|(which|what) (part|kind|famil\w+|group) of .*keys"
                 r"|key ?spaces?\b"),
    ("key_count", r"how many keys|number of keys|key count|count of keys|dbsize"),
    ("hot_keys", r"\bhot ?keys?|hottest|(accessed|used|read|requested) (the )?most|most (used"
                 r"|accessed|"
                 r"read|requested|popular)"),
    ("expiry", r"\bttl|expir|never expire"),
    ("keys", rf"\bkeys?\b|({_BIG}) (object|value|hash|list|set|zset|item|thing)s?|memory hog"
             r"|(what|who|which) (is )?(using|uses|takes|taking|eats|eating|holds|fills"
             r"|filling|consum)"),
    ("scripts", r"\bscripts?|\blua\b|functions?\b|\beval\b"),
    ("commands", r"commands? .*(run|most|frequent|common|cpu|calls)|(top|which|what) commands|"
                 r"command ?stats|\bcpu\b"),
    ("fragmentation", r"fragment|defrag|allocator|\brss\b"),
    ("evictions", r"evict"),
    ("clients", r"client|connect|subscri|pub.?sub|monitor|buffer"),
    ("latency", r"laten|slow|stall|p99|lag(gy|ging)|response time|timeouts?\b"),
    ("access", r"\bacl\b|auth|login|password|denied|permission|noperm|wrongpass"),
    ("errors", r"\berrors?\b|\boom\b|reject|fail(s|ed|ing|ures?)?\b"),
    ("streams", r"stream|xadd|consumer|pending"),
    ("cluster", r"cluster|shard|slots?\b"),
    ("replication", r"replica|primary|master|\blag\b|\bsync|slaves?\b|backlog"),
    ("persistence", r"persist|\brdb\b|\baof\b|bgsave|snapshot|\bsaves?d?\b|backup|fsync"
                    r"|\bdisk"),
    ("traffic", r"traffic|ops\b|operations|requests?|throughput|per second|hit ?(rate|ratio)"
                r"|\bqps"
                r"|\bload\b|busy|network|bandwidth"),
    ("modules", r"\bmodules?\b"),
    ("server", r"version|uptime|how old|restarted|flavou?r|what (kind of )?(redis|server) is"),
    ("memory", r"memory|\bram\b|\bfull\b|\bgrow|how much"),
    ("config", r"config|setting|parameter"),
    (
        "healthy",
        r"health|\bok(ay)?\b|all (right|good|fine)|\bfine\b|alive|(is|are) .* (up|down|working)"
        r"|\bstill\b|right now|currently|at the moment|check|how (is|are|goes)|how.s (it"
        r"|redis)",
    ),
    (
        "wrong",
        r"wrong|happen|problem|cause|culprit|status|summar|sum (it |this |that |things )?up"
        r"|going on|diagnos|matter|issue"
        r"|explain|tl;?dr|brok|what.?s up|situation|finding|conclu"
        r"|tell me (about|what)|state|update|alert",
    ),
)  # fmt: skip
_COMPILED = tuple((intent, re.compile(words)) for intent, words in _INTENTS)

_SPELT = """
    wrong status problem happened diagnosis cause healthy memory biggest largest prefix prefixes
    evidence confident confidence certain approve approved rejected approval timeline changed
    changes measured ruled alternatives safe risk rollback plan remediate clients connected latency
    errors streams replication replicas persistence fragmentation eviction evicted expire expired
    incidents incident maxmemory version uptime commands summary compare different dangerous restart
    configuration setting overview explain meaning
"""
_KEYWORDS = frozenset(_SPELT.split())
"""Spellings that a slip of the finger is taken back to."""
_ALSO_RIGHT = """
    when what where which that this then them they with were will does have time rate state safer
    large larger change changing server sever client connect error stream replica cluster expires
    expiring settings measure causes caused plans risks keys mean means causing because happens
"""
_RIGHT = frozenset(_ALSO_RIGHT.split()) | _KEYWORDS
_WORD = re.compile(r"[^\W\d_]{4,}")
CLOSE = 0.8


def normalised(message: str) -> str:
    """Lower case, plain apostrophes, slips of the finger in the words we know taken back."""
    text = (
        unicodedata.normalize("NFKC", message)
        .lower()
        .replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
        .replace("`", "'")
    )
    return _WORD.sub(lambda found: _spelt(found[0]), " ".join(text.split())[:2_000])


def _spelt(word: str) -> str:
    if word in _RIGHT or len(word) < 5 or len(word) > 20:
        return word
    if any(word.startswith(known) or known.startswith(word) for known in _KEYWORDS):
        return word
    return next(iter(difflib.get_close_matches(word, _KEYWORDS, 1, CLOSE)), word)


def intent_of(message: str) -> Intent:
    """What a question is about, by its words."""
    text = normalised(message)
    if asked_parameter(text) and not re.search(
        r"\bsafe|\brisk|\bwhy\b|chang|\bhow (do|to|can)\b|should|recommend", text
    ):
        return "config"
    return next((intent for intent, words in _COMPILED if words.search(text)), "other")


_NAME = r"(?P<name>[a-z0-9_ '/.-]{2,80}?)"
_KIND = (
    r"(?:the |an? )?(?:(?:info |redis |valkey )?(?:metric|field|parameter|setting|config|error) )?"
)
_PLAINLY = tuple(
    re.compile(pattern)
    for pattern in (
        rf"what (?:does|do|did|is) {_KIND}{_NAME} (?:mean|stands? for|measure|tell us|say)\b",
        rf"(?:meaning|definition) of {_KIND}{_NAME}\W*$",
        rf"what is meant by {_KIND}{_NAME}\W*$",
        rf"\b(?:define|explain) {_KIND}{_NAME}\W*$",
        rf"^{_NAME} meaning\W*$",
    )
)
_BY_NAME = re.compile(
    rf"^\W*(?:(?:what|what's|whats|what is|what are|what was|and|tell me about|explain) )?{_KIND}"
    r"(?P<name>[a-z0-9]+(?:[_-][a-z0-9]+)+)(?: (?:here|now|on .*|metric|field|parameter))?\W*$"
)


def asked_name(message: str) -> str:
    """The name whose meaning is asked for, or empty.

    Plain words only where a meaning is asked for (`what does role mean`); names with `_` or `-`
    also where they stand alone (`what is used_memory_rss`, `used_memory_rss?`).
    """
    text = normalised(message)
    found = next((match for each in _PLAINLY if (match := each.search(text))), None)
    found = found or _BY_NAME.match(text)
    return found["name"].strip(" '") if found else ""
