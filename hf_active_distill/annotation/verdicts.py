"""Reading yes or no in what a teacher wrote."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..tasks.sentences import sentence_spans
from ..thinking import split_thinking
from .language import other_language


UNREADABLE = "unreadable_verdict"
OTHER_LANGUAGE = "other_language"


@dataclass(frozen=True)
class Verdict:
    """
    Args:
        accepted (`bool` or `None`): `None` where the reply is neither yes nor no.
        rest (`str`): What stands behind the verdict and behind mere remarks on it.
        remark (`str`): What stands on the line of a "no" beside it: a reason, or already a step.
        problem (`str` or `None`): Why it cannot be read: `"unreadable_verdict"` or `"other_language"`.
    """

    accepted: bool | None
    rest: str = ""
    remark: str = ""
    problem: str | None = None


_EDGE = r"[\s*_#>\"'`(\[\u201c\u2018\u2013\u2014\u2022-]*"
_LEAD_IN = re.compile(
    r"(?i)(?:(?:so|well|ok|okay|hmm|oh|therefore|thus|hence|and|then|finally|my)\b[\s,:;.\u2026\u2013\u2014-]+"
    r"|(?:verdict|judge?ment|decision|conclusion|assessment|evaluation|response|reply|answer|result)[*_]*"
    r"(?:\s+is)?\s*[:\u2013\u2014-]+[\s*_]*)+"
)
_LABEL = re.compile(
    r"(?im)^[ \t*_#>-]{0,12}(?:(?:my|final)\s+)*(?:verdict|judge?ment|decision|conclusion|assessment)[*_]*\s*(?:is|:)"
    r"[\s*_\"']*"
    r"(?P<word>yes|no|correct|incorrect|accept(?:ed)?|reject(?:ed)?|right|wrong|true|false|valid|invalid)\b[\s*_.!\"']*"
)
_YES_WORDS = ("yes", "correct", "accept", "accepted", "right", "true", "valid")

# What may follow a bare yes or no that has no mark behind it.
_FOLLOWS = r"(?:we|you|it|this|that|the|i|they|one|because|since|indeed|there|absolutely|of)\b"
_STOP = r"(?=\s*(?:$|[,.!:;)\]*_\"'`\u201d\u2019\u2013\u2014-]|\n))"
_YES = re.compile(rf"(?i)(?:yes|yeah|yep|yup)(?:{_STOP}|(?=\s+{_FOLLOWS}))")
_NO = re.compile(rf"(?i)(?:no|nope|nah)(?:{_STOP}|(?=\s+{_FOLLOWS}))")
_YES_MARKED = re.compile(rf"(?i)(?:yes|yeah|yep|yup){_STOP}")
_NO_MARKED = re.compile(rf"(?i)(?:no|nope|nah){_STOP}")
_SIGN = re.compile("[\u2705\u2714\u2713\U0001f44d]|[\u274c\u2717\u2718\u2716\U0001f44e]")

_STEP = r"(?:step|start|statement|calculation|reasoning|claim|line|one|arithmetic|student)"
_IT = rf"(?:that|this|it|he|she|(?:the|this|that|your|their)\s+(?:[\w']+\s+){{0,2}}{_STEP})"
_GOOD = r"(?:right|correct|fine|good|true|valid|accurate|ok|okay|sound|acceptable|reasonable|perfect|well)"
_BAD = r"(?:wrong|incorrect|false|mistaken|invalid|inaccurate|flawed|erroneous|off|untrue)"
_FAULT = r"(?:mistakes?|errors?|problems?|issues?|slips?|flaws?)"
_NOT = r"(?:\s+not|n['\u2019]t|['\u2019]t|not)"
_VERY = r"(?:\w+ly\s+|all\s+|quite\s+|also\s+|indeed\s+|just\s+|still\s+|so\s+)*"
_GO = r"(?:start|begin|continue|go\s+on|go\s+ahead|proceed|keep|use|accept|move\s+on|build|carry\s+on)"

_ACCEPTS = re.compile(
    rf"""(?ix)
    {_IT}(?:['\u2019]s|\s+is|\s+looks|\s+seems|\s+sounds|\s+appears(?:\s+to\s+be)?)\s+{_VERY}{_GOOD}\b
    | {_IT}\s+(?:holds|works|follows|makes\s+sense|checks\s+out|stands|can\s+stand|can\s+be\s+accepted)\b
    | (?:correct|right|exactly|agreed|agree|indeed|absolutely|certainly|definitely|sure|of\s+course|true|accepted|valid
        |perfect|great|good|excellent|well\s+done|affirmative|approved)(?:\s+(?:so\s+far|step|job|work|start))?
        (?=\s*(?:$|[.!,:;\u2013\u2014-]))
    | (?:i|we)\s+{_VERY}(?:agree|accept|approve)\b
    | (?:we|you|i|one|the\s+solution)\s+(?:can|may|could|should)\s+{_VERY}{_GO}\b
    | (?:looks|sounds|seems)\s+{_VERY}{_GOOD}\b
    | (?:i\s+(?:see|find)|there\s+(?:is|are)|there['\u2019]s)\s+(?:no|nothing)\s+(?:\w+\s+)?(?:{_FAULT}|wrong)\b
    | no\s+(?:\w+\s+)?(?:{_FAULT}|objections?|doubt|worries|corrections?|need\s+to)\b
    | nothing\s+(?:is\s+)?wrong\b
    | i\s+(?:can|do|could){_NOT}\s+(?:see|find|spot)\s+(?:any|a)\s+(?:\w+\s+)?(?:{_FAULT}|wrong)\b
    | i\s+cannot\s+(?:see|find|spot)\s+(?:any|a)\s+(?:\w+\s+)?{_FAULT}\b
    | not\s+(?:wrong|incorrect)\b
    | (?:please\s+|let['\u2019]?s\s+|let\s+us\s+)?(?:go\s+on|go\s+ahead|continue|proceed|move\s+on)
        (?=\s*(?:$|[.!,:;]|with|from|to))
    """
)
_REJECTS = re.compile(
    rf"""(?ix)
    {_IT}(?:['\u2019]s|\s+is|\s+looks|\s+seems|\s+was|\s+appears(?:\s+to\s+be)?)\s+{_VERY}{_BAD}\b
    | {_IT}(?:['\u2019]s|\s+is|\s+does|\s+do|\s+can|\s+would|\s+should|\s+did){_NOT}\s+{_VERY}
        (?:{_GOOD}|hold|work|follow|help|make\s+sense|be|add\s+up|stand|lead)\b
    | {_IT}\s+(?:has|contains|leads\s+nowhere|fails)\b(?!\s+(?:no|nothing)\b)
    | (?:incorrect|wrong|false|not\s+(?:quite|right|correct|true|exactly|really|valid|so)|disagreed?|rejected?|invalid
        |negative|unfortunately|sorry|i['\u2019]m\s+afraid|i\s+am\s+afraid)\b(?!\s+(?:side|answers?|numbers?)\b)
    | i\s+{_VERY}(?:disagree|reject|object)\b
    | i\s+(?:must|have\s+to)\s+(?:\w+\s+)?(?:disagree|reject|object)\b
    | i\s+(?:do|can|would|could)?(?:{_NOT})\s+(?:agree|accept|think\s+(?:so|{_IT}|we\s+can)|start|continue|go)
    | i\s+cannot\s+(?:agree|accept)\b
    | (?:we|you|i|one|the\s+solution)\s+(?:can|should|must|may|could){_NOT}\s+{_VERY}{_GO}\b
    | (?:we|you|one)\s+(?:can['\u2019]t|cannot)\b
    | (?:there(?:['\u2019]s|\s+is|\s+are)|i\s+(?:see|found|find|spot)|here\s+is
        |the\s+student\s+(?:has\s+)?(?:made|makes))\s+(?:a|an|one|some|two)\s+(?:\w+\s+)?{_FAULT}\b
    """
)
_POLITE = re.compile(
    r"(?i)(?:sure|certainly|of course|absolutely|great|good|right|okay|ok)\b\W*(?:let\b|here\b|i'll\b|i will\b|i'd\b)?"
)
_SECOND_THOUGHT = re.compile(
    r"(?i)(?:but\s+|oh\s+)?(?:wait|actually|hmm|hold on|on second thought|correction|scratch that)\b"
)
_LIMIT = 24  # sentences in which a verdict is looked for


@dataclass(frozen=True)
class _Mark:
    """A yes or no: where its sentence stands, where the words behind it begin, and whether it is the very word."""

    accepted: bool | None
    start: int
    end: int
    word: bool


def read_verdict(text: str, *, question: str = "") -> Verdict:
    """
    Reads whether a reply accepts a step: an opening or closing yes or no, "that's right", "I disagree", "Verdict: no",
    a tick, through markdown and text that thinks aloud first. Contradictions are not read.

    Args:
        text (`str`): The reply.
        question (`str`): The problem: a reply in another language is flagged unless the problem is in one, too.
    """
    text = split_thinking(text)[1].strip()
    if other_language(text) and not other_language(question):
        return Verdict(None, text, problem=OTHER_LANGUAGE)
    mark = _labelled(text) or _find_mark(text)
    if mark is None or mark.accepted is None:
        return Verdict(None, text, problem=UNREADABLE)
    tail = text[mark.end :]
    if mark.accepted:
        return Verdict(True, drop_remarks(tail))
    line, _, below = tail.partition("\n")
    line = drop_remarks(line)
    return Verdict(False, below.strip() if below.strip() else line, line if below.strip() else "")


def _labelled(text: str) -> _Mark | None:
    labels = list(_LABEL.finditer(text))
    if not labels:
        return None
    last = labels[-1]
    return _Mark(last["word"].lower() in _YES_WORDS, last.start(), last.end(), True)


def _find_mark(text: str) -> _Mark | None:
    marks: list[_Mark] = []
    opened = False
    position = 0
    spans: list[tuple[int, int]] = []
    for line in text.split("\n"):
        spans += sentence_spans(text, position, position + len(line))
        position += len(line) + 1
    for index, (start, end) in enumerate(spans[:_LIMIT]):
        mark = _mark(text, start, end, first=index == 0)
        if mark is not None:
            opened |= index == 0
            marks.append(mark)
    if not marks:
        return None
    words = [mark for mark in marks if mark.word]
    if opened:
        first = marks[0]
        if _takes_back(text, spans[:_LIMIT], first):
            return None
        if first.word or not words or words[0].accepted == first.accepted:
            return first
        # "Sure, let me check. ... No": politeness is no verdict; anything else contradicts itself.
        return words[0] if _POLITE.match(text[first.start :]) else None
    if words:
        return words[0] if len({mark.accepted for mark in words[:2]}) == 1 else None
    return marks[0] if len({mark.accepted for mark in marks}) == 1 else None


def _takes_back(text: str, spans: list[tuple[int, int]], first: _Mark) -> bool:
    """Whether a later sentence ("Wait, no ...") says the opposite."""
    for start, end in spans[1:]:
        second = _SECOND_THOUGHT.match(text, start, end)
        if second is None:
            continue
        begin = second.end() + len(text[second.end() : end]) - len(text[second.end() : end].lstrip(" ,.\u2014-"))
        mark = _mark(text, begin, end, first=True)
        if mark is not None and mark.accepted != first.accepted:
            return True
    return False


def _mark(text: str, start: int, end: int, *, first: bool) -> _Mark | None:
    """The verdict that one sentence gives, if any."""
    begin = _skip(text, start, end)
    sign = _SIGN.match(text, begin, end)
    sentence = text[begin:end]
    word = _word(sentence, first)
    if word is None and sign is not None:
        return _Mark(sign[0] in "\u2705\u2714\u2713\U0001f44d", start, begin + sign.end() - begin, True)
    accepts, rejects = _ACCEPTS.match(sentence), _REJECTS.match(sentence)
    if word is None:
        if bool(accepts) == bool(rejects):
            return None
        said = accepts or rejects
        assert said is not None
        return _Mark(bool(accepts), start, begin, False)
    accepted, after = word
    behind = sentence[after:].lstrip(" ,.:;!*_\u2013\u2014-")
    behind = re.sub(r"(?i)^(?:but|however|except(?: that)?|and|because|since)\s+", "", behind)
    opposite = (_REJECTS if accepted else _ACCEPTS).match(behind)
    agreeing = (_ACCEPTS if accepted else _REJECTS).match(behind)
    said_both = re.match(r"(?i)yes\s+and\s+no|no\s+and\s+yes", sentence)
    if said_both or (opposite and not agreeing):
        return _Mark(None, start, begin + after, True)
    return _Mark(accepted, start, begin + after, True)


def _skip(text: str, start: int, end: int) -> int:
    """Past markdown, quotes and words such as "So," or "Verdict:"."""
    edge = re.compile(_EDGE)
    match = edge.match(text, start, end)
    begin = match.end() if match else start
    lead = _LEAD_IN.match(text, begin, end)
    if lead and lead.end() < end:
        begin = lead.end()
        match = edge.match(text, begin, end)
        begin = match.end() if match else begin
    return begin


def _word(sentence: str, first: bool) -> tuple[bool, int] | None:
    """The very word yes or no at the head of a sentence, and where it ends."""
    if re.match(r"(?i)yes\s+and\s+no|no\s+and\s+yes", sentence):
        return True, 3
    for accepted, pattern in ((True, _YES if first else _YES_MARKED), (False, _NO if first else _NO_MARKED)):
        match = pattern.match(sentence)
        if match:
            return accepted, match.end()
    return None


_REMARK_WORDS = frozenset(
    """yes yeah no not i we you one he she it its that this the a an there here and so but as to in on with from of
    for my your our their own is are was be been has have can cannot could may should would must do does did don
    doesn isn t s ll re let us me step steps start first next student solution statement calculation reasoning
    line claim correct right fine good true valid accurate ok okay sound acceptable reasonable perfect perfectly
    great excellent exactly agreed agree indeed absolutely certainly definitely sure course accepted accept well
    done job work works holds follows makes sense checks out stands stand all looks seems sounds go ahead begin
    continue proceed keep use move far now then too also very quite completely fully entirely totally really
    still just nothing any mistake mistakes error errors problem problems issue issues wrong incorrect false
    invalid mistaken afraid sorry unfortunately disagree reject rejected words wording way put say write
    rephrase rephrased restate same see find think helps help useful point idea how begins since because reason
    doubt objection objections missing remaining left complete enough needed more else other further
    added add""".split()
)


def is_remark(sentence: str) -> bool:
    """Whether a sentence only talks about the step ("we can go on with it") and says nothing of the problem."""
    if re.search(r"\d", sentence):
        return False
    words = re.findall(r"[^\W\d_]+", sentence.lower())
    return all(word in _REMARK_WORDS for word in words)


def drop_remarks(text: str) -> str:
    """Without the remarks at its head; "this step: ..." keeps what stands behind the colon."""
    text = text.lstrip(" \t\n,.:;!*_)\u2013\u2014-") if not re.match(r"\s*-\s*\d", text) else text.strip()
    while text:
        line = text.split("\n", 1)[0]
        head = line.split(":", 1)[0]
        if ":" in line and is_remark(head) and head.strip(" *_").lower() != "step":
            text = text[len(head) + 1 :].lstrip(" \t\n*_")
            continue
        clause = line.split(", ", 1)[0]
        if clause != line and is_remark(clause) and (_ACCEPTS.match(clause) or _REJECTS.match(clause)):
            text = text[len(clause) + 2 :].lstrip()
            continue
        spans = sentence_spans(line)
        if not spans:
            text = text[len(line) :].lstrip("\n ")
            continue
        start, end = spans[0]
        if not is_remark(line[start:end]) or re.match(r"(?i)[*_ ]*step[*_ ]*:", line[start:end]):
            break
        text = text[end:].lstrip(" \t\n")
    return text.strip()
