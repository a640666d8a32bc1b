"""Nodes that stand in for a robot, break its topics or play a recording."""
