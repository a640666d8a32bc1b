"""The model families by their configuration."""

from pathlib import Path

from torch import nn

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.models.config import CogActConfig, OpenVlaConfig, Pi0Config
from sqap_vla_ros.models.families.cogact.model import CogActModel
from sqap_vla_ros.models.families.cogact.policy import CogActPolicy
from sqap_vla_ros.models.families.openvla.model import OpenVlaModel
from sqap_vla_ros.models.families.openvla.policy import OpenVlaPolicy
from sqap_vla_ros.models.families.pi0.model import Pi0Model
from sqap_vla_ros.models.families.pi0.policy import Pi0Policy
from sqap_vla_ros.models.families.pi0.preprocessing import load_pi0_statistics, Pi0Tokenizer
from sqap_vla_ros.models.preprocessing.prismatic_text import PrismaticTokenizer
from sqap_vla_ros.models.preprocessing.statistics import load_statistics
from sqap_vla_ros.models.preprocessing.words import WordTokenizer
from sqap_vla_ros.policy import Policy

_MODELS = {CogActConfig: CogActModel, OpenVlaConfig: OpenVlaModel, Pi0Config: Pi0Model}


def build_model(config: CogActConfig | OpenVlaConfig | Pi0Config) -> nn.Module:
    """Build the module tree of a configuration, with random or no weights."""
    return _MODELS[type(config)](config)


def make_policy(
    model: nn.Module, directory: Path, description: dict, cuda_graphs: str = 'auto'
) -> Policy:
    """
    Put a loaded model behind the policy interface.

    Tokenizer and statistics come from its directory; cuda_graphs: see `step_runner.make_runner`.
    Raises UserError that names the file or field that is wrong.
    """
    config = model.config
    if isinstance(config, OpenVlaConfig):
        tokenizer = PrismaticTokenizer.load(directory)
        _check_vocabulary(directory, tokenizer, config.llama['vocab_size'])
        statistics = load_statistics(directory, config.dataset, 0)
        return OpenVlaPolicy(model, tokenizer, statistics, description, cuda_graphs)
    if isinstance(config, Pi0Config):
        tokenizer = Pi0Tokenizer.load(directory, config.text_length)
        _check_vocabulary(
            directory, tokenizer, config.model['vlm_config']['text_config']['vocab_size']
        )
        statistics = load_pi0_statistics(
            directory, config.dataset, len(config.state_names), len(config.action_names)
        )
        return Pi0Policy(model, tokenizer, statistics, description, cuda_graphs)
    tokenizer = (
        PrismaticTokenizer.load(directory)
        if config.text == 'prismatic'
        else WordTokenizer.load(directory, config.text_length)
    )
    _check_vocabulary(directory, tokenizer, config.llama['vocab_size'])
    statistics = load_statistics(directory, config.dataset, len(config.state_names))
    return CogActPolicy(model, tokenizer, statistics, description, cuda_graphs)


def _check_vocabulary(directory, tokenizer, size) -> None:
    if len(tokenizer) > size:
        raise UserError(
            f'{directory}: vocabulary has {len(tokenizer)} entries, the model only {size}'
        )
