"""Malicious and malformed instructions."""

import random

SPECIAL = (
    '<s>',
    '</s>',
    '<pad>',
    '<unk>',
    '<image>',
    '[INST]',
    '<|endoftext|>',
    '<PAD>',
    '<mask>',
    '\u2581',
    '###',
)
FORMATS = (
    '%s',
    '%n',
    '%x' * 20,
    '{0}',
    '{}',
    '{self.__class__}',
    '${HOME}',
    '$(reboot)',
    '`id`',
    "'; DROP TABLE",
    '\\x00',
    '\\n',
    '../../etc/passwd',
    '%(name)s',
    '\\u202e',
)
CONTROL = (
    '\x00',
    '\x07',
    '\x08',
    '\x1b[2J',
    '\x1b]0;title\x07',
    '\r',
    '\n',
    '\t',
    '\x7f',
    '\x85',
    '\u2028',
    '\u2029',
    '\u202e',
    '\u200b',
    '\ufeff',
    '\ue000',
)
UNICODE = (
    '\u00e9',
    'e\u0301',
    '\ufb01',
    '\uff4f\uff50\uff45\uff4e',
    '\u4e2d\u6587',
    '\U0001f600',
    '\u0661',
    '\u0130',
    'Z\u0351\u036b\u0343',
    '\u1e9e',
    '\u2160',
    '\ufdfa',
)
WORDS = ('open', 'the', 'drawer', 'push', 'red', 'button', 'OPEN', 'Drawer,')


def cases(count, seed=0):
    """Yield `count` instructions; every 500th has a megabyte."""
    rng = random.Random(seed)
    pools = (SPECIAL, FORMATS, CONTROL, UNICODE, WORDS)
    for number in range(count):
        parts = [rng.choice(rng.choice(pools)) for _ in range(rng.randrange(0, 40))]
        text = rng.choice(('', ' ')).join(parts)
        if number % 500 == 499:
            text = (text or 'x') * (1_000_000 // max(len(text), 1))
        if number % 7 == 0:
            text += ''.join(
                chr(
                    rng.choice(
                        (rng.randrange(32), rng.randrange(0xD800), rng.randrange(0xE000, 0x110000))
                    )
                )
                for _ in range(rng.randrange(60))
            )
        yield text
