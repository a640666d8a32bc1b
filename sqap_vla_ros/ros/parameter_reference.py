"""Makes doc/parameters.md from the tables that the nodes declare their parameters with."""

from collections.abc import Iterable

from sqap_vla_ros.ros.common.setting import Setting
from sqap_vla_ros.ros.policy_node.parameters import SETTINGS
from sqap_vla_ros.ros.sim_arm.node import settings_for
from sqap_vla_ros.ros.stand_ins import bag_player_node, fake_robot_node
from sqap_vla_ros.simulation.tasks import TASKS

HEAD = """# Parameters

Made by `python -m sqap_vla_ros.ros.parameter_reference`; `ros2 param describe NODE NAME` says the
same. Fixed parameters are read when the node starts. The others may be set at any time, limits
only while the arm stands still. If one value of a set is wrong, all of them are rejected. A
running node can be made more careful, not less: where the table says *lower* (*higher*), the value
that the node was started with is the highest (lowest) one; false is lower than true.
"""
ONLY = {'': '', 'below': 'lower', 'above': 'higher'}
"""What the column `fixed` says, by `Setting.keeps`."""


def reference() -> str:
    """Write the page: a Markdown table for each node."""
    tables: tuple[tuple[str, Iterable[Setting]], ...] = (
        ('policy_node', SETTINGS),
        ('sim_arm_node', settings_for(TASKS)),
        ('bag_player_node', bag_player_node.SETTINGS),
        ('fake_robot_node', fake_robot_node.SETTINGS),
    )
    parts = [HEAD]
    for node, settings in tables:
        parts.append(
            f'\n## {node}\n\n| parameter | default | range | fixed | description |\n'
            '| --- | --- | --- | --- | --- |\n'
        )
        parts += [_row(setting) for setting in settings]
    return ''.join(parts)


def _row(setting: Setting) -> str:
    default = setting.default
    if default == '':
        default = "''"
    elif isinstance(default, bool):
        default = str(default).lower()
    elif isinstance(default, tuple):
        default = list(default)
    return (
        f'| `{setting.name}` | `{default}` | {_range(setting)} '
        f'| {"yes" if setting.read_only else ONLY[setting.keeps]} | {setting.text} |\n'
    )


def _range(setting: Setting) -> str:
    if setting.choices:
        return ', '.join(f'`{choice}`' for choice in setting.choices)
    return '' if setting.low is None else f'{setting.low:g} .. {setting.high:g}'


if __name__ == '__main__':
    print(reference(), end='')
