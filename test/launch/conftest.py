"""Launch tests use the helpers of the ROS tests."""
from pathlib import Path
import sys

sys.path.insert(0, str(Path(__file__).parents[1] / 'ros'))
