"""Requests to act: recognised in many wordings, refused, and answered with how to approve.

Chat has no way to write whatever is recognised here; this only makes the answer a useful one.
"""

import re

from agent.chat_question import Question, Said, about_incident
from agent.incident import Action, Incident

_FILLER = re.compile(
    r"^(?:(?:hey|hi|hello|ok(?:ay)?|yes|yep|sure|no|so|and|but|then|now|just|also|well|please"
    r"|pls|"
    r"kindly|right|alright|great|thanks|fine|first|next|finally|quickly|immediately"
    r"|redis-oncall|"
    r"bot|agent|dear)\b[\s,:!.-]*)+"
)
_ASKING = re.compile(
    r"^(?:(?:can|could|would|will|won't|can't) you (?:please |just |also |now |kindly |mind )*"
    r"|(?:i|we) (?:want|need|order|command|ask|tell|beg|would like|'d like|allow"
    r"|permit) (?:for )?you"
    r"(?: to)? |i'd like you to |you (?:should|must|may|can|need to|have to|are to"
    r"|will) (?:now |just )?"
    r"|go ahead(?: and)? |let's |let us |feel free to |ignore .* and |i (?:hereby |now |will )*"
    r"|try to |make sure (?:to |you )|be so kind (?:as to|and) |don't ask,? |do not ask,? )+"
)
_ORDER = re.compile(
    r"^(?:re-?)?(?:run(?!ning| (?:me |us )?(?:through|a check|a look|info\b|slowlog"
    r"|memory doctor"
    r"|bigkeys|diagnos|the numbers))|execut(?:e|ing)\b|exec\b|appl(?:y|ying)\b|approv(?:e"
    r"|ing)\b"
    r"|reject\b|authori[sz]e\b|confirm\b|restart(?:ing)?\b|reboot(?:ing)?\b|bounce\b"
    r"|kill(?:ing)?\b"
    r"|terminate\b|stop\b|shut ?down\b|delet(?:e|ing)\b|remov(?:e|ing)\b|eras(?:e|ing)\b|wipe\b"
    r"|purg(?:e|ing)\b|flush(?:all|db|ing)?\b|clear\b|clean up\b|evict\b|expire\b"
    r"|trim(?:ming)?\b"
    r"|unlink\b|del\b|set(?:ting)? (?!of\b)\S+|chang(?:e|ing) (?!in\b|of\b|since\b|what|log)\S+"
    r"|rais(?:e|ing) \S+|increas(?:e|ing) (?!in\b|of\b)\S+|reduc(?:e|ing)\b|lower (?!than"
    r"|bound)\S+"
    r"|decrease (?!in\b|of\b)\S+|double \S+|bump\b|enabl(?:e|ing)\b|disabl(?:e|ing)\b"
    r"|turn (?:on|off)\b"
    r"|switch (?:on|off|to|over)\b|resiz(?:e|ing)\b|scale (?:up|out|down|it)\b|upgrade\b"
    r"|fail ?over\b"
    r"|promote\b|demote\b|roll(?:ing)? (?:it )?back\b|revert\b|undo\b|disconnect\b|kick\b"
    r"|grant\b"
    r"|update \S+|fix (?:it|this|that|the|redis|everything|my)\b|repair\b|resolve (?:it|this"
    r"|the)\b"
    r"|mitigate\b|remediate\b|close (?:it|this|the)\b|acknowledge\b|silence\b|proceed\b|force\b"
    r"|migrate\b|rename\b|defrag(?:ment)?\b|bgsave\b|config set\b|config rewrite\b"
    r"|client kill\b"
    r"|memory purge\b|script flush\b|replicaof\b|slaveof\b|debug\b|monitor$|save$|keys \S+$"
    r"|do (?:it|that|this|so)\b|make it so\b|ship it\b|go ahead\b|lgtm\b|approved\b"
    r"|carry (?:it )?out\b"
    r"|drop (?:the|all|every|key|keys|prefix|it|db|database)\b"
    r"|give (?:the|all|every|those|these) .*(?:ttl|expiry|memory)|redis-cli (?!.*--bigkeys)\S+)"
)
_CONSENT = re.compile(
    r"\b(?:my|our|full) (?:approval|permission|consent|blessing|authori[sz]ation)\b"
    r"|\bconsider (?:it|this|a\d+) approved\b|\b(?:a\d+|it|this) is (?:hereby )?approved\b"
)
_COMMAND = re.compile(
    r"^(?:FLUSHALL|FLUSHDB|CONFIG (?:SET|REWRITE|RESETSTAT)|DEL|UNLINK|SET|MSET|EXPIRE|PEXPIRE"
    r"|PERSIST|SHUTDOWN|DEBUG|SAVE|BGSAVE|BGREWRITEAOF|CLIENT (?:KILL|PAUSE)|SCRIPT (?:FLUSH"
    r"|KILL)"
    r"|EVAL|EVALSHA|FCALL|KEYS|MONITOR|FAILOVER|CLUSTER (?:FAILOVER|RESET)|REPLICAOF|SLAVEOF"
    r"|MEMORY PURGE|XTRIM|XADD|XDEL|ACL (?:SETUSER|DELUSER)|RENAME|RESTORE|MIGRATE|SWAPDB)\b"
)
_SENTENCES = re.compile(r"[.!?;]+\s+")
_PARTS = re.compile(r",\s+|\s+and (?:then )?|\s+then\s+|:\s+")
_QUESTION = re.compile(
    r"(?:what|why|how|who|when|where|which|is|are|was|were|did|does|do you|has)\b"
)
# The verbs people order with, in other languages; none that is an English word, too.
_ELSEWHERE = re.compile(
    r"\b(?:führe|ausführen|starte|neustarten|neu starten|genehmige|genehmigen|freigeben"
    r"|lösche|löschen"
    r"|loesche|setze|erhöhe|erhoehe|leere|beende|stoppe|wende .{1,40} an"
    r"|exécute[rz]?|execute[rz]|redémarre[rz]?|redemarre[rz]?|approuve[rz]?|supprime[rz]?"
    r"|applique[rz]?|augmente[rz]?|arrête[rz]?|vide[rz]? (?:la|le|tout)|mets .{1,40} à"
    r"|ejecuta|ejecutar|ejecute|reinicia|reiniciar|reinicie|aprueba|aprobar|apruebe|borra"
    r"|borrar"
    r"|elimina|eliminar|elimine|aplica|aplicar|aplique|aumenta|aumentar|vacía|cambia"
    r"|pon .{1,40} a"
    r"|executa|executar|reinicie|aprova|aprove|aprovar|apague|apagar|apaga|defina"
    r"|esegui|eseguire|riavvia|riavviare|approva|approvare|cancella|cancellare|applica"
    r"|applicare"
    r"|imposta|impostare|svuota|voer .{1,40} uit|herstart|herstarten|keur .{1,40} goed"
    r"|goedkeuren"
    r"|verwijder|verwijderen|verhoog|uruchom|zrestartuj|zatwierdź|usuń|wykonaj|zastosuj|ustaw"
    r"|zwiększ"
    r"|çalıştır|yeniden başlat|onayla|uygula|temizle|kör|godkänn|starta om|genstart|godkend)\b"  # noqa: RUF001 - Turkish
    r"|выполни|перезапусти|перезагрузи|одобри|удали|примени|очисти|установи|увеличь|останови"
    r"|подтверди"
    r"|перезавантаж|виконай|видали"
    r"|执行|執行|重启|重啟|重新启动|批准|删除|刪除|清空|应用|套用|设置|設定为|设为|停止|扩容|同意"
    r"|実行|再起動|承認|削除|適用|設定して|実施|실행|재시작|승인|삭제|적용|설정해"
    r"|चलाओ|चलाएं|हटाओ|हटाएं|स्वीकृत|पुनः आरंभ|نفذ|أعد تشغيل|احذف|وافق|امسح|הפעל מחדש|מחק|אשר"
)
_LOCAL_QUESTION = re.compile(r"[?\N{FULLWIDTH QUESTION MARK}؟]\s*$")


def asks_to_act(message: str) -> bool:
    """Whether somebody asks us to change something, or takes a sentence here for an approval."""
    if any(_COMMAND.match(part.strip(" `'\"“>$")) for part in message.split("\n")):
        return not _LOCAL_QUESTION.search(message)
    text = " ".join(message.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'").split())
    if _CONSENT.search(text) or _ELSEWHERE.search(text):
        return True
    return any(
        _is_order(part)
        for sentence in _SENTENCES.split(text)[:40]
        for part in ([sentence] if _QUESTION.match(sentence) else _PARTS.split(sentence)[:10])
    )


def _is_order(part: str) -> bool:
    bare = part.strip(" `'\"“”()[]*_-")
    for _ in range(3):
        shorter = _ASKING.sub("", _FILLER.sub("", bare))
        if shorter == bare:
            break
        bare = shorter
    return bool(_ORDER.match(bare))


async def refuse(question: Question) -> Said:
    """I cannot, and this is how it is done."""
    said = Said(["I cannot change anything: chat only reads, and nothing said here approves."])
    return said + await how_to_approve(question)


async def how_to_approve(question: Question) -> Said:
    """What waits for approval, and with which command and request it is approved."""
    if question.incident is not None:
        return _of(question.incident, question.message)
    waiting = await question.records.recent(question.target, "awaiting_approval")
    if not waiting:
        where = f" on {question.target}" if question.target else ""
        return Said(
            [
                f"No action waits for approval{where}. An investigation proposes actions: "
                f"`redis-oncall investigate {question.target or 'TARGET'}` looks at once, "
                "POST /v1/investigations opens an incident."
            ]
        )
    said = Said()
    for incident in waiting[:5]:
        said = said + _of(incident, question.message)
    return said


def _of(incident: Incident, message: str) -> Said:
    executable = [action for action in incident.plan.actions if action.executable]
    named = [a for a in incident.plan.actions if re.search(rf"\b{a.id}\b", message, re.IGNORECASE)]
    lines = [_line(action, incident) for action in (named or _waiting(executable))[:10]]
    if not lines:
        lines = [f"{incident.id} has no action that waits for approval (it is {incident.status})."]
    return Said(lines, citations=[about_incident(incident)])


def _waiting(actions: list[Action]) -> list[Action]:
    return [action for action in actions if action.status == "proposed"]


def _line(action: Action, incident: Incident) -> str:
    what = f"{action.id}, {action.title.rstrip('.')} (risk {action.risk})"
    if not action.executable:
        return f"{what}: a person carries it out; the service cannot."
    if action.status != "proposed":
        return f"{what}: it is {action.status.replace('_', ' ')} already."
    given = len({approval.by for approval in action.approvals})
    return (
        f"{what} on {incident.target}: {given} of {action.approvals_required} approvals given. "
        f"Approve with `redis-oncall approve {incident.id} {action.id}`, or POST "
        f"/v1/incidents/{incident.id}/actions/{action.id}/approve with its fingerprint "
        f"{action.fingerprint}; /reject likewise."
    )
