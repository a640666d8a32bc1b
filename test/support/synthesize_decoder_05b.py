"""
Write a policy of random float32 weights whose decoder has half a billion parameters (2 GB).

    cd test && python -m support.synthesize_decoder_05b FOLDER

For measuring `python -m support.peak_memory sqap_vla compress FOLDER OUT`. Everything but the
decoder has the shape of the shipped policy. Not run in CI.
"""

from dataclasses import replace
from pathlib import Path
import shutil
import sys

from safetensors.torch import save_file
import torch

from sqap_vla_ros.benchmark.presets import DECODER
from sqap_vla_ros.models.config import load_config, save_config
from sqap_vla_ros.models.families.cogact.model import CogActModel

SHIPPED = Path(__file__).parents[2] / 'policies' / 'small'


def main() -> int:
    """Write the folder."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True)
    shipped = load_config(SHIPPED)
    llama = {**DECODER.config.llama, 'vocab_size': shipped.llama['vocab_size']}
    config = replace(shipped, llama=llama)
    torch.manual_seed(0)
    model = CogActModel(config)
    save_config(config, folder)
    save_file(
        {k: v.contiguous() for k, v in model.state_dict().items()}, folder / 'model.safetensors'
    )
    for name in ('dataset_statistics.json', 'vocabulary.json'):
        shutil.copy(SHIPPED / name, folder / name)
    decoder = sum(p.numel() for p in model.decoder.parameters())
    print(f'{folder}: {decoder / 1e9:.2f} billion parameters in the decoder')
    return 0


if __name__ == '__main__':
    sys.exit(main())
