"""`sqap_vla import`: a released checkpoint to a policy directory."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from sqap_vla_ros.errors import UserError

if TYPE_CHECKING:
    from sqap_vla_ros.models.importers.released import Released


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        'source',
        help='folder of the released checkpoint (with --allow-download '
        'also a Hugging Face repository, owner/name)',
    )
    parser.add_argument('output', type=Path, help='policy directory to write')
    parser.add_argument(
        '--dataset', metavar='KEY', help='whose action statistics to use, where there are several'
    )
    parser.add_argument(
        '--tokenizer',
        type=Path,
        metavar='DIR',
        help='folder with tokenizer.json, where the checkpoint has none',
    )
    parser.add_argument(
        '--step-s',
        type=float,
        metavar='SECONDS',
        help='time that one action lasts, where the dataset is not a known one',
    )
    parser.add_argument(
        '--dtype',
        choices=('float32', 'bfloat16', 'float16'),
        help='type of the weights to write, but for the action head of CogACT (default: as they '
        'are stored; where types are mixed, the widest of them)',
    )
    parser.add_argument(
        '--crop-area',
        type=float,
        metavar='SHARE',
        help='OpenVLA: share of the image that is used, at its centre (default: as the known '
        'dataset says, else 1)',
    )
    parser.add_argument(
        '--columns',
        default='',
        metavar='FILE',
        help='what the state and action columns mean: a YAML file, or the name of a known '
        'dataset (default: by the name of the dataset)',
    )
    for name, what in (
        ('cameras', 'of the cameras'),
        ('state-names', 'of the state columns'),
        ('state-units', 'units of the state columns'),
        ('action-names', 'of the action columns'),
        ('action-units', 'units of the action columns'),
    ):
        parser.add_argument(
            f'--{name}',
            type=_names,
            default=(),
            metavar='A,B,...',
            help=f'names {what}' if 'units' not in name else what,
        )
    relative = parser.add_mutually_exclusive_group()
    relative.add_argument(
        '--relative-actions',
        type=_names,
        metavar='A,B,...',
        help='pi0 of openpi: action columns that are offsets from the state (DeltaActions)',
    )
    relative.add_argument(
        '--no-relative-actions',
        action='store_const',
        const=(),
        dest='relative_actions',
        help='pi0 of openpi: all actions are absolute',
    )
    parser.add_argument(
        '--letterbox-bars',
        type=float,
        metavar='VALUE',
        help='pi0 of lerobot: value of the bars beside an image; -3 for policies trained before '
        'lerobot 0.5.0 (default -1)',
    )
    parser.add_argument(
        '--attention-heads',
        type=int,
        metavar='N',
        help='pi0: heads of the language model and the expert, where they are not 8 as published',
    )
    parser.add_argument(
        '--allow-download',
        action='store_true',
        help='fetch SOURCE from the Hugging Face hub when it is no folder',
    )


def run(arguments: argparse.Namespace) -> int:
    """Import and say what was written."""
    from tqdm import tqdm

    from sqap_vla_ros.models.import_policy import import_policy
    from sqap_vla_ros.models.importers.released import ImportOptions

    if arguments.crop_area is not None and not 0.01 <= arguments.crop_area <= 1:
        raise UserError(f'--crop-area is {arguments.crop_area}, expected 0.01 .. 1')
    if arguments.step_s is not None and not 0 < arguments.step_s < float('inf'):
        raise UserError(f'--step-s is {arguments.step_s}, expected more than 0')
    if arguments.letterbox_bars is not None and not -10 <= arguments.letterbox_bars <= 10:
        raise UserError(f'--letterbox-bars is {arguments.letterbox_bars}, expected -1 or -3')
    if arguments.attention_heads is not None and not 0 < arguments.attention_heads <= 256:
        raise UserError(f'--attention-heads is {arguments.attention_heads}, expected 1 to 256')
    options = ImportOptions(
        dataset=arguments.dataset,
        tokenizer=arguments.tokenizer,
        step_s=arguments.step_s,
        dtype=arguments.dtype,
        crop_area=arguments.crop_area,
        cameras=arguments.cameras,
        columns=arguments.columns,
        state_names=arguments.state_names,
        state_units=arguments.state_units,
        action_names=arguments.action_names,
        action_units=arguments.action_units,
        relative_actions=arguments.relative_actions,
        letterbox_bars=arguments.letterbox_bars,
        attention_heads=arguments.attention_heads,
    )
    source, output = Path(arguments.source), Path(os.path.realpath(arguments.output))
    if not source.is_dir() and arguments.allow_download:
        source = _download(arguments.source)
    released = import_policy(
        source, arguments.output, options, lambda names: tqdm(names, unit='tensor', disable=None)
    )
    size = sum(path.stat().st_size for path in output.iterdir())
    for line in describe_import(released, arguments.columns):
        print(line)
    where = (
        f'columns of {arguments.columns}'
        if arguments.columns
        else f'dataset {released.config.dataset!r}'
    )
    print(
        f'{arguments.output}: {released.family}, {where}, '
        f'{size / 1e9:.2f} GB; next: sqap_vla check {arguments.output}'
    )
    return 0


def describe_import(released: 'Released', columns: str = '') -> list[str]:
    """
    Describe what the columns of an imported policy mean, one line each.

    Args:
        released: the policy.
        columns: the file or known dataset that the user named; empty: the policy's own dataset.
    """
    from sqap_vla_ros.action_chunk import ActionSpec
    from sqap_vla_ros.models.importers.datasets import dataset_for
    from sqap_vla_ros.models.importers.description import describe_images, describe_meaning

    config = released.config
    if not hasattr(config, 'action'):
        return []
    dataset = dataset_for(columns, config.dataset, config.model_type)
    return [
        f'cameras, in the order of training: {", ".join(config.cameras)}',
        *describe_meaning(
            getattr(config, 'state', ()),
            ActionSpec.of(config.action, config.step_s, 1),
            getattr(config, 'relative_actions', ()),
        ),
        *describe_images(dataset, getattr(config, 'crop_area', None)),
    ]


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(',') if name.strip())


def _download(repository: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(
                repository,
                # The checkpoint's code is never run; it tells variants of a model apart.
                allow_patterns=[
                    '*.json',
                    '*.py',
                    '*.safetensors',
                    'checkpoints/*.pt',
                    'assets/**',
                ],
            )
        )
    except Exception as error:  # the hub's client raises many kinds, all to be told in one line
        reason = ' '.join(str(error).split())[:160]
        raise UserError(
            f'{repository}: cannot be downloaded ({reason}); download it yourself and '
            'give the folder'
        ) from None
