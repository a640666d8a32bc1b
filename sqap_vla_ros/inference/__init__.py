"""Runs a policy beside the process that commands the robot, never inside its callbacks. No ROS."""
