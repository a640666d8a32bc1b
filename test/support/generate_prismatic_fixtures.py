"""
Golden outputs of the official OpenVLA and CogACT classes on tiny random weights.

Not run in CI. Needs a separate environment (Python 3.11) and the two projects' sources:

    pip install torch transformers==4.40.1 tokenizers==0.19.1 timm==0.9.16 'numpy<2' pillow \
        safetensors sentencepiece accelerate draccus rich jsonlines einops
    pip install --no-deps torchvision==0.15.2  # its transforms of PIL images are pure Python
    cd test
    python -O -m support.generate_prismatic_fixtures OPENVLA_SOURCE COGACT_SOURCE fixtures

where OPENVLA_SOURCE is a checkout of openvla/openvla and COGACT_SOURCE one of microsoft/CogACT;
-O disables CogACT's assertion that the decoder is 4096 wide. The weights are those of
tiny_released.py; only inputs and outputs are stored.
"""

from pathlib import Path
import sys
import tempfile
from unittest.mock import MagicMock

from PIL import Image
from safetensors.torch import load_file, save_file
import timm
import torch
from transformers import LlamaConfig, LlamaForCausalLM, LlamaTokenizerFast

from support import tiny_released as tiny

GUIDANCE, DDIM_STEPS = 1.5, 10


def small_towers():
    """Make timm build the named towers with the tiny widths."""
    create = timm.create_model

    def create_small(name, **arguments):
        return create(name, **{**arguments, 'pretrained': False}, **tiny.VISION)

    timm.create_model = create_small


def check_names(missing, unexpected):
    """Exit unless only the unused pooling head differs, of which the tiny file has two tensors."""
    wrong = [name for name in [*missing, *unexpected] if 'attn_pool' not in name]
    if wrong:
        raise SystemExit(f'tiny_released.py and the official class disagree: {wrong}')


def grey_levels(pixels: torch.Tensor) -> torch.Tensor:
    """Turn SigLIP's normalised input [3, S, S] back to uint8."""
    return (pixels * 0.5 + 0.5).mul(255).round().to(torch.uint8)


def openvla(source: Path, folder: Path) -> dict[str, torch.Tensor]:
    """Run OpenVLAForActionPrediction and its processor."""
    sys.path.insert(0, str(source / 'prismatic' / 'extern'))
    from hf.configuration_prismatic import OpenVLAConfig
    from hf.modeling_prismatic import OpenVLAForActionPrediction
    from hf.processing_prismatic import PrismaticImageProcessor

    tiny.write_openvla(folder)
    fields = tiny.openvla_config()
    for computed in (
        'timm_model_ids',
        'timm_override_act_layers',
        'image_sizes',
        'architectures',
        'model_type',
    ):
        fields.pop(computed)
    model = OpenVLAForActionPrediction(OpenVLAConfig(**fields)).eval()
    stored = {}
    for file in sorted(folder.glob('*.safetensors')):
        stored |= load_file(file)
    missing, unexpected = model.load_state_dict(stored, strict=False)
    check_names(missing, unexpected)
    processor = PrismaticImageProcessor(
        use_fused_vision_backbone=True,
        image_resize_strategy='resize-naive',
        input_sizes=[(3, 224, 224)] * 2,
        interpolations=['bicubic'] * 2,
        means=[(0.484375, 0.455078125, 0.40625), (0.5,) * 3],
        stds=[(0.228515625, 0.2236328125, 0.224609375), (0.5,) * 3],
    )
    tokenizer = LlamaTokenizerFast.from_pretrained(folder)
    prompt = f'In: What action should the robot take to {tiny.INSTRUCTION.lower()}?\nOut:'
    ids = tokenizer(prompt, return_tensors='pt').input_ids
    pixels = torch.from_numpy(processor(Image.fromarray(tiny.image()))['pixel_values'])
    with torch.inference_mode():
        features = model.vision_backbone(pixels)
        full = torch.cat([ids, torch.tensor([[29871]])], 1)
        out = model(
            input_ids=full,
            pixel_values=pixels,
            output_hidden_states=True,
            output_projector_features=True,
            use_cache=True,
        )
        generated = model.generate(full, pixel_values=pixels, max_new_tokens=7, do_sample=False)
        action = model.predict_action(ids, 'tiny_dataset', pixel_values=pixels, do_sample=False)
    return {
        'pixels': grey_levels(pixels[0, 3:]),
        'ids': full[0],
        'features': features[0, ::32].clone(),
        'projected': out.projector_features[0, ::32].clone(),
        'last_hidden': out.hidden_states[-1][0, -1].clone(),
        'logits': out.logits[0, -1].clone(),
        'tokens': generated[0, -7:].clone(),
        'action': torch.from_numpy(action).float(),
    }


def cogact(openvla_source: Path, cogact_source: Path, folder: Path) -> dict[str, torch.Tensor]:
    """Run CogACT.predict_action on the official backbones, built with the tiny sizes."""
    sys.path[:0] = [str(openvla_source), str(cogact_source)]
    # The data pipeline of training, which needs TensorFlow, is imported but not used.
    sys.modules['prismatic.vla.materialize'] = MagicMock()
    from action_model import action_model, models
    from prismatic.models.backbones.llm import base_llm, LLaMa2LLMBackbone
    from prismatic.models.backbones.vision import DinoSigLIPViTBackbone
    from vla.cogactvla import CogACT

    width = tiny.LLAMA['hidden_size']
    action_model.DiT_models['tiny'] = lambda **a: models.DiT(
        depth=2, hidden_size=384, num_heads=4, **a
    )
    models.LabelEmbedder.__init__.__defaults__ = (0.1, (1, 1, width))
    # The hub's configuration of meta-llama/Llama-2-7b-hf, whose norms have eps 1e-5.
    fields = {k: v for k, v in tiny.LLAMA.items() if k != 'model_type'}
    # Its heads are 128 wide, so a decoder of 64 channels has one.
    fields |= {'num_attention_heads': 1, 'num_key_value_heads': 1}
    base_llm.AutoConfig.from_pretrained = lambda *_, **__: LlamaConfig(**fields, rms_norm_eps=1e-5)
    tiny.write_cogact(folder)
    tiny.write_llama_tokenizer(folder)
    base_llm.AutoTokenizer.from_pretrained = lambda *_, **__: LlamaTokenizerFast.from_pretrained(
        folder
    )
    LlamaForCausalLM.resize_token_embeddings = lambda *_, **__: None
    vision = DinoSigLIPViTBackbone('dinosiglip-vit-so-224px', 'resize-naive')
    for name, module in (('dino', vision.dino_featurizer), ('siglip', vision.siglip_featurizer)):
        stored = tiny.cogact_groups()['vision_backbone']
        check_names(
            *module.load_state_dict(
                {
                    key.removeprefix(f'{name}_featurizer.'): value
                    for key, value in stored.items()
                    if key.startswith(name)
                },
                strict=False,
            )
        )
    vision.siglip_featurizer.attn_pool = torch.nn.ParameterDict(
        {'latent': torch.zeros(1, 1, 64), 'q': torch.nn.Linear(64, 64, bias=False)}
    )
    language = LLaMa2LLMBackbone('llama2-7b-pure', inference_mode=True)
    model = CogACT.from_pretrained(
        folder / 'checkpoints' / 'tiny.pt',
        'tiny',
        vision,
        language,
        action_model_type='tiny',
        arch_specifier='no-align+fused-gelu-mlp',
        norm_stats=tiny.STATISTICS,
    ).eval()
    picture = Image.fromarray(tiny.image())
    seen = {}
    norm, backbone = model.vlm.llm_backbone.llm.model.norm, model.vlm.vision_backbone
    norm.register_forward_hook(lambda _, __, out: seen.update(cognition=out[0, -1].clone()))
    backbone.register_forward_hook(lambda _, __, out: seen.update(features=out[0, ::32].clone()))
    model.vlm.llm_backbone.llm.model.register_forward_pre_hook(
        lambda _, __, given: seen.update(length=torch.tensor(given['inputs_embeds'].shape[1])),
        with_kwargs=True,
    )
    create, diffusion = model.action_model.create_ddim, {}

    def create_watched(**arguments):
        diffusion['sampler'] = create(**arguments)
        loop = diffusion['sampler'].ddim_sample_loop
        diffusion['sampler'].ddim_sample_loop = lambda *a, **k: seen.setdefault(
            'sample', loop(*a, **k)
        )
        model.action_model.ddim_diffusion = diffusion['sampler']
        return diffusion['sampler']

    model.action_model.create_ddim = create_watched
    torch.manual_seed(0)
    actions, normalised = model.predict_action(
        picture,
        tiny.INSTRUCTION,
        'tiny_dataset',
        cfg_scale=GUIDANCE,
        use_ddim=True,
        num_ddim_steps=DDIM_STEPS,
        do_sample=False,
    )
    torch.manual_seed(0)
    noise = torch.randn(1, tiny.HORIZON, tiny.ACTIONS)
    pixels = vision.image_transform(picture)
    with torch.inference_mode():
        estimate = model.action_model.net(noise, torch.tensor([40]), seen['cognition'][None, None])
    seen['sample'] = seen['sample'][:1].clone()
    return {
        **seen,
        'pixels': grey_levels(pixels['siglip']),
        'noise': noise,
        'estimate': estimate,
        'dino_corner': pixels['dino'][:, :2, :2].clone(),
        'normalised': torch.from_numpy(normalised).float(),
        'actions': torch.from_numpy(actions).float(),
    }


def main():
    """Write openvla.safetensors and cogact.safetensors."""
    openvla_source, cogact_source, out = map(Path, sys.argv[1:])
    torch.manual_seed(0)
    small_towers()
    with tempfile.TemporaryDirectory() as folder:
        save_file(openvla(openvla_source, Path(folder)), out / 'openvla.safetensors')
    with tempfile.TemporaryDirectory() as folder:
        save_file(cogact(openvla_source, cogact_source, Path(folder)), out / 'cogact.safetensors')


if __name__ == '__main__':
    main()
