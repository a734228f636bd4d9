"""p(label | text): every way of asking agrees with the distribution computed from the model's own logits."""

import asyncio
import dataclasses
import math

import pytest
import torch
from fault_server import FaultServer, generated, tgi_routes
from helpers_models import tiny_model, tiny_tokenizer

from hf_active_distill.errors import ConfigurationError, TeacherRequestError
from hf_active_distill.teachers import LocalTeacher, TeacherInfo, TeacherReply, TGITeacher, TopToken
from hf_active_distill.teachers.labels import LETTERS, label_distribution, lettered, read_label


TEXT = "There are 12 birds and 5 more come. Is the sum 17?"
LABELS = ["yes", "no", "none of these", "not known"]


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_tokenizer()


def measure(teacher, prompt, labels, *, wrap=lambda ask: ask, facts=None, **options):
    async def once():
        try:
            info = dataclasses.replace(await teacher.info(), **(facts or {}))
            return await label_distribution(wrap(teacher.ask), info, prompt, labels, **options)
        finally:
            await teacher.aclose()

    return asyncio.run(once())


def next_logprobs(model, tokenizer, text):
    with torch.no_grad():
        return torch.log_softmax(model(torch.tensor([tokenizer.encode(text)])).logits[0, -1].double(), -1)


def exact_letters(model, tokenizer, count):
    """The definition: the letters' share of the next-token distribution, and their mass in it."""
    logprobs = next_logprobs(model, tokenizer, lettered(TEXT, [str(i) for i in range(count)] if count > 4 else LABELS))
    raw = []
    for letter in LETTERS[:count]:
        ids = [i for i in range(len(tokenizer)) if tokenizer.decode([i]).strip() == letter]
        assert len(ids) == 1, "no second token for a letter with a space in front"
        raw.append(logprobs[ids[0]].exp().item())
    return [p / sum(raw) for p in raw], sum(raw)


def exact_words(model, tokenizer, prompt, labels, end):
    totals = []
    for label in labels:
        start, ids = len(tokenizer.encode(prompt)), tokenizer.encode(prompt + label + end)
        assert ids[:start] == tokenizer.encode(prompt)
        with torch.no_grad():
            logprobs = torch.log_softmax(model(torch.tensor([ids])).logits[0].double(), -1)
        totals.append(sum(logprobs[i - 1, ids[i]].item() for i in range(start, len(ids))))
    return [math.exp(t) / sum(map(math.exp, totals)) for t in totals]


@pytest.mark.parametrize(
    ("options", "used", "calls"),
    [
        ({"method": "grammar", "facts": {"max_top_tokens": 4}}, "grammar", 2),
        ({"method": "grammar", "mass": False}, "grammar", 1),
        ({"method": "scored"}, "scored", 4),
        ({"facts": {"max_top_tokens": 4}}, "grammar", 2),
        ({"method": "grammar", "facts": {"max_top_tokens": 320}}, "top_tokens", 1),
    ],
)
def test_every_way_agrees_with_the_logits(model, tokenizer, options, used, calls):
    wanted, mass = exact_letters(model, tokenizer, 4)
    result = measure(LocalTeacher(model, tokenizer), TEXT, LABELS, **options)
    assert (result.method, result.usage.calls) == (used, calls)
    assert result.labels == LABELS
    assert result.probabilities == pytest.approx(wanted, abs=1e-4)
    if used == "scored":
        assert result.mass == pytest.approx(mass, rel=1e-3)
    assert result.best == LABELS[wanted.index(max(wanted))]
    assert result.confidence == pytest.approx(max(wanted), abs=1e-4)


def test_top_tokens_alone_hold_the_mass_where_they_show_every_label(model, tokenizer):
    wanted, mass = exact_letters(model, tokenizer, 4)
    facts = {"max_top_tokens": len(tokenizer)}
    for options, method in (({"method": "top_tokens"}, "top_tokens"), ({}, "top_tokens")):
        result = measure(LocalTeacher(model, tokenizer), TEXT, LABELS, facts=facts, **options)
        assert (result.method, result.usage.calls) == (method, 1)
        assert result.probabilities == pytest.approx(wanted, abs=1e-4)
        assert result.mass == pytest.approx(mass, rel=1e-3)


def test_more_labels_than_top_tokens_are_joined_from_sets(model, tokenizer):
    labels = [str(i) for i in range(11)]
    wanted, mass = exact_letters(model, tokenizer, 11)
    largest = []

    def capped(ask):
        async def asking(request):
            largest.append(request.params.top_logprobs)
            return await ask(request)

        return asking

    result = measure(
        LocalTeacher(model, tokenizer), TEXT, labels, wrap=capped, facts={"max_top_tokens": 3}, mass=False
    )
    assert max(largest) == 3
    # 3 in the first request, then 2 new ones in each beside the shared one.
    assert (result.method, result.usage.calls) == ("grammar", 5)
    assert result.probabilities == pytest.approx(wanted, abs=1e-4)


def test_the_mass_is_recovered_from_a_single_label_in_sight(model, tokenizer):
    wanted, mass = exact_letters(model, tokenizer, 4)
    order = next_logprobs(model, tokenizer, lettered(TEXT, LABELS)).argsort(descending=True).tolist()
    letter = LETTERS[wanted.index(max(wanted))]
    rank = next(i for i, token in enumerate(order) if tokenizer.decode([token]).strip() == letter)
    result = measure(LocalTeacher(model, tokenizer), TEXT, LABELS, facts={"max_top_tokens": rank + 1})
    assert (result.method, result.usage.calls) == ("grammar", 2)
    assert result.probabilities == pytest.approx(wanted, abs=1e-4)
    assert result.mass == pytest.approx(mass, rel=1e-3)


@pytest.mark.parametrize("labels", [["yes", "no", "perhaps"], ["no", "none", "nothing at all"]])
def test_words_of_several_tokens_and_words_that_begin_alike(model, tokenizer, labels):
    prompt = TEXT + "\nAnswer:"
    end = "\n" if "none" in labels else ""
    wanted = exact_words(model, tokenizer, prompt, labels, end)
    result = measure(LocalTeacher(model, tokenizer), prompt, labels, letters=False)
    assert result.method == "scored"
    assert result.probabilities == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize("mass", [True, False])
def test_where_tokens_can_be_named_one_request_shows_every_label(model, tokenizer, mass):
    """A server that gives the most probable token and the named ones, the chosen one twice, as vLLM does."""
    labels = [str(i) for i in range(11)]
    wanted, total = exact_letters(model, tokenizer, 11)

    def named(ask):
        async def asking(request):
            assert request.params.grammar is None
            params = dataclasses.replace(request.params, top_logprobs=400, logprob_tokens=())
            reply = await ask(dataclasses.replace(request, params=params))
            [row] = reply.top_tokens
            shown = [token for token in row if token.text.strip() in request.params.logprob_tokens]
            reply.top_tokens = [[row[0], shown[0], *shown]]
            return reply

        return asking

    facts = {"max_top_tokens": 3, "supports_named_logprobs": True}
    result = measure(LocalTeacher(model, tokenizer), TEXT, labels, wrap=named, facts=facts, mass=mass)
    assert (result.method, result.usage.calls) == ("top_tokens", 1)
    assert result.probabilities == pytest.approx(wanted, abs=1e-4)
    assert result.mass == pytest.approx(total, rel=1e-3)


def test_samples_come_close(model, tokenizer):
    wanted, mass = exact_letters(model, tokenizer, 4)

    def bound(ask):
        async def asking(request):
            params = dataclasses.replace(request.params, grammar={"type": "regex", "value": "(A|B|C|D)"})
            return await ask(dataclasses.replace(request, params=params))

        return asking

    result = measure(LocalTeacher(model, tokenizer), TEXT, LABELS, wrap=bound, method="samples", samples=200)
    assert result.usage.calls == 200 and result.mass == 1.0
    for got, exact in zip(result.probabilities, wanted, strict=True):
        assert abs(got - exact) < 4 * math.sqrt(exact * (1 - exact) / 200) + 0.01


def test_samples_that_name_no_label_are_mass_that_is_missing():
    answers = iter(["A", " (B)", "I think so", "a cat", "A. yes"])

    async def ask(request):
        assert request.params.temperature == 0.7
        return TeacherReply(next(answers))

    info = TeacherInfo("m", supports_logprobs=False)
    result = asyncio.run(label_distribution(ask, info, "Why?", ["yes", "no"], temperature=0.7))
    assert result.method == "samples"
    assert (result.probabilities, result.mass) == ([pytest.approx(2 / 3), pytest.approx(1 / 3)], pytest.approx(0.6))


def test_a_server_that_ignores_logprobs_falls_back_on_samples():
    async def ask(request):
        return TeacherReply("B")

    result = asyncio.run(label_distribution(ask, TeacherInfo("m"), "Why?", ["yes", "no"]))
    assert (result.method, result.probabilities, result.mass) == ("samples", [0.0, 1.0], 1.0)
    with pytest.raises(TeacherRequestError, match="'grammar' or 'samples'"):
        asyncio.run(label_distribution(ask, TeacherInfo("m"), "Why?", ["yes", "no"], method="top_tokens"))


def test_over_tgi_it_is_the_published_request():
    rows = [[{"id": 1, "text": "A", "logprob": -0.2}, {"id": 2, "text": "B", "logprob": -9999.0}]]
    with FaultServer(tgi_routes() | {"/generate": generated("A", top_tokens=rows)}) as server:
        teacher = TGITeacher(server.url)
        result = measure(teacher, "Why?", ["yes", "no"], mass=False)
        sent = server.last("/generate").json["parameters"]
    assert (sent["do_sample"], sent["max_new_tokens"], sent["details"], sent["top_n_tokens"]) == (False, 1, True, 2)
    assert sent["grammar"] == {"type": "regex", "value": "(A|B)"}
    assert result.probabilities == [1.0, 0.0]


def test_entries_are_merged_by_stripped_text():
    tokens = [TopToken(" A", math.log(0.3)), TopToken("A", math.log(0.2)), TopToken("B", math.log(0.1))]

    async def ask(request):
        return TeacherReply("A", top_tokens=[tokens])

    result = asyncio.run(label_distribution(ask, TeacherInfo("m"), "Why?", ["yes", "no"]))
    assert result.probabilities == pytest.approx([5 / 6, 1 / 6])
    assert result.mass == pytest.approx(0.6)


def test_a_label_set_that_cannot_be_asked_is_refused():
    for labels, options in (
        (["yes"], {}),
        (["yes", "yes"], {}),
        (["yes", ""], {}),
        ([str(i) for i in range(63)], {}),
        (["yes", "no"], {"method": "guess"}),
        (["yes", "no"], {"method": "grammar", "letters": False}),
    ):
        with pytest.raises(ConfigurationError):
            asyncio.run(label_distribution(None, TeacherInfo("m"), "Why?", labels, **options))


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("no", "no"),
        ("None.", "none"),
        (" **no**", "no"),
        ("notary", None),
        ("", None),
        ("nothing at all!", "nothing at all"),
    ],
)
def test_a_reply_is_read_as_the_longest_label_it_begins_with(text, label):
    assert read_label(text, ["no", "none", "nothing at all"]) == label


def test_letters_join_the_last_turn_of_a_conversation():
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]
    asked = lettered(turns, ["yes", "no"])
    assert asked[0] == turns[0] and turns[1]["content"] == "Why?"
    assert asked[1]["content"].startswith("Why?\n\nA. yes\nB. no\n\n")
