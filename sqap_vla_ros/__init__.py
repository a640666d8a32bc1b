"""
Compressed vision-language-action models on a robot, over ROS 2.

The names of `__all__` are the public API (doc/api.md). Each is imported when it is first used, so
that importing the package costs nothing: no torch, no ROS. Modules of the package do not import
the public API; they import the module that defines a name.
"""

from importlib import import_module
import pkgutil
from typing import Any, TYPE_CHECKING

if TYPE_CHECKING:
    from sqap_vla_ros.action_chunk import ActionChunk, ActionSpec
    from sqap_vla_ros.camera import PinholeCamera
    from sqap_vla_ros.compression.recipe import PruningRecipe, QuantizationRecipe, Recipe
    from sqap_vla_ros.compression.recipe_files import find_recipe, load_recipe
    from sqap_vla_ros.errors import UserError
    from sqap_vla_ros.models.compress_policy import compress
    from sqap_vla_ros.models.family import Family
    from sqap_vla_ros.models.loading import load_policy
    from sqap_vla_ros.models.registry import register_family
    from sqap_vla_ros.overlay import draw_overlays
    from sqap_vla_ros.policy import (
        Continuation,
        Criterion,
        Inference,
        Observation,
        Policy,
        PolicySpec,
        TokenSelection,
    )
    from sqap_vla_ros.resources import find_resource
    from sqap_vla_ros.runtime_options import RuntimeOptions
    from sqap_vla_ros.token_geometry import TokenGeometry

    __version__: str

# A source checkout that comes first on sys.path still finds the generated `msg` and `action`
# modules, which are installed elsewhere.
__path__ = pkgutil.extend_path(__path__, __name__)

__all__ = [
    'ActionChunk',
    'ActionSpec',
    'Continuation',
    'Criterion',
    'Family',
    'Inference',
    'Observation',
    'PinholeCamera',
    'Policy',
    'PolicySpec',
    'PruningRecipe',
    'QuantizationRecipe',
    'Recipe',
    'RuntimeOptions',
    'TokenGeometry',
    'TokenSelection',
    'UserError',
    '__version__',
    'compress',
    'draw_overlays',
    'find_recipe',
    'find_resource',
    'load_policy',
    'load_recipe',
    'register_family',
]

_MODULES = {
    'action_chunk': ('ActionChunk', 'ActionSpec'),
    'camera': ('PinholeCamera',),
    'compression.recipe': ('PruningRecipe', 'QuantizationRecipe', 'Recipe'),
    'compression.recipe_files': ('find_recipe', 'load_recipe'),
    'errors': ('UserError',),
    'models.compress_policy': ('compress',),
    'models.family': ('Family',),
    'models.loading': ('load_policy',),
    'models.registry': ('register_family',),
    'overlay': ('draw_overlays',),
    'policy': (
        'Continuation',
        'Criterion',
        'Inference',
        'Observation',
        'Policy',
        'PolicySpec',
        'TokenSelection',
    ),
    'resources': ('find_resource',),
    'runtime_options': ('RuntimeOptions',),
    'token_geometry': ('TokenGeometry',),
}
"""Module of the package to the public names that it defines."""
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562)."""
    if name == '__version__':
        value: Any = _version()
    elif name in _MODULE_OF:
        value = getattr(import_module(f'{__name__}.{_MODULE_OF[name]}'), name)
    else:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, also those that have not been used yet."""
    return sorted({*globals(), *__all__})


def _version() -> str:
    """
    Version in package.xml.

    In a source checkout it is read from the file, because the metadata of the environment may
    belong to another version that is installed there; elsewhere from the metadata, which the
    build makes from package.xml.
    """
    from importlib.metadata import version
    from pathlib import Path
    import xml.etree.ElementTree as ElementTree

    manifest = Path(__file__).parents[1] / 'package.xml'
    if manifest.exists():
        return ElementTree.parse(manifest).findtext('version', '')
    return version(__name__)
