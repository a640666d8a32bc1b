"""What was observed, decided and commanded, as bags that can be read without ROS."""
