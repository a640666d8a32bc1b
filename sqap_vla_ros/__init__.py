"""Compressed vision-language-action models on a robot, over ROS 2."""

import pkgutil

# A source checkout that comes first on sys.path still finds the generated `msg` and `action`
# modules, which are installed elsewhere.
__path__ = pkgutil.extend_path(__path__, __name__)
