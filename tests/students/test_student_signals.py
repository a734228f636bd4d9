"""Every signal against an implementation that does the obvious thing, one sequence at a time."""

from functools import partial

import numpy as np
import pytest
import torch
from helpers_models import ChunkTask, LineTask, tiny_model, tiny_tokenizer

from hf_active_distill.engine import Generated, Generator, keyed_uniforms
from hf_active_distill.errors import ConfigurationError
from hf_active_distill.records import PoolRow
from hf_active_distill.selection.base import SignalRequest
from hf_active_distill.students import Student
from hf_active_distill.students.batch import Batch
from hf_active_distill.students.signals import token_signals


TOKENIZER = tiny_tokenizer()
ROWS = [PoolRow(f"row-{i}", "What is 12 + 5?" * (i + 1)) for i in range(3)]


class ChoiceTask(ChunkTask):
    def answer_choices(self, row):
        return ["yes", "no", "may be"]


class SilentTask(ChunkTask):
    """No answer can be read in an explanation, and none in the second row's forced text."""

    def read_answer(self, text):
        return None

    def read_forced_answer(self, text):
        return None


def build(task=None, kind="llama", **kwargs):
    settings = {"max_new_tokens": 22, "batch_size": 2, "seed": 3, **kwargs}
    return Student(tiny_model(kind), TOKENIZER, task or ChunkTask(max_steps=4), **settings)


def signal(student, name, rows=ROWS, round=0, **options):
    request = SignalRequest.of(name, **options)
    candidates = student.candidates(rows, [request], round=round)
    return candidates, [candidate.signals[request] for candidate in candidates]


class Obvious:
    """Prompt, explanation and boundaries of one row, found by decoding ever longer prefixes."""

    def __init__(self, student, row):
        self.student, self.model, self.task = student, student.model, student.task
        self.prompt = TOKENIZER(student.task.student_prompt(row))["input_ids"]
        ids = torch.tensor([self.prompt])
        with torch.no_grad():
            out = self.model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=student.max_new_tokens,
                do_sample=False,
                eos_token_id=1,
                pad_token_id=2,
            )
        self.tokens = out[0, len(self.prompt) :].tolist()
        raw = self.text_of(self.tokens)
        self.text = raw.strip()
        lead = len(raw) - len(raw.lstrip())
        self.spans = self.task.split_steps(self.text)
        self.bounds = [0]
        for span in self.spans:
            lengths = [len(self.text_of(self.tokens[:i]).rstrip("\ufffd")) for i in range(len(self.tokens))]
            self.bounds.append(next((i for i, n in enumerate(lengths) if n >= lead + span.end), len(self.tokens)))

    @staticmethod
    def text_of(tokens):
        return TOKENIZER.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def sequences(self, removal):
        bounds, tokens = self.bounds, self.tokens
        if removal == "prefix":
            return [self.prompt + tokens[:bound] for bound in bounds]
        without = [tokens[:a] + tokens[b : bounds[-1]] for a, b in zip(bounds, bounds[1:], strict=False)]
        return [self.prompt + kept for kept in [*without, tokens[: bounds[-1]]]]

    def logprob(self, context, ids):
        with torch.no_grad():
            logits = self.model(torch.tensor([context + ids])).logits[0].double().log_softmax(-1)
        return sum(float(logits[len(context) + i - 1, token]) for i, token in enumerate(ids))

    def force(self, context, count=16):
        tokens = []
        while len(tokens) < count:
            with torch.no_grad():
                tokens.append(int(self.model(torch.tensor([context + tokens])).logits[0, -1].argmax()))
            if tokens[-1] == 1 or "\n" in self.text_of(tokens).lstrip():
                break
        return tokens


CUE = TOKENIZER("\nThe answer is")["input_ids"]


def answer_ids(answer):
    return TOKENIZER("\nThe answer is " + answer)["input_ids"][len(CUE) :]


@pytest.mark.parametrize("removal", ["prefix", "leave_one_out"])
@pytest.mark.parametrize("kind", ["llama", "mistral", "gpt_neo"])
def test_boundaries(removal, kind):
    student = build(kind=kind)
    candidates, signals = signal(student, "boundaries", removal=removal, answers=True, answer_tokens=5)
    for candidate, value in zip(candidates, signals, strict=True):
        obvious = Obvious(student, candidate.row)
        assert candidate.explanation.text == obvious.text
        assert candidate.explanation.steps == [span.text for span in obvious.spans]
        contexts = [sequence + CUE for sequence in obvious.sequences(removal)]
        ids = answer_ids(candidate.explanation.answer)
        expected = [obvious.logprob(context, ids) for context in contexts]
        assert value.final_logprobs == pytest.approx(np.array(expected), abs=1e-4)
        forced = [student.task.read_forced_answer(obvious.text_of(obvious.force(c, 5))) for c in contexts]
        assert value.answers == forced
        assert value.distributions is None


def test_distribution_over_the_choices_of_a_row():
    student = build(ChoiceTask(max_steps=4))
    candidates, signals = signal(student, "boundaries", distribution=True)
    for candidate, value in zip(candidates, signals, strict=True):
        obvious = Obvious(student, candidate.row)
        contexts = [sequence + CUE for sequence in obvious.sequences("prefix")]
        scores = [[obvious.logprob(c, answer_ids(choice)) for choice in ("yes", "no", "may be")] for c in contexts]
        expected = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        assert value.distributions == pytest.approx(expected, abs=1e-4)
        final = [obvious.logprob(c, answer_ids(candidate.explanation.answer)) for c in contexts]
        assert value.final_logprobs == pytest.approx(np.array(final), abs=1e-4)
        assert value.answers is None


def test_distribution_over_the_answers_seen():
    student = build()
    candidates, signals = signal(student, "boundaries", distribution=True, answers=True)
    for candidate, value in zip(candidates, signals, strict=True):
        obvious = Obvious(student, candidate.row)
        contexts = [sequence + CUE for sequence in obvious.sequences("prefix")]
        seen = list(dict.fromkeys([candidate.explanation.answer, *value.answers]))
        assert value.distributions.shape == (len(contexts), len(seen))
        scores = np.array([[obvious.logprob(c, answer_ids(answer)) for answer in seen] for c in contexts])
        scores = scores - scores.max(axis=1, keepdims=True)
        assert value.distributions == pytest.approx(np.exp(scores) / np.exp(scores).sum(1, keepdims=True), abs=1e-4)


def test_without_an_answer_the_forced_text_takes_its_place():
    student = build(SilentTask(max_steps=4))
    candidates, signals = signal(student, "boundaries", answers=True)
    for candidate, value in zip(candidates, signals, strict=True):
        obvious = Obvious(student, candidate.row)
        assert candidate.explanation.answer is None
        assert value.answers == [None] * len(obvious.bounds)
        contexts = [sequence + CUE for sequence in obvious.sequences("prefix")]
        ids = obvious.force(contexts[-1])
        while ids[-1] < 5:
            ids.pop()
        expected = [obvious.logprob(context, ids) for context in contexts]
        assert value.final_logprobs == pytest.approx(np.array(expected), abs=1e-4)


def test_an_explanation_without_steps_has_one_position():
    class Stepless(ChunkTask):
        def split_steps(self, text):
            return []

    student = build(Stepless())
    for removal in ("prefix", "leave_one_out"):
        _, signals = signal(student, "boundaries", removal=removal, answers=True, distribution=True)
        for value in signals:
            assert value.final_logprobs.shape == (1,)
            assert len(value.answers) == len(value.distributions) == 1
    _, resampled = signal(student, "resamples", samples=2)
    assert all(value.steps == [] for value in resampled)


def test_self_confidence_is_the_mean_probability_of_the_answer():
    student = build()
    candidates, signals = signal(student, "self_confidence")
    for candidate, value in zip(candidates, signals, strict=True):
        obvious = Obvious(student, candidate.row)
        ids = answer_ids(candidate.explanation.answer)
        context = obvious.sequences("prefix")[-1] + CUE
        assert value == pytest.approx(np.exp(obvious.logprob(context, ids) / len(ids)), rel=1e-4)


def test_p_true_asks_behind_the_whole_explanation():
    student = build()
    question = TOKENIZER("\nIs this answer right? Reply yes or no:")["input_ids"]
    candidates, signals = signal(student, "self_confidence", form="p_true")
    for candidate, value in zip(candidates, signals, strict=True):
        obvious = Obvious(student, candidate.row)
        context = obvious.prompt + [token for token in obvious.tokens if token != 1] + question
        yes, no = (np.exp(obvious.logprob(context, TOKENIZER(word)["input_ids"])) for word in (" yes", " no"))
        assert value == pytest.approx(yes / (yes + no), rel=1e-4)


@pytest.mark.parametrize("kind", ["llama", "gpt_neo"])
def test_resamples(kind):
    student = build(kind=kind)
    candidates, signals = signal(student, "resamples", round=2, samples=2, temperature=0.8, step_tokens=9)
    generator = Generator(student.model, eos_ids=[1], batch_size=1)
    for candidate, value in zip(candidates, signals, strict=True):
        obvious = Obvious(student, candidate.row)
        assert value.greedy == candidate.explanation.steps
        assert len(value.steps) == len(value.greedy)

        def text_with(before, tokens, obvious=obvious):
            return obvious.text_of(before + tokens).lstrip()

        for index, samples in enumerate(value.steps):
            before = obvious.tokens[: obvious.bounds[index]]
            for number, found in enumerate(samples):
                noise = keyed_uniforms(9, 3, 2, candidate.row_id, number, f"step {index}")
                text = partial(text_with, before)

                def stop(row, tokens, text=text, index=index):
                    return len(student.task.split_steps(text(tokens))) > index + 1

                (alone,) = generator.generate(
                    [obvious.prompt + before], max_new_tokens=9, temperature=0.8, uniforms=[noise], stop=stop
                )
                steps = student.task.split_steps(text([token for token in alone.tokens if token > 2]))
                expected = steps[index].text if len(steps) > index else text(alone.tokens)[len(text([])) :].strip()
                assert found == expected


def test_tokens():
    student = build()
    candidates, signals = signal(student, "tokens")
    for candidate, value in zip(candidates, signals, strict=True):
        obvious = Obvious(student, candidate.row)
        assert candidate.explanation.num_tokens == len(value.logprobs) == len(value.entropies) == len(obvious.tokens)
        steps = [int(np.searchsorted(obvious.bounds[1:], i, side="right")) for i in range(len(obvious.tokens))]
        raw = obvious.text_of(obvious.tokens)
        lead = len(raw) - len(raw.lstrip())
        shown = [len(obvious.text_of(obvious.tokens[:i])) for i in range(len(obvious.tokens) + 1)]
        checked = 0
        for i, (step, found) in enumerate(zip(steps, value.step_of, strict=True)):
            if lead < shown[i + 1] > shown[i]:
                assert found == (-1 if step == len(obvious.spans) else step)
                checked += 1
        assert checked > 10


def test_what_stands_between_steps_and_behind_them_belongs_to_none():
    text = "12 + 5 = 17.\n\nSo 17 - 4 = 13.\nThe answer is 13"
    tokens = TOKENIZER(text)["input_ids"] + [1]
    student = build(LineTask())
    batch = Batch(student, ROWS[:1], 0, False)
    batch.generated = [Generated(tokens, [0.0] * len(tokens), [0.0] * len(tokens))]
    batch.written = [student.codec.read(tokens)]
    (value,) = token_signals(batch)
    parts = {
        step: TOKENIZER.decode([t for t, s in zip(tokens, value.step_of, strict=True) if s == step])
        for step in (0, 1, -1)
    }
    assert parts[0] == "12 + 5 = 17."
    assert parts[1] == "So 17 - 4 = 13."
    assert parts[-1] == "\n\n\nThe answer is 13</s>"


def test_embedding_is_the_mean_over_the_prompt():
    student = build()
    candidates, signals = signal(student, "embedding")
    for candidate, value in zip(candidates, signals, strict=True):
        assert candidate.explanation is None
        ids = TOKENIZER(student.task.student_prompt(candidate.row))["input_ids"]
        with torch.no_grad():
            hidden = student.model(torch.tensor([ids]), output_hidden_states=True).hidden_states[-1][0]
        assert value == pytest.approx(hidden.mean(0).numpy(), abs=1e-5)


def test_samples_are_those_of_sample():
    student = build()
    _, signals = signal(student, "samples", round=1, k=2, temperature=0.9)
    assert signals == student.sample(ROWS, k=2, temperature=0.9, round=1)
    assert [e.sample_index for e in signals[0]] == [1, 2]


def test_unknown_signals_and_options_are_refused_before_any_work():
    student = build()
    student.model = None
    with pytest.raises(ConfigurationError, match="Unknown signal 'gradients'"):
        student.candidates(ROWS, [SignalRequest.of("gradients")])
    with pytest.raises(ConfigurationError, match="no option 'n'. It has: k, temperature"):
        student.candidates(ROWS, [SignalRequest.of("samples", n=3)])
    with pytest.raises(ConfigurationError, match="removal='suffix'"):
        signal(build(), "boundaries", removal="suffix")
    with pytest.raises(ConfigurationError, match="form='loud'"):
        signal(build(), "self_confidence", form="loud")
