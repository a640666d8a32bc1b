"""
Reading `tokenizer.json`, the format of Hugging Face tokenizers, of somebody else.

The library builds whatever the file says: regular expressions that search for ever, replacements
that make a megabyte of each letter, tables for which it allocates gigabytes before it ends the
process. The tokenizers of Llama 2 and Gemma have none of these, so they are refused.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from sqap_vla_ros.errors import shown, UserError
from sqap_vla_ros.input_files import MIB, parse_json, read_text

TOKENIZER_FILE = 'tokenizer.json'
TOKENIZER_BYTES = 64 * MIB
"""Gemma's, with 262 144 tokens, has 33 MiB."""
MOST_LISTS = 2_000_000
"""Lists and objects of the file; each merge of two tokens is one, and Gemma has 514 906."""
MOST_ADDED = 20_000
"""Added tokens; Gemma 3 has 6414."""
MOST_STEPS = 50
"""Of the normalizer, pre_tokenizer, decoder or post_processor."""
MOST_CHARACTERS = 256
"""Of a text in one of these, or of an added token."""
MOST_GROWTH = 1000
"""By how much the normalizer may lengthen a text."""
PARTS = ('normalizer', 'pre_tokenizer', 'decoder', 'post_processor')


def load_tokenizer(directory: Path) -> Tokenizer:
    """
    Read `tokenizer.json`.

    Text that looks like a special token is not parsed as one, so an instruction cannot end the
    prompt.

    Raises:
        UserError: names the file that is missing or damaged, or has what no tokenizer needs.
    """
    path = Path(directory) / TOKENIZER_FILE
    if not path.is_file():
        raise UserError(
            f'{path}: no such file; copy the tokenizer of the base model there, or '
            'import with --tokenizer FOLDER'
        )
    text = read_text(path, TOKENIZER_BYTES, 'a tokenizer')
    try:
        _check(parse_json(text, MOST_LISTS))
        tokenizer = Tokenizer.from_str(text)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # tokenizers raises nothing more specific, and Rust's panics
        reason = ' '.join(str(error).split())[:200]
        raise UserError(f'{path}: not a tokenizer file ({reason})') from None
    tokenizer.encode_special_tokens = True
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def encode(tokenizer: Tokenizer, text: str) -> Any:
    """
    Tokenize a text, without special tokens.

    Returns:
        The `Encoding` of tokenizers, with `ids` and `tokens`.

    Raises:
        UserError: the tokenizer fails.
    """
    try:
        return tokenizer.encode(text, add_special_tokens=False)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        reason = ' '.join(str(error).split())[:200]
        raise UserError(f'the tokenizer fails at {text[:40]!a}: {reason}') from None


def _check(data: Any) -> None:
    """Raise ValueError where a tokenizer has what Llama 2 and Gemma have not."""
    if not isinstance(data, dict) or not isinstance(data.get('model'), dict):
        raise ValueError('it has no model')
    model = data['model']
    kind = model.get('type', 'BPE')
    if kind != 'BPE':
        raise ValueError(f'its model is {shown(kind)}, expected BPE, as Llama 2 and Gemma have')
    if model.get('dropout'):
        raise ValueError('its model has dropout, which makes tokens random')
    added = data.get('added_tokens') or []
    if not isinstance(added, list) or len(added) > MOST_ADDED:
        raise ValueError(f'added_tokens: expected a list of at most {MOST_ADDED}')
    settings = {key: value for key, value in model.items() if key not in ('vocab', 'merges')}
    for part in (*added, settings, *(data.get(name) for name in PARTS)):
        for key, value in _values(part):
            if isinstance(value, str) and len(value) > MOST_CHARACTERS:
                raise ValueError(f'{shown(key)} has {len(value)} characters')
    for name in PARTS:
        _check_part(name, data.get(name))


def _check_part(name: str, part: Any) -> None:
    steps, growth = 0, 1.0
    for key, value in _values(part):
        steps += key == 'type'
        if key == 'Regex':
            raise ValueError(
                f'{name}: a regular expression, which can search for ever; Llama 2 and Gemma '
                'have none'
            )
        if value == 'Precompiled':
            raise ValueError(f'{name}: a precompiled table, which is not checked')
        if key == 'content' and isinstance(value, str):
            growth *= max(len(value), 1)
        if key == 'String' and value == '':
            raise ValueError(f'{name}: it replaces nothing, everywhere')
    if steps > MOST_STEPS or (name == 'normalizer' and growth > MOST_GROWTH):
        raise ValueError(f'{name}: {steps} steps, which make a text {growth:g} times as long')


def _values(part: Any) -> Iterator[tuple[str, Any]]:
    """Yield all keys and values of nested JSON, those of lists with the key of the list."""
    waiting: list[tuple[str, Any]] = [('', part)]
    while waiting:
        key, value = waiting.pop()
        if isinstance(value, dict):
            waiting += value.items()
        elif isinstance(value, list):
            waiting += [(key, item) for item in value]
        else:
            yield key, value
