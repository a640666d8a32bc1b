"""
Golden folders and actions of lerobot's own pi0, on tiny random weights.

Not run in CI. Needs a separate environment (Python 3.12):

    pip install 'lerobot[pi]==0.6.1'
    cd test && PYTHONPATH=.. python -m support.generate_lerobot_fixtures fixtures/lerobot

For each case lerobot's `save_pretrained` writes `config.json` and both pipelines with their state
files. The weights are those of `tiny_pi0.tensors`, which the tests draw again; `weights.json` has
the names and shapes under which lerobot saves them, `bfloat16.json` the names of those that a
model in bfloat16 has in that type. Such a model computes in float32 here, so that the actions show
what lerobot rounds, and not how it rounds sums.
"""

import json
from pathlib import Path
import shutil
import sys
import tempfile

from lerobot.configs import FeatureType, NormalizationMode, PolicyFeature
from lerobot.policies.pi0 import modeling_pi0
from lerobot.policies.pi0.configuration_pi0 import PI0Config
from lerobot.policies.pi0.processor_pi0 import make_pi0_pre_post_processors
from lerobot.processor import tokenizer_processor
import numpy as np
from safetensors import safe_open
from safetensors.torch import save_file
from tokenizers.processors import TemplateProcessing
import torch
from transformers import PreTrainedTokenizerFast

from support import tiny_lerobot as cases
from support import tiny_pi0 as tiny


def make_small():
    """Give lerobot's model the tiny sizes; its vision tower is replaced afterwards."""
    sizes = {'gemma_2b': tiny.LANGUAGE, 'gemma_300m': tiny.EXPERT}
    modeling_pi0.get_gemma_config = lambda variant: modeling_pi0.GemmaConfig(**sizes[variant])
    mapping = modeling_pi0.CONFIG_MAPPING

    def small_vision():
        config = mapping['paligemma']()
        config.vision_config.num_hidden_layers = 1
        return config

    modeling_pi0.CONFIG_MAPPING = {'paligemma': small_vision, 'gemma': mapping['gemma']}


def build(config: PI0Config) -> modeling_pi0.PI0Policy:
    """Build lerobot's policy with the tiny weights."""
    policy = modeling_pi0.PI0Policy(config)
    both = policy.model.paligemma_with_expert
    inner = both.paligemma
    tiny.shrink_vision(inner.model)
    stored = tiny.tensors()
    head = stored[f'{tiny.PREFIX}paligemma.lm_head.weight']
    kind = inner.lm_head.weight.dtype
    inner.lm_head.weight = torch.nn.Parameter(head.to(kind, copy=True))
    inner.model.language_model.embed_tokens.weight = torch.nn.Parameter(head.to(kind, copy=True))
    both.gemma_expert.lm_head.weight = torch.nn.Parameter(
        torch.zeros(tiny.VOCABULARY, tiny.EXPERT['width'], dtype=kind)
    )
    stored[f'{tiny.PREFIX}paligemma.model.language_model.embed_tokens.weight'] = head.clone()
    own = policy.model.state_dict()
    tower = f'{tiny.PREFIX}paligemma.model.vision_tower.'
    if not any(name.startswith(f'{tower}vision_model.') for name in own):
        stored = {name.replace(f'{tower}vision_model.', tower): v for name, v in stored.items()}
    missing, unexpected = policy.model.load_state_dict(stored, strict=False)
    unused = [name for name in missing if 'gemma_expert.lm_head' not in name]
    if unused or unexpected:
        raise SystemExit(f'tiny_pi0.py and lerobot disagree: {unused} {unexpected}')
    return policy.eval()


def make_config(case: cases.Case) -> PI0Config:
    """Make the configuration that lerobot's training would have."""
    mode = NormalizationMode(case.mode)
    visual = PolicyFeature(FeatureType.VISUAL, (3, 480, 640))
    return PI0Config(
        input_features={
            **dict.fromkeys(case.features, visual),
            'observation.state': PolicyFeature(FeatureType.STATE, (cases.COLUMNS,)),
        },
        output_features={'action': PolicyFeature(FeatureType.ACTION, (cases.COLUMNS,))},
        normalization_mapping={
            'VISUAL': NormalizationMode.IDENTITY,
            'STATE': mode,
            'ACTION': mode,
        },
        chunk_size=cases.HORIZON,
        n_action_steps=cases.HORIZON,
        device='cpu',
        push_to_hub=False,
        action_feature_names=list(cases.NAMES),
        use_relative_actions=case.relative,
        empty_cameras=case.empty_cameras,
        tokenizer_max_length=case.text_length,
        dtype='bfloat16' if case.bfloat16 else 'float32',
    )


def record(case: cases.Case, out: Path) -> dict[str, torch.Tensor]:
    """Save the folder of a case as lerobot does; returns the actions of each input."""
    config = make_config(case)
    policy = build(config)
    statistics = {
        feature: {name: torch.from_numpy(values) for name, values in found.items()}
        for feature, found in cases.statistics(case).items()
    }
    before, after = make_pi0_pre_post_processors(config, dataset_stats=statistics)
    before.steps[0].rename_map = dict(case.renamed)
    with tempfile.TemporaryDirectory() as folder:
        policy.save_pretrained(folder)
        before.save_pretrained(folder)
        after.save_pretrained(folder)
        with safe_open(Path(folder) / 'model.safetensors', 'pt') as file:
            slices = {name: file.get_slice(name) for name in sorted(file.keys())}
            shapes = {name: found.get_shape() for name, found in slices.items()}
            halves = [name for name, found in slices.items() if found.get_dtype() == 'BF16']
        (out / 'weights.json').write_text(json.dumps(shapes, indent=0) + '\n')
        if case.bfloat16:
            (out / 'bfloat16.json').write_text(json.dumps(halves, indent=0) + '\n')
        shutil.rmtree(out / case.name, ignore_errors=True)
        (out / case.name).mkdir(parents=True)
        for path in Path(folder).glob('*'):
            if path.name not in ('model.safetensors', 'README.md'):
                shutil.copy(path, out / case.name)
    policy.model.float()  # its arithmetic; what was rounded to bfloat16 stays so
    found = {}
    for index, given in enumerate(cases.inputs(case)):
        noise = torch.from_numpy(given.noise)
        policy.model.sample_noise = lambda *a, noise=noise, **k: noise
        batch = {
            name: torch.from_numpy(picture).permute(2, 0, 1).float() / 255
            for name, picture in given.images.items()
        }
        batch |= {'observation.state': torch.from_numpy(given.state), 'task': given.text}
        with torch.inference_mode():
            actions = after(policy.predict_action_chunk(before(batch)))
        found[f'{case.name}.{index}'] = actions[0].float().contiguous()
    return found


def main():
    """Write the folders and actions.safetensors."""
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    make_small()
    with tempfile.TemporaryDirectory() as tokenizer:
        tiny.write_tokenizer(Path(tokenizer))
        file = str(Path(tokenizer) / 'tokenizer.json')

        class Tokenizer:
            @staticmethod
            def from_pretrained(*args, **kwargs):
                fast = PreTrainedTokenizerFast(
                    tokenizer_file=file, bos_token='<bos>', pad_token='<pad>'
                )
                fast.backend_tokenizer.post_processor = TemplateProcessing(
                    single='<bos> $A', special_tokens=[('<bos>', fast.bos_token_id)]
                )
                return fast

        tokenizer_processor.AutoTokenizer = Tokenizer
        actions = {}
        for case in cases.CASES:
            actions |= record(case, out)
            print(case.name, float(np.abs(actions[f'{case.name}.0']).max()))
    save_file(actions, out / 'actions.safetensors')


if __name__ == '__main__':
    main()
