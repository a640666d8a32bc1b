"""Tokenizers of others: what makes the library search, grow or allocate without end is refused."""

import json

import pytest

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.models.preprocessing.tokenizer_file import encode, load_tokenizer

WORDS = {'<unk>': 0, '▁': 1, 'a': 2, 'b': 3}
MODEL = {'type': 'BPE', 'unk_token': '<unk>', 'vocab': WORDS, 'merges': []}
REPLACE = {'type': 'Replace', 'pattern': {'String': ' '}, 'content': '▁'}
SPLIT = {'type': 'Split', 'behavior': 'Isolated', 'invert': False}


def sequence(*steps):
    return {'type': 'Sequence', 'normalizers': list(steps)}


def added(content):
    flags = dict.fromkeys(('single_word', 'lstrip', 'rstrip', 'normalized', 'special'), False)
    return {'id': 9, 'content': content, **flags}


def load(directory, **parts):
    text = json.dumps({'version': '1.0', 'added_tokens': [], 'model': MODEL, **parts})
    (directory / 'tokenizer.json').write_text(text, 'utf-8')
    return load_tokenizer(directory)


def test_the_parts_of_llama_2_and_gemma_are_taken(tmp_path):
    tokenizer = load(
        tmp_path,
        normalizer=sequence({'type': 'Prepend', 'prepend': '▁'}, REPLACE),
        pre_tokenizer={**SPLIT, 'pattern': {'String': ' '}},
        added_tokens=[added('\n' * 31)],
    )
    assert encode(tokenizer, 'a b').tokens == ['▁', 'a', '▁', 'b']


@pytest.mark.parametrize(
    'parts, words',
    [
        ({'pre_tokenizer': {**SPLIT, 'pattern': {'Regex': '(a+)+$'}}}, 'regular expression'),
        ({'decoder': {**REPLACE, 'pattern': {'Regex': '(a{1000}){1000}'}}}, 'regular expression'),
        ({'normalizer': sequence(*[{**REPLACE, 'content': 'aa'}] * 20)}, 'times as long'),
        ({'normalizer': {**REPLACE, 'pattern': {'String': ''}}}, 'replaces nothing'),
        ({'normalizer': {'type': 'Prepend', 'prepend': 'x' * 10_000}}, '10000 characters'),
        (
            {'normalizer': {'type': 'Precompiled', 'precompiled_charsmap': 'AAAA'}},
            'precompiled table',
        ),
        ({'normalizer': sequence(*[{'type': 'NFKD'}] * 1000)}, '1001 steps'),
        ({'added_tokens': [added('x' * 1000)]}, '1000 characters'),
        ({'added_tokens': [added('x')] * 30_000}, 'at most 20000'),
        ({'model': {**MODEL, 'dropout': 0.5}}, 'dropout'),
        ({'model': {**MODEL, 'type': 'Unigram'}}, 'expected BPE'),
        ({'model': []}, 'no model'),
        ({'truncation': [[]] * 2_000_000}, 'lists and objects'),
    ],
)
def test_what_they_do_not_have_is_refused_before_it_is_built(tmp_path, parts, words):
    with pytest.raises(UserError) as caught:
        load(tmp_path, **parts)
    assert words in str(caught.value) and '\n' not in str(caught.value)


def test_a_tokenizer_that_fails_is_one_line(tmp_path):
    tokenizer = load(tmp_path, pre_tokenizer={'type': 'FixedLength', 'length': 0})
    with pytest.raises(UserError, match='the tokenizer fails'):
        encode(tokenizer, 'a')
