"""The simulated arm as a robot over ROS topics."""
