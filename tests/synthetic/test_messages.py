"""The support messages: a label for every text, a posterior that holds, and a teacher whose probabilities hold."""

import asyncio
import dataclasses
from collections import Counter

import pytest

from hf_active_distill.errors import ConfigurationError, DataError
from hf_active_distill.exchange import ServingParams
from hf_active_distill.serving.backend import Backend
from hf_active_distill.serving.scripted import scripted_backend
from hf_active_distill.serving.scripted_labels import LabelTeacher
from hf_active_distill.synthetic import LabelWorld, MessageWorld, World, get_world
from hf_active_distill.synthetic.message_phrases import CUES, DETAILS, DISTRACTORS, NAMED, REMARKS, VAGUE
from hf_active_distill.synthetic.messages import CONFUSED, KINDS, POOL_SHARES, vocabulary
from hf_active_distill.tasks import get_task
from hf_active_distill.teachers import label_distribution
from hf_active_distill.teachers.labels import lettered


WORLD = get_world("support_messages")
POOL = WORLD.problems(4000, 0, "train")
EVAL = WORLD.problems(2000, 0, "eval")


def test_it_is_a_world_of_labels_that_the_task_takes():
    assert isinstance(WORLD, LabelWorld) and not isinstance(WORLD, World)
    assert not isinstance(get_world("arithmetic_skewed"), LabelWorld)
    task = get_task("classification", labels=WORLD.labels, descriptions=WORLD.descriptions)
    row = task.read_row({"text": POOL[0].prompt, "label": POOL[0].reference})
    assert row.reference == POOL[0].reference and task.texts(row) == (POOL[0].prompt,)
    assert all(CONFUSED[CONFUSED[label]] == label != CONFUSED[label] for label in WORLD.labels)


def test_splits_share_no_text_and_rows_are_unique_and_seeded():
    train, held_out = {row.prompt for row in POOL}, {row.prompt for row in EVAL}
    assert len(train) == 4000 and len(held_out) == 2000 and not train & held_out
    assert not train & {row.prompt for row in WORLD.problems(1000, 0, "pretrain")}
    assert WORLD.problems(30, 0, "train") == POOL[:30] != WORLD.problems(30, 1, "train")


def test_the_pool_is_skewed_and_the_evaluation_is_not():
    found = Counter(row.reference for row in POOL)
    for label, share in POOL_SHARES.items():
        assert found[label] / 4000 == pytest.approx(share, abs=0.05)
    found = Counter(row.reference for row in EVAL)
    assert all(0.12 < found[label] / 2000 < 0.22 for label in WORLD.labels)
    kinds = Counter(row.columns["kind"] for row in POOL)
    assert all(kinds[kind] / 4000 == pytest.approx(share, abs=0.03) for kind, share in KINDS.items())


def test_every_phrase_says_one_thing():
    for label, cues in CUES.items():
        for cue in cues:
            assert WORLD.posterior(cue.format(item="lamp") + ".")[label] == 1
    for phrase, shares in VAGUE.items():
        assert sum(shares.values()) == pytest.approx(1)
        found = WORLD.posterior(phrase.format(item="lamp"))
        assert {label: p for label, p in found.items() if p} == shares
    silent = [*REMARKS, *(detail for details in DETAILS.values() for detail in details)]
    silent += [said.format(name) for said in DISTRACTORS for name in NAMED.values()]
    for phrase in silent:
        with pytest.raises(DataError, match="no message"):
            WORLD.posterior(phrase)


def test_two_requests_leave_the_first_more_probable():
    found = WORLD.posterior("hello. the lamp leaks. also, stop my subscription. thanks.")
    assert {k: v for k, v in found.items() if v} == {
        "technical fault": pytest.approx(0.7),
        "cancellation": pytest.approx(0.3),
    }


@pytest.mark.parametrize("kind", KINDS)
def test_labels_follow_the_posterior(kind):
    rows = [row for row in [*POOL, *EVAL] if row.columns["kind"] == kind]
    sure = [max(WORLD.posterior(row.prompt).values()) for row in rows]
    right = [max(p := WORLD.posterior(row.prompt), key=p.get) == row.reference for row in rows]
    assert sum(right) / len(rows) == pytest.approx(sum(sure) / len(rows), abs=4 * 0.5 / len(rows) ** 0.5)
    assert kind in ("mixed", "vague") or all(p == 1 for p in sure)


def test_the_vocabulary_holds_every_word():
    words = set(vocabulary())
    for row in POOL[:500]:
        assert set(row.prompt.lower().replace(".", " ").replace(",", " ").split()) <= words


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.3])
def test_the_teacher_errs_at_its_rate_and_is_calibrated(rate):
    teacher = LabelTeacher(WORLD, error_rate=rate, seed=5)
    clear, bins = [], {}
    for row in POOL:
        probabilities = teacher.distribution(row.prompt)
        assert sum(probabilities.values()) == pytest.approx(1)
        label = max(probabilities, key=probabilities.get)
        bins.setdefault(int(probabilities[label] * 8), []).append((probabilities[label], label == row.reference))
        if row.columns["kind"] in ("clear", "noisy"):
            clear.append(label != row.reference)
    assert sum(clear) / len(clear) == pytest.approx(rate, abs=0.02)
    for pairs in bins.values():
        if len(pairs) >= 40:
            mean, right = (sum(column) / len(pairs) for column in zip(*pairs, strict=True))
            assert right == pytest.approx(mean, abs=4 * 0.5 / len(pairs) ** 0.5)


def test_mistakes_depend_on_the_seed_and_rates_have_a_limit():
    texts = [row.prompt for row in POOL[:200]]
    said = [[LabelTeacher(WORLD, error_rate=0.2, seed=s).distribution(text) for text in texts] for s in (1, 1, 2)]
    assert said[0] == said[1] != said[2]
    with pytest.raises(ConfigurationError, match="0 and 0.5"):
        scripted_backend("support_messages", error_rate=0.8)
    with pytest.raises(ConfigurationError, match="shares"):
        MessageWorld(shares={"billing": 1.0})


def test_the_backend_serves_the_distribution_as_log_probabilities():
    backend = scripted_backend("support_messages", error_rate=0.1)
    assert isinstance(backend, Backend)

    async def ask(request):
        return await backend.chat(request.message_list(), ServingParams(**vars(request.params)))

    text = POOL[0].prompt
    prompt = [{"role": "user", "content": f"Which?\n\nText to label:\n{text}"}]
    exact = LabelTeacher(WORLD, error_rate=0.1).distribution(text)
    info = dataclasses.replace(backend.info(), max_top_tokens=10)
    for method in ("top_tokens", "grammar"):
        found = asyncio.run(label_distribution(ask, info, prompt, WORLD.labels, method=method))
        assert dict(zip(found.labels, found.probabilities, strict=True)) == pytest.approx(exact, abs=1e-6)
        assert found.mass == pytest.approx(0.97, abs=1e-6)


def say(content, **params):
    return asyncio.run(
        scripted_backend("support_messages").chat([{"role": "user", "content": content}], ServingParams(**params))
    )


def test_replies_of_one_token_and_plain_questions():
    text = "hello. the lamp leaks."
    asked = lettered(f"Which?\n\nText to label:\n{text}", WORLD.labels)
    reply = say(asked, max_new_tokens=1, top_logprobs=3)
    assert (reply.text, reply.finish_reason, reply.usage.completion_tokens) == ("E", "length", 1)
    assert len(reply.top_tokens[0]) == 3 and reply.tokens[0].logprob == reply.top_tokens[0][0].logprob
    assert say(asked, max_new_tokens=8).finish_reason == "stop"
    sampled = Counter(say(asked, max_new_tokens=8, temperature=5.0, seed=seed).text for seed in range(60))
    assert len(sampled) > 2 and sampled == Counter(
        say(asked, max_new_tokens=8, temperature=5.0, seed=seed).text for seed in range(60)
    )
    assert say(text).text == "Label: technical fault"
    assert "do not know" in say("What is the capital of France?").text
