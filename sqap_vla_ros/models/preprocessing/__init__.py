"""Conversion of images, text and numbers between the robot and a model."""
