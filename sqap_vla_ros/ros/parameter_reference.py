"""doc/parameters.md, made from the tables that the nodes declare their parameters with."""

from sqap_vla_ros.ros.common.setting import Setting
from sqap_vla_ros.ros.policy_node.parameters import SETTINGS
from sqap_vla_ros.ros.sim_arm.node import settings_for
from sqap_vla_ros.ros.stand_ins import bag_player_node, fake_robot_node
from sqap_vla_ros.simulation.tasks import TASKS

HEAD = """# Parameters

Made by `python -m sqap_vla_ros.ros.parameter_reference`; `ros2 param describe NODE NAME` says the
same. Fixed parameters are read when the node is started; the others may be set at any time, limits
only while the arm stands still. A set with one bad value is rejected whole.
"""


def reference() -> str:
    """Markdown: a table a node."""
    parts = [HEAD]
    for node, settings in (
        ('policy_node', SETTINGS),
        ('sim_arm_node', settings_for(TASKS)),
        ('bag_player_node', bag_player_node.SETTINGS),
        ('fake_robot_node', fake_robot_node.SETTINGS),
    ):
        parts.append(
            f'\n## {node}\n\n| parameter | default | range | fixed | what |\n'
            '| --- | --- | --- | --- | --- |\n'
        )
        parts += [_row(setting) for setting in settings]
    return ''.join(parts)


def _row(setting: Setting) -> str:
    bounds = '' if setting.low is None else f'{setting.low:g} .. {setting.high:g}'
    default = (
        "''"
        if setting.default == ''
        else str(setting.default).lower()
        if isinstance(setting.default, bool)
        else str(setting.default)
    )
    return (
        f'| `{setting.name}` | `{default}` | {bounds} | {"yes" if setting.read_only else ""} '
        f'| {setting.text} |\n'
    )


if __name__ == '__main__':
    print(reference(), end='')
